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

WALL = 0x40000000


class Result(unittest.TestResult):
    """Reports for the tests that fail.

    A test also fails if it leaves a child (a zombie is one), a descriptor, a thread, a signal mask or a handler, or if
    an exception comes where nobody can catch it, as in a destructor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: set[str] = set()
        self._before = belongings()
        self._unraisable: list[str] = []
        sys.unraisablehook = lambda event: self._unraisable.append(f"{event.exc_value!r} in {event.object!r}")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.started.add(test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        # Collects first, so that destructors have run.
        after = belongings()
        left = [f"{what}: {self._before[what]} became {now}" for what, now in after.items() if now != self._before[what]]
        left += self._unraisable
        if left:
            self.failures.append((test, "left behind: " + "; ".join(left)))
            self._before = after | {"children": "none"}
            self._unraisable.clear()

    @property
    def reports(self) -> dict[str, str]:
        """By a test's name; its subtests, whose names begin with it, are part of it."""
        reports: dict[str, str] = {}
        for test, report in self.errors + self.failures:
            name = test.id().partition(" ")[0]
            reports[name] = reports.get(name, "") + report
        return reports


def belongings() -> dict[str, Any]:
    """Return what no test may change."""
    gc.collect()
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of listdir itself
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
    try:
        child = str(os.waitpid(-1, os.WNOHANG | WALL))
    except ChildProcessError:
        child = "none"
    return {
        "children": child,
        "fds": fds,
        "threads": threading.active_count(),
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "handlers": [signal.getsignal(number) for number in signal.valid_signals()],
    }
