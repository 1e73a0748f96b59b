"""Judges a submission: runs the checks in a pytest of its own, and loses no more than one check whatever that does."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import select
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nslab

from .. import _core
from .._warden import end_marked, environment, owner
from .evidence import Evidence, load
from .submission import is_evidence, look_at, new

# Seconds on top of what a check may take.
_GRACE = 5.0
# How pytest ends where there is nothing to run, or nothing left.
_NO_TESTS = 5
# Of what pytest has written, in an error.
_TAIL = 2000
# What the environment says to another pytest, or to every Python.
_NOT_OURS = ("PYTEST_", "NSLAB_PYTEST", "NSLAB_RECORD", "PYTHONWARNINGS")
_count = itertools.count(1)
_RANK = ("passed", "skipped", "failed", "error")


class GradeError(Exception):
    """There is nothing to judge, or the checks are not right: one sentence."""


@dataclass
class Verdict:
    """What became of one check."""

    #: As pytest names it: ``"checks.py::test_uts"``.
    id: str
    name: str
    description: str
    max_points: float
    #: ``"passed"``, ``"failed"``, ``"skipped"``, or ``"error"``: it could not be judged.
    status: str = "error"
    points: float = 0
    #: Why it is not passed.
    message: str = ""
    #: What the check has written: the lines of those that hold.
    output: str = ""
    seconds: float = 0


@dataclass
class Grade:
    """What became of all checks."""

    submission: str
    checks: list[Verdict]
    evidence: Evidence = field(repr=False)

    @property
    def points(self) -> float:
        """What was earned."""
        return _rounded(sum(check.points for check in self.checks))

    @property
    def max_points(self) -> float:
        """What could be earned."""
        return _rounded(sum(check.max_points for check in self.checks))

    @property
    def passed(self) -> bool:
        """Whether every check has passed."""
        return all(check.status == "passed" for check in self.checks)

    @property
    def score(self) -> float:
        """From 0 to 1; where nothing can be earned, 1 if all have passed."""
        return self.points / self.max_points if self.max_points else float(self.passed)


def judge(checks: Path, submission: Path, *, timeout: float) -> Grade:
    """Run the checks on a submission, a file, a directory or evidence of one.

    ``timeout`` is in seconds, for each run of the submission and for what a check does beside. Raises `GradeError` when
    it is not the submission's fault that there is nothing to judge.
    """
    _look_at(checks, submission)
    with tempfile.TemporaryDirectory(prefix="nslab-judge-") as made:
        Path(made).chmod(0o711)
        runs = Path(made, "runs.json")
        court = _Court(checks, submission, timeout, runs)
        while court.session():
            pass
        recorded = submission if is_evidence(submission) else runs
        evidence = load(recorded) if recorded.exists() else new(submission.resolve().name)
        return Grade(evidence.submission, list(court.verdicts.values()), evidence)


def _look_at(checks: Path, submission: Path) -> None:
    if importlib.util.find_spec("pytest") is None:
        raise GradeError("checks take pytest to run: pip install 'nslab[grade]'")
    if not checks.exists():
        raise GradeError(f"there are no checks at {checks}")
    if not os.access(checks, os.R_OK):
        raise GradeError(f"the checks at {checks} may not be read")
    try:
        look_at(submission)
    except (OSError, ValueError) as error:
        raise GradeError(str(error)) from None


class _Court:
    """Sessions of pytest: a new one after each that has ended in the middle of a check."""

    def __init__(self, checks: Path, submission: Path, timeout: float, runs: Path) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self._checks = checks
        self._timeout = timeout
        self._settings: dict[str, Any] = {
            "submission": str(submission.resolve()),
            "timeout": timeout,
            "runs": str(runs),
        }
        self._done: list[str] = []
        self._current: str | None = None
        self._seen: set[str] = set()

    def session(self) -> bool:
        """Hold one; return whether another one is needed. Raises `GradeError` when the checks are not right."""
        word = f"{owner()}/judge{next(_count)}"
        ours, theirs = _core.Fd.pair(os.pipe)
        with tempfile.TemporaryFile() as said, ours as wire:
            with theirs as write:
                process = nslab.spawn(
                    0,
                    self._command(write),
                    env=self._environment(word),
                    pass_fds=[write],
                    stdin=nslab.DEVNULL,
                    stdout=said,
                    stderr=nslab.STDOUT,
                    kill_child=True,
                )
            try:
                late = self._listen(process, wire)
            finally:
                status = process.stop(_GRACE)
                end_marked(word)
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
        if self._current is not None:
            self._broke_off(status, late, text)
            return True
        if late:
            raise GradeError(f"{self._checks} did not come to an end, and no check was running")
        if status in (0, _NO_TESTS) and not self.verdicts:
            raise GradeError(
                f"there are no checks in {self._checks}: functions test_… in files test_*.py, or in the file"
            )
        if status not in (0, 1, _NO_TESTS) or self.verdicts.keys() - set(self._done):
            raise GradeError(f"pytest ended with {status} on {self._checks}: {text[-_TAIL:] or 'it said nothing'}")
        return False

    def _command(self, fd: int) -> list[str]:
        settings = json.dumps({**self._settings, "fd": fd, "done": self._done})
        # What the directory of the checks sets for its own runs is not meant for these.
        unset = ["-o", "addopts=", "-o", "filterwarnings=", "-p", "no:cacheprovider"]
        ours = ["-p", "nslab._grade.plugin", "--nslab-judge", settings, "--nslab-missing=fail"]
        look = ["--tb=short", "--color=no", "-q", "--no-header"]
        return [sys.executable, "-m", "pytest", *unset, *ours, *look, str(self._checks)]

    def _environment(self, word: str) -> dict[str, str]:
        env = environment(word).items()
        kept = {name: value for name, value in env if not name.startswith(_NOT_OURS)}
        # What it leaves when it is stopped goes with our directory.
        own = {"TMPDIR": str(Path(self._settings["runs"]).parent), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}
        return {**kept, **own}

    def _listen(self, process: nslab.Process, wire: int) -> bool:
        """Take what is told until it has ended; return whether a check had to be stopped."""
        poll = select.poll()
        poll.register(wire, select.POLLIN)
        text = b""
        deadline = time.monotonic() + self._timeout + _GRACE
        while True:
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1000 + 1):
                process.kill()
                return True
            chunk = os.read(wire, 1 << 16)
            if not chunk:
                # It is at its end, or a check has closed what it tells us by.
                with contextlib.suppress(nslab.TimeoutExpired):
                    process.wait(_GRACE)
                return False
            *lines, text = (text + chunk).split(b"\n")
            for line in lines:
                deadline = self._take(**json.loads(line))

    def _take(self, what: str, **content: Any) -> float:
        """Take one message; return when the next one must have come."""
        if what == "broken":
            raise GradeError(f"the checks are not right: {content['where'] or self._checks}: {content['why']}")
        if what == "checks":
            for check in content["checks"]:
                known = Verdict(check["id"], check["name"], check["description"], check["max"])
                self.verdicts.setdefault(known.id, known)
        elif what == "begin":
            self._current = content["id"]
        elif what == "report":
            self._report(self.verdicts[content["id"]], content)
        elif what == "end":
            self._done.append(content["id"])
            self._current = None
        of_the_submission: float = content["seconds"] if what == "run" else 0
        return time.monotonic() + self._timeout + _GRACE + of_the_submission

    def _report(self, verdict: Verdict, content: dict[str, Any]) -> None:
        """Of set-up, call and tear-down, and of subtests, the worst counts."""
        first = verdict.id not in self._seen
        self._seen.add(verdict.id)
        verdict.seconds += content["seconds"]
        verdict.output = content["output"] or verdict.output
        if first or _RANK.index(content["status"]) > _RANK.index(verdict.status):
            verdict.status = content["status"]
        if content["message"]:
            verdict.message = f"{verdict.message}\n{content['message']}".strip()
        verdict.points = verdict.max_points if verdict.status == "passed" else _rounded(content["credit"])

    def _broke_off(self, status: int, late: bool, text: str) -> None:
        assert self._current is not None
        verdict = self.verdicts[self._current]
        how = f"was ended by {_signal(-status)}" if status < 0 else f"ended the whole run with status {status}"
        why = f"did not end within {self._timeout:g} s and was stopped" if late else how
        verdict.status, verdict.message, verdict.points = "error", f"the check {why}", 0
        verdict.output = text[-_TAIL:]
        self._done.append(self._current)
        self._current = None


def _signal(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"


def _rounded(points: float) -> float:
    """Return the number without the dust of binary fractions."""
    whole = round(points, 6)
    return int(whole) if whole == int(whole) else whole
