"""What came of each test, and whether it left something behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import unittest
from typing import Any

LEFT = "It left something behind."
WALL = 0x40000000


class Result(unittest.TestResult):
    """The names of the tests that passed, and a report for each one that failed.

    A test also fails if it leaves a child (a zombie is one), a descriptor, a thread, a signal mask or a handler, or if
    an exception comes where nobody can catch it, as in a destructor.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: set[str] = set()
        self._was = belongings()
        self._unraisable: list[str] = []
        sys.unraisablehook = lambda event: self._unraisable.append(f"{event.exc_value!r} in {event.object!r}")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self._started.add(test.id())

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        was, self._was = self._was, belongings()
        left = [f"{what}: {was[what]} became {now}" for what, now in self._was.items() if now != was[what]]
        left += children() + self._unraisable
        if left:
            self.failures.append((test, "\n".join([LEFT, *left, ""])))
            self._unraisable.clear()

    @property
    def reports(self) -> dict[str, str]:
        """By the test's name, with which the names of its subtests begin."""
        reports: dict[str, str] = {}
        for test, report in self.errors + self.failures:
            name = test.id().partition(" ")[0]
            reports[name] = reports.get(name, "") + report
        return reports

    @property
    def passed(self) -> set[str]:
        return self._started - self.reports.keys() - {test.id() for test, _ in self.skipped}


def belongings() -> dict[str, Any]:
    """Return what no test may change."""
    # Destructors first: they close and reap.
    gc.collect()
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of listdir itself
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return {
        "fds": fds,
        "threads": threading.active_count(),
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "handlers": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
    }


def children() -> list[str]:
    try:
        return [f"waitpid: {os.waitpid(-1, os.WNOHANG | WALL)}"]
    except ChildProcessError:
        return []
