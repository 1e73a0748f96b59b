"""The fixture ``submission``: what a check asks, and where the answer comes from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import nslab

from ..check import CheckError
from .evidence import FORMAT, VERSION, Evidence, EvidenceError, Run, load

# How much of its last output an error shows, in characters.
_TAIL = 500
#: Told how many seconds it may take, around each run.
Watch = Callable[[float], AbstractContextManager[object]]


class Submission:
    """A student's script, notebook or directory; or the evidence that was recorded of one.

    The same run, asked for by several checks, is made once.
    """

    def __init__(self, path: Path, timeout: float, runs: Path, watch: Watch = lambda _: nullcontext()) -> None:
        self._path = path
        self._timeout = timeout
        self._kept = runs
        self._watch = watch
        #: Whether it can be run here; else there is what was recorded.
        self.live = not is_evidence(path)
        # Another process may have judged some checks already.
        self._evidence = new(path.name) if self.live else load(path)
        #: Its name.
        self.name = self._evidence.submission

    @property
    def runs(self) -> tuple[Run, ...]:
        """What has been run, or was recorded."""
        return self._evidence.runs

    def run(self, *args: str, file: str | None = None, input: str | None = None) -> Run:
        """Run it with these arguments and return the `Run`; of evidence, return the run that was recorded.

        ``file`` is the program in a directory, where there is more than one; ``input`` is what it reads from standard
        input. Raises `nslab.check.CheckError` if it cannot be executed or did not end in time, and `EvidenceError` if
        that run is not in the evidence, or it is not clear what to run.
        """
        __tracebackhide__ = True
        if self.live:
            file = file or self._program()
            if self._kept.exists():
                self._evidence = load(self._kept)
        for run in self.runs:
            if run.args == args and run.input == input and file in (None, run.file):
                return in_time(run)
        if not self.live:
            there = "; ".join(_call(run.file, run.args, run.input) for run in self.runs) or "none"
            asked = _call(file or "…", args, input)
            raise EvidenceError(f"the evidence has no run of `{asked}` (it has: {there}), and cannot be run here")
        return in_time(self._run(file or "", args, input))

    def _program(self) -> str:
        try:
            return the_program(self._path)
        except ValueError as error:
            raise EvidenceError(str(error)) from None

    def _run(self, file: str, args: tuple[str, ...], input: str | None) -> Run:
        from .collect import collect

        if self._path.is_dir() and not (self._path / file).is_file():
            raise CheckError(f"expected the file {file} in {self.name}, but it is not there")
        try:
            with self._watch(self._timeout):
                run = collect(self._path, file, args, input=input, timeout=self._timeout)
        except ImportError as error:
            raise EvidenceError(str(error)) from None
        except nslab.SpawnError as error:
            raise CheckError(f"expected {file} to run, but it cannot be executed: {error}") from None
        self._evidence = added(self._evidence, run)
        self._kept.write_text(self._evidence.to_json())
        return run


def is_evidence(path: Path) -> bool:
    """Return whether it is to be judged as it is."""
    return path.suffix == ".json" and path.is_file()


def new(name: str) -> Evidence:
    """Return evidence in which there is nothing yet."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Evidence(FORMAT, VERSION, f"nslab {nslab.__version__}", os.uname().release, now, name, ())


def added(evidence: Evidence, run: Run) -> Evidence:
    """Return the evidence with one more run."""
    from dataclasses import replace

    return replace(evidence, runs=(*evidence.runs, run))


def look_at(path: Path) -> None:
    """Raise `ValueError` with a sentence for a submission that nobody can judge."""
    if not path.exists():
        raise ValueError(f"there is no submission at {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"the submission at {path} may not be read")
    if is_evidence(path):
        load(path)
    elif path.is_file() and not is_program(path):
        raise ValueError(f"{path} cannot be run: it is no .py, no .ipynb, no .sh, and not executable")
    elif path.is_dir() and not any(path.iterdir()):
        raise ValueError(f"the submission at {path} is empty")


def the_program(path: Path) -> str:
    """Return the name of the program of a submission; raise `ValueError` if there is not exactly one."""
    if not path.is_dir():
        return path.name
    found = sorted(file.name for file in path.iterdir() if is_program(file))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"{path} has no program: no .py, no .ipynb, no .sh, and nothing executable")
    raise ValueError(f"{path} has several programs, {', '.join(found)}: a check says which, submission.run(file=…)")


def is_program(file: Path) -> bool:
    """Return whether it can be run."""
    return file.is_file() and (file.suffix in (".py", ".ipynb", ".sh") or os.access(file, os.X_OK))


def in_time(run: Run) -> Run:
    """Return the run; raise `nslab.check.CheckError` if it had to be killed."""
    __tracebackhide__ = True
    if run.timed_out is not None:
        last = (run.stdout + run.stderr)[-_TAIL:].strip()
        text = f"expected {run.file} to end, but it did not within {run.timed_out:g} s and was killed."
        raise CheckError(text + (f" Its last output:\n{last}" if last else " It had no output."))
    return run


def _call(file: str, args: tuple[str, ...], input: str | None) -> str:
    return " ".join((file, *args)) + (f" < {input!r}" if input is not None else "")
