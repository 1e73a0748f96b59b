"""The child of one test: enters the namespaces, lets pytest run the test, and tells pytest outside what came of it."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import os
import pickle
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import CallInfo

import nslab
from nslab import _core

from . import leaks, sections, wire
from .mark import Request
from .plugin import ENDING, INSIDE, Fork

#: The exit status of a child that cannot report any more.
CLOSED_THE_WIRE = 70

# Everybody who waits for these waits outside: terminal, JUnit, xdist, --lf, and whatever else is installed.
_OTHERS_HOOKS = [
    "pytest_runtest_logstart",
    "pytest_runtest_logreport",
    "pytest_runtest_logfinish",
    "pytest_warning_recorded",
]


class Inside:
    """What runs in the child, and takes the reports there."""

    def __init__(self, item: pytest.Item, request: Request, fd: int, faults: int, threads: list[str]) -> None:
        self._item = item
        self._request = request
        self._fd = fd
        self._pipe = os.fstat(fd)
        self._faults = faults
        self._threads = threads
        self._failed = False
        self._exit = os._exit  # a test may put in its own
        self._warnings: list[warnings.WarningMessage] = []

    # ---------------------------------------------------------------------------------------------------- the way in

    def enter(self, holder: nslab.Process, parent: int, is_first: bool, alarm: tuple[float, float]) -> None:
        """Enter the holder's namespaces, and be ready for the test; never raises, and returns only inside.

        ``parent`` is a pidfd of pytest, ``is_first`` whether this process is PID 1 already.
        """
        self._holder = holder  # not to be collected: it would complain that it still runs
        try:
            self._enter(parent, is_first)
            self._get_ready(alarm)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self._send("refused", "".join(traceback.format_exception_only(error)).strip())
            self._exit(1)

    def _enter(self, parent: int, is_first: bool) -> None:
        directory = _directory()
        os.close(self._holder.stdin.fileno())  # type: ignore[union-attr]
        new_pid = bool(self._request.flags & nslab.Namespace.PID)
        if _core.enter(self._holder.pidfd, None if is_first else new_pid):
            self._end_with(parent)
            self._be_born_inside()
        else:
            _core.settle(self._request.plan)
            self._end_with(parent)
        if directory is not None and _directory() != directory:
            os.chdir(directory)  # who enters a mount namespace begins at its root

    def _end_with(self, parent: int) -> None:
        """Make sure that the parent has not ended before this process had asked to end with it."""
        poll = select.poll()
        poll.register(parent, select.POLLIN)
        if poll.poll(0):
            self._exit(1)
        os.close(parent)

    def _be_born_inside(self) -> None:
        """Go on in a child, as nobody changes his own pid namespace; this process only waits for it."""
        parent = os.pidfd_open(os.getpid())
        abort = signal.signal(signal.SIGABRT, lambda *_: os.kill(pid, signal.SIGABRT))
        pid = os.fork()
        if pid:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(parent)
            _, status = os.waitpid(pid, 0)
            self._send("status", status)
            self._exit(0)
        signal.signal(signal.SIGABRT, abort)
        with contextlib.suppress(OSError):
            self._send("pid", int(Path("/proc/self").readlink().name))  # as it is outside, where nobody else knows it
        _core.settle(self._request.plan)
        self._end_with(parent)

    def _get_ready(self, alarm: tuple[float, float]) -> None:
        self._pid = os.getpid()
        gc.freeze()  # What is there now stays: no collection has to touch, and so copy, the parent's pages.
        self._exit = os._exit  # coverage puts its own there after each fork
        faulthandler.disable()  # its handlers are not put back where somebody has set his own
        faulthandler.enable(self._faults)
        config = self._item.config
        for name in _OTHERS_HOOKS:
            for implementation in getattr(config.hook, name).get_hookimpls():
                # The session counts the failures, for -x in the middle of subtests.
                if implementation.plugin_name not in ("session", "nslab-fork"):
                    implementation.function = _nothing_around if _wraps(implementation) else _nothing
        ENDING.clear()  # those are children of pytest
        stack = self._item.session._setupstate.stack
        for node, (_, error) in list(stack.items()):
            stack[node] = ([], error)  # What was made outside is torn down outside.
        if config.pluginmanager.hasplugin("warnings"):
            # Those that outside has caught already will be reported there.
            self._warnings = warnings.catch_warnings(record=True).__enter__()
        fork: Fork = config.pluginmanager.getplugin("nslab-fork")
        fork.inside = self
        self._item.stash[INSIDE] = self
        self._before = leaks.inventory(self._request.flags)
        signal.setitimer(signal.ITIMER_REAL, *alarm)

    # ------------------------------------------------------------------------------------------ while pytest runs it

    def report(self, report: pytest.TestReport) -> None:
        """Send it, with what helps to understand a failure."""
        if report.failed:
            self._failed = True
            report.sections += sections.of(None, self._request.flags, self._threads)
        report.sections[:] = _merged(report.sections)
        config = self._item.config
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        # The hook makes plain text of what only pytest itself shows in another way.
        flattened = isinstance(data, dict) and isinstance(data.get("longrepr"), str) and _crosses(report.longrepr)
        try:
            pickle.dumps(data)
        except Exception as error:
            self._send("lost", (report.when, f"its report cannot cross to pytest: {_unpicklable(data)}: {error}"))
        else:
            self._send("report", (data, report.longrepr if flattened else None))

    def debugging(self, active: bool) -> None:
        """Stop the clock of the timeout, or start it anew."""
        self._send("debugging", active)

    def _send(self, kind: str, content: Any) -> None:
        try:
            # The test may have closed it, and opened something else that has its number now.
            if os.path.samestat(os.fstat(self._fd), self._pipe):
                wire.send(self._fd, kind, content)
                return
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EPIPE):
                raise
        self._exit(CLOSED_THE_WIRE)

    # ---------------------------------------------------------------------------------------------------- the way out

    def end(self, error: BaseException | None) -> None:
        """Tell the rest and end this process; ``error`` is what pytest's protocol has raised."""
        status = 1
        try:
            if os.getpid() == self._pid:  # else: a fork of the test that came back from it
                self._tear_down()
                self._tell_the_rest(error)
                status = 0
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            self._exit(status)

    def _tear_down(self) -> None:
        """End wider fixtures that were made here, because the test asked for them by name while it ran."""
        state = self._item.session._setupstate
        call = CallInfo.from_call(lambda: state.teardown_exact(None), "teardown")
        if call.excinfo is not None:
            report = self._item.ihook.pytest_runtest_makereport(item=self._item, call=call)
            self.report(report)

    def _tell_the_rest(self, error: BaseException | None) -> None:
        for warning in self._warnings:
            self._send("warning", _portable(warning))
        with contextlib.suppress(ImportError):  # pytest 8 has none of its own
            from _pytest.subtests import failed_subtests_key

            failed: Any = self._item.config.stash[failed_subtests_key]
            self._send("subtests", dict(failed))
        left = [] if self._failed else leaks.since(self._before, self._request.flags)
        leaks.kill_children()
        if left and self._request.fails_for_leaks:
            self._send("left", left)
        if error is not None:
            self._send("raised", _portable_error(error))
        self._send("end", None)


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return None


def _nothing(*_: object) -> None:
    pass


def _nothing_around(*_: object) -> Any:
    return (yield)


def _wraps(implementation: Any) -> bool:
    return bool(implementation.wrapper or implementation.hookwrapper)


def _merged(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """One section for what a phase has written outside and inside."""
    texts: dict[str, str] = {}
    for name, text in found:
        texts[name] = f"{texts[name]}{text}" if name in texts else text
    return list(texts.items())


def _unpicklable(data: Any) -> str:
    for name, value in data.items() if isinstance(data, dict) else ():
        try:
            pickle.dumps(value)
        except Exception:
            return str(name)
    return type(data).__name__


def _portable(warning: warnings.WarningMessage) -> warnings.WarningMessage:
    """Return the same without what it came from, and of a class that exists outside."""
    message, category = warning.message, warning.category
    if not _crosses((message, category)):
        category = next(known for known in category.__mro__ if known.__module__ == "builtins")
        message = category(str(message))
    return warnings.WarningMessage(message, category, warning.filename, warning.lineno, None, warning.line)


def _portable_error(error: BaseException) -> BaseException:
    if isinstance(error, pytest.exit.Exception):
        return pytest.exit.Exception(error.msg, error.returncode)
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt()
    text = "".join(traceback.format_exception(error))
    return RuntimeError(f"in the child of a test:\n{text}")


def _crosses(value: object) -> bool:
    check: Callable[[bytes], object] = pickle.loads
    try:
        check(pickle.dumps(value))
    except Exception:
        return False
    return True
