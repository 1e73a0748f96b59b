"""``nslab grade`` and ``nslab record``: checks over a student's work, and what they judge.

Nothing is ever written to standard error: graders take points off for it. What is wrong is said on standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .switches import seconds

Verb = Callable[[argparse.Namespace, list[str]], int]
Add = Callable[[str, object, str, str], argparse.ArgumentParser]

FORMATS = ("text", "json", "junit", "prairielearn", "gradescope")
# Nothing could be graded.
REFUSED = 2


def add_verbs(add: Add) -> None:
    """Add the two verbs, given what adds one."""
    usage = "[options] CHECKS --submission PATH"
    grade = _quiet(add("grade", _silent(_grade), "judge a student's work by checks", usage))
    grade.epilog = (
        "exit status: 0 every check has passed, 1 not every one, 2 nothing could be graded; nothing is written to "
        "standard error"
    )
    grade.add_argument("checks", metavar="CHECKS", type=Path, help="a file or directory of pytest checks")
    grade.add_argument(
        "--submission", metavar="PATH", type=Path, required=True, help="a script, a notebook, a directory, or evidence"
    )
    grade.add_argument("--format", choices=FORMATS, default="text", help="what to write (default: text)")
    grade.add_argument("--output", metavar="FILE", type=Path, help="where to write it (default: standard output)")
    grade.add_argument(
        "--record", metavar="FILE", type=_evidence, help="also keep the evidence, to be judged elsewhere"
    )
    _timeout(grade)
    usage = "[options] SUBMISSION --output FILE [-- argument ...]"
    record = _quiet(add("record", _silent(_record), "run a student's work and keep the evidence", usage))
    record.epilog = (
        "what follows -- is for the submission; exit status: 0 recorded, whatever the program did, 2 not recorded"
    )
    record.add_argument("submission", metavar="SUBMISSION", type=Path, help="a script, a notebook, or a directory")
    record.add_argument("--output", metavar="FILE", type=_evidence, required=True, help="the evidence, a .json file")
    _timeout(record)


def _timeout(parser: argparse.ArgumentParser) -> None:
    text = "for each run of the submission (default: 30)"
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=30.0, help=text)


def _evidence(name: str) -> Path:
    if not name.endswith(".json"):
        raise argparse.ArgumentTypeError(f"the name of the evidence must end in .json, not {name!r}")
    return Path(name)


def _quiet(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let a usage error be said on standard output."""

    def error(message: str) -> NoReturn:
        try:
            print(f"{parser.prog}: {message}", flush=True)
        except OSError:
            # That cannot be said anywhere; and what waits in the buffer would be tried once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(REFUSED)

    parser.error = error  # type: ignore[method-assign]
    parser.set_defaults(error=error)
    return parser


def _silent(verb: Verb) -> Verb:
    """Return the verb with all that would go to standard error on standard output, whatever happens."""

    def run(given: argparse.Namespace, program: list[str]) -> int:
        # The usual end of a grader that takes too long: then nothing of it is to stay either.
        signal.signal(signal.SIGTERM, _terminated)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        with contextlib.redirect_stderr(sys.stdout):
            try:
                return verb(given, program)
            except BrokenPipeError:
                raise
            except OSError as error:
                given.error(str(error))
                raise

    return run


def _terminated(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _grade(given: argparse.Namespace, _program: list[str]) -> int:
    from nslab import grading

    _may_write(given, given.output, given.record)
    try:
        grade = grading.grade(given.checks, given.submission, timeout=given.timeout)
    except grading.GradeError as error:
        if given.format != "prairielearn":
            given.error(str(error))
        _write(given, given.output, grading.ungradable(str(error)))
        return REFUSED
    if given.record:
        _write(given, given.record, grade.evidence.to_json())
    _write(given, given.output, grading.FORMATS[given.format](grade))
    return 0 if grade.passed else 1


def _record(given: argparse.Namespace, arguments: list[str]) -> int:
    from nslab import grading

    _may_write(given, given.output)
    try:
        evidence = grading.record(given.submission, arguments, timeout=given.timeout)
    except grading.GradeError as error:
        given.error(str(error))
        raise
    _write(given, given.output, evidence.to_json())
    (run,) = evidence.runs
    how = f"ended with {run.returncode}" if run.timed_out is None else f"was killed after {run.timed_out:g} s"
    made = f"{len(run.processes)} process{'' if len(run.processes) == 1 else 'es'}"
    print(f"{given.output}: {run.file} {how}, and made {made} with nslab")
    return 0


def _may_write(given: argparse.Namespace, *paths: Path | None) -> None:
    """Find out before anything is run."""
    for path in paths:
        if path is not None and path.is_dir():
            given.error(f"{path} cannot be written: it is a directory")
        if path is not None and not path.absolute().parent.is_dir():
            given.error(f"{path} cannot be written: there is no directory {path.parent}")


def _write(given: argparse.Namespace, path: Path | None, text: str) -> None:
    if path is None:
        print(end=text, flush=True)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        given.error(f"{path} cannot be written: {error.strerror}")
