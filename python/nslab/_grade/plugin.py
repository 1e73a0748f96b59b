"""The plugin of the pytest that judges: the fixtures, the mark, and a line of JSON for all that happens.

`judge` starts this pytest and reads the lines.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nslab

from ..check import CheckError
from .evidence import EvidenceError
from .submission import Submission

POINTS = "points(number): what the check is worth; 1 without it. The closest one counts: function, class, module."
# Of the message of one check, and of its output, in characters.
_LONGEST = 8_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nslab-judge", help="for nslab grade itself: where to report to, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", POINTS)
    settings = json.loads(config.getoption("nslab_judge"))
    config.pluginmanager.register(Judge(**settings), "nslab-judge")


class Judge:
    """Reports what pytest does, and gives the checks what they ask for."""

    def __init__(self, fd: int, submission: str, timeout: float, runs: str, done: list[str]) -> None:
        self._fd = fd
        self._done = set(done)
        self._credit: float = 0
        self.submission = Submission(Path(submission), timeout, Path(runs), self._watch)

    def _tell(self, what: str, **content: Any) -> None:
        line = json.dumps({"what": what, **content}).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]

    @contextlib.contextmanager
    def _watch(self, seconds: float) -> Iterator[None]:
        """Allow a check the time that the submission may take."""
        self._tell("run", seconds=seconds)
        yield
        self._tell("ran")

    # ----------------------------------------------------------------------------------------------------- which ones

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            last = str(report.longrepr).strip().splitlines()
            errors = [line[1:].strip() for line in last if line.startswith("E ")]
            self._tell("broken", where=report.nodeid, why=" ".join(errors or last[-1:])[:_LONGEST])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        checks = []
        for item in items:
            try:
                checks.append({"id": item.nodeid, "name": _name(item), "description": _doc(item), "max": _points(item)})
            except ValueError as error:
                self._tell("broken", where=item.nodeid, why=str(error))
                items[:] = []
                return
        self._tell("checks", checks=checks)
        items[:] = [item for item in items if item.nodeid not in self._done]

    # ---------------------------------------------------------------------------------------------------- what became

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._credit = 0
        self._tell("begin", id=nodeid)

    def credit(self, item: pytest.Item, points: float) -> None:
        """Give a part of the points, whatever comes."""
        _check_number("credit", points)
        whole = _points(item)
        if self._credit + points > whole + 1e-9:
            raise ValueError(f"credit of {self._credit + points:g} points for a check that is worth {whole:g}")
        self._credit += points

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        # It may have to cross from a child to us.
        report.nslab_credit = self._credit
        report.nslab_verdict = _verdict(report, None if call.excinfo is None else call.excinfo.value)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # That of a subtest was made out of another one.
        status, message = getattr(report, "nslab_verdict", None) or _verdict(report, None)
        output = "\n".join(text for name, text in report.sections if name.startswith("Captured std") and text)
        self._tell(
            "report",
            id=report.nodeid,
            status=status,
            message=message and (_which(report) + message)[:_LONGEST],
            output=output[:_LONGEST],
            credit=getattr(report, "nslab_credit", 0),
            seconds=report.duration,
        )

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._tell("end", id=nodeid)


@pytest.fixture(scope="session")
def submission(pytestconfig: pytest.Config) -> Submission:
    """Return what is to be graded: ``submission.run()`` is what it did."""
    judge = pytestconfig.pluginmanager.getplugin("nslab-judge")
    assert isinstance(judge, Judge)
    return judge.submission


@pytest.fixture
def credit(request: pytest.FixtureRequest) -> Callable[[float], None]:
    """Give a part of the points: ``credit(1)`` stays, also when the rest of the check fails."""
    judge = request.config.pluginmanager.getplugin("nslab-judge")
    assert isinstance(judge, Judge)
    return lambda points: judge.credit(request.node, points)


def _points(item: pytest.Item) -> float:
    mark = item.get_closest_marker("points")
    if mark is None:
        return 1
    if len(mark.args) != 1 or mark.kwargs:
        raise ValueError("@pytest.mark.points takes one number")
    return _check_number("@pytest.mark.points", mark.args[0])


def _check_number(who: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise ValueError(f"{who} takes a number, not {number!r}")
    if number < 0:
        raise ValueError(f"{who} takes a number from 0 on, not {number!r}")
    return number


def _name(item: pytest.Item) -> str:
    """Return ``test_own_hostname[en]`` of a class ``TestUts`` as ``uts: own hostname [en]``."""
    name = item.name.removeprefix("test_")
    title, bracket, rest = name.partition("[")
    parents = [node.name.removeprefix("Test") for node in item.listchain() if isinstance(node, pytest.Class)]
    return ": ".join([*parents, title.replace("_", " ")]) + (f" [{rest}" if bracket else "")


def _doc(item: pytest.Item) -> str:
    lines = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def _verdict(report: pytest.TestReport, error: BaseException | None) -> tuple[str, str]:
    """Return what became of it, and why in words: an error is a check that could not be judged."""
    if report.passed:
        return "passed", ""
    if report.skipped:
        if hasattr(report, "wasxfail"):
            return "skipped", f"expected to fail {report.wasxfail}".strip()
        return "skipped", _short(report).removeprefix("Skipped: ")
    if isinstance(error, CheckError):
        return "failed", str(error)
    if isinstance(error, EvidenceError):
        return "error", str(error)
    if isinstance(error, nslab.SpawnError):
        hint = f" Hint: {error.hint}." if error.hint else ""
        return "error", f"the check makes a process of its own, and that is refused here: {error}.{hint}"
    is_wrong = report.when == "call" or isinstance(error, AssertionError)
    return "failed" if is_wrong else "error", _short(report)


def _short(report: pytest.TestReport) -> str:
    """Return what pytest says of a failure, without the source lines."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    lines = str(report.longrepr or "").splitlines()
    errors = textwrap.dedent("\n".join(line[1:] for line in lines if line.startswith("E ")))
    return errors.strip() or "\n".join(lines[-1:])


def _which(report: pytest.TestReport) -> str:
    """Return which subtest it is about."""
    context = getattr(report, "context", None)
    if context is None:
        return ""
    words = [context.msg, *(f"{name}={value!r}" for name, value in context.kwargs.items())]
    return f"[{' '.join(filter(None, words))}] "
