r"""What ``nslab grade`` does: run a student's work once, note what it did, and judge the notes by pytest checks.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as made:
...     lab, checks = pathlib.Path(made, "lab.py"), pathlib.Path(made, "checks.py")
...     _ = lab.write_text("print('hello')")
...     _ = checks.write_text("def test_it(submission): assert submission.run().stdout == 'hello\\n'")
...     grade(checks, lab).points
1
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ._grade.evidence import Evidence, EvidenceError, Run, SeenCell, SeenProcess, load
from ._grade.formats import FORMATS, ungradable
from ._grade.judge import Grade, GradeError, Verdict, judge
from ._grade.submission import Submission, added, is_evidence, look_at, new, the_program
from ._warden import guard

__all__ = [
    "Evidence",
    "EvidenceError",
    "FORMATS",
    "Grade",
    "GradeError",
    "Run",
    "SeenCell",
    "SeenProcess",
    "Submission",
    "Verdict",
    "grade",
    "load",
    "record",
    "ungradable",
]


def grade(checks: Path, submission: Path, *, timeout: float = 30) -> Grade:
    """Judge a submission: a script, a notebook, a directory, or the evidence that `record` has of one.

    ``checks`` is a file or directory of pytest checks; ``timeout`` is in seconds, for each run of the submission. The
    functions in `FORMATS` turn what is returned into text. Raises `GradeError` with one sentence when nothing can be
    judged.

    >>> grade(Path("nothing.py"), Path("nothing.py"))
    Traceback (most recent call last):
    nslab._grade.judge.GradeError: there are no checks at nothing.py
    """
    # Whoever ends this process ends the submission and all that it has started.
    guard()
    return judge(checks, submission, timeout=timeout)


def record(submission: Path, args: Sequence[str] = (), *, timeout: float = 30) -> Evidence:
    r"""Run a submission with these arguments, and return the evidence; its ``to_json()`` is the file to keep.

    After ``timeout`` seconds it is killed. Raises `GradeError` with one sentence for what cannot be run, `OSError` for
    what cannot be copied or executed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as made:
    ...     _ = Path(made, "lab.py").write_text("print('hello')")
    ...     record(Path(made)).runs[0].stdout
    'hello\n'
    """
    from ._grade.collect import collect

    guard()
    try:
        look_at(submission)
        if is_evidence(submission):
            raise ValueError(f"{submission} is evidence already")
        run = collect(submission, the_program(submission), args, timeout=timeout)
    except (ImportError, ValueError) as error:
        raise GradeError(str(error)) from None
    return added(new(submission.resolve().name), run)
