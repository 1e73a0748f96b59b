"""The child of one test, as its parent sees it: started, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import time
import warnings
from typing import Any

import nslab
from nslab import _core

from . import leaks, wire
from .inside import CLOSED_THE_WIRE
from .mark import Request
from .plugin import ENDING

#: What an alarm here waits longer than the same alarm in the child, in seconds.
_ALARM_GRACE = 5.0
#: What an interrupted or aborted child gets to end by itself, in seconds.
_GRACE = 1.0
#: What a child that has told all may still do, such as to write down its coverage.
_EXIT_GRACE = 60.0


class Child:
    """One test's process: what it has told, and how it ended. As a context manager, it leaves nothing running."""

    def __init__(
        self,
        pid: int,
        handshake: _core.Handshake,
        request: Request,
        read: int,
        faults: int,
        alarm: tuple[float, float],
        threads: list[str],
    ) -> None:
        #: The threads of pytest, which the child has not.
        self.threads = threads
        #: What keeps the namespaces, once they are made.
        self.holder: nslab.Process | None = None
        #: ``("report", …)`` as the hooks of pytest made it for the wire, or ``("lost", (when, why))``.
        self.reports: list[tuple[str, Any]] = []
        self.warnings: list[warnings.WarningMessage] = []
        self.failed_subtests: dict[Any, int] = {}
        #: What it has recorded for the whole suite.
        self.suite_properties: list[tuple[str, str]] = []
        #: What the test has left behind, by name.
        self.left: list[str] = []
        #: What ended the run from inside: an interrupt, `pytest.exit`, an error of a plugin.
        self.raised: BaseException | None = None
        #: Whether it came to its end, rather than broke off.
        self.ended = False
        #: When it was begun, as `time.monotonic` says it.
        self.began = time.monotonic()
        self._pid = pid
        self._handshake = handshake
        self._request = request
        self._read = read
        self._faults = faults
        self._alarm = alarm
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None
        self._expired = False
        self._refused: str | None = None
        self._in_debugger = False
        self._inbox = wire.Inbox(read)

    def let_in(self, holder: nslab.Process) -> None:
        """Let it go on to its test, in the namespaces of this process."""
        self.holder = holder
        self._handshake.let_in(holder.pid)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        # Only the parent comes here: the child never returns from its protocol.
        try:
            if self.ended:
                # All that is left to do for it is to end; it takes some time to give up the memory of pytest.
                ENDING.append(self)
            else:
                self._end()
        finally:
            os.close(self._read)
            os.close(self._faults)
            if self.holder is not None:
                self.holder.kill()
                if not self.ended:
                    self.holder.wait()
            left = self._alarm[0] - (time.monotonic() - self.began)
            if self._alarm[0] and left > 0:
                signal.setitimer(signal.ITIMER_REAL, left, self._alarm[1])

    def finish(self, wait: bool) -> None:
        """Take note of the end of a child that has told all; ``wait`` for it, if need be."""
        while self._pid:
            if not self._ends_within(_EXIT_GRACE if wait else 0):
                if not wait:
                    return
                self._signal(signal.SIGKILL)
            self._reap()
        if self.holder is not None:
            self.holder.wait()
        ENDING.remove(self)

    def wait(self) -> None:
        """Listen until it has ended, or its time is over."""
        if self._alarm[0]:
            signal.setitimer(signal.ITIMER_REAL, self._alarm[0] + _ALARM_GRACE, self._alarm[1])
        try:
            self._listen(self._request.timeout)
        finally:
            if self._alarm[0]:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _listen(self, timeout: float | None) -> None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.register(self._read, select.POLLIN)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None or self._in_debugger else max(deadline - time.monotonic(), 0)
            events = dict(poll.poll(None if left is None else left * 1000 + 1))
            for kind, content in self._inbox.read():
                self._take(kind, content)
                if kind == "debugging" and not content and deadline is not None:
                    deadline = time.monotonic() + (timeout or 0)
            if self.ended:
                return
            if self._pidfd in events:
                poll.unregister(self._pidfd)
                self._reap()
                if not self._pid:
                    return
                poll.register(self._pidfd, select.POLLIN)
                if self._expired:
                    self._signal(signal.SIGKILL)
            if not events and not self._in_debugger and not self._expired:
                self._expired = True
                self._signal(signal.SIGABRT)  # faulthandler notes where it is
                deadline = time.monotonic() + _GRACE
            elif not events and self._expired:
                self._signal(signal.SIGKILL)
                deadline = None
            if events.get(self._read, 0) & ~select.POLLIN:
                poll.unregister(self._read)  # it has closed its end, and may go on for long

    def _take(self, kind: str, content: Any) -> None:
        if kind in ("report", "lost"):
            self.reports.append((kind, content))
        elif kind == "warning":
            self.warnings.append(content)
        elif kind == "debugging":
            self._in_debugger = content
        elif kind == "refused":
            self._refused = content
        elif kind == "left":
            self.left = content
        elif kind == "suite":
            self.suite_properties = content
        elif kind == "subtests":
            self.failed_subtests = content
        elif kind == "raised":
            self.raised = content
        elif kind == "end":
            self.ended = True

    def _end(self) -> None:
        """End it, if it has not yet: at once after an error here, after a moment when the keyboard has hit both."""
        if self._pid and isinstance(sys.exc_info()[1], KeyboardInterrupt):
            self._ends_within(_GRACE)
        while self._pid:
            self._signal(signal.SIGKILL)
            self._reap()

    def _ends_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _reap(self) -> None:
        """Wait for its end; the process that goes on for it in a pid namespace is the child from then on."""
        try:
            _, self._status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            self._status = None  # SIGCHLD is ignored, or somebody else has waited for it
        os.close(self._pidfd)
        ended, self._pid = self._pid, 0
        if (successor := self._handshake.successor) not in (0, ended):
            with contextlib.suppress(ProcessLookupError):  # reaped by somebody else
                self._pidfd = os.pidfd_open(successor)
                self._pid = successor

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    # ------------------------------------------------------------------------------------------------ how it ended

    def why(self) -> str:
        """Return in words why it did not come to its end."""
        if self._refused is not None:
            return self._refused
        if self._expired:
            return f"the test did not end within {self._request.timeout:g} s and was killed"
        if self._status is None:
            return "the process of the test ended, nobody knows how,"
        if os.WIFSIGNALED(self._status):
            by = _signal_name(os.WTERMSIG(self._status))
            if self._request.flags & nslab.Namespace.PID and self.faults().startswith("Fatal Python error: Aborted"):
                by = f"abort(3), which in a PID 1 ends as {by}"
            return f"the process of the test was killed by {by}"
        if os.WEXITSTATUS(self._status) == CLOSED_THE_WIRE:
            return "the process of the test closed the descriptor over which its report goes to pytest"
        return f"the process of the test exited with status {os.WEXITSTATUS(self._status)}"

    def faults(self) -> str:
        """Return what faulthandler wrote, down to the test."""
        text = os.pread(self._faults, 1 << 16, 0).decode(errors="replace")
        if self._expired:
            text = text.removeprefix("Fatal Python error: Aborted").lstrip()
        kept = re.split(r'^  File ".*/_pytest/python\.py".*\n', text, maxsplit=1, flags=re.MULTILINE)[0]
        return kept.rstrip()

    def clean_up(self) -> list[str]:
        """Kill what a child that broke off has left in the namespaces, and return the names."""
        assert self.holder is not None
        return leaks.kill_all_in(self.holder.pid, self._request.flags)


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"
