"""The child of one test: enters the namespaces, lets pytest run the test, and tells pytest outside what came of it."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from _pytest.runner import CallInfo

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
        self._pid = os.getpid()
        self._failed = False
        self._exit = os._exit  # a test may put in its own
        self._warnings: list[warnings.WarningMessage] = []

    # ---------------------------------------------------------------------------------------------------- the way in

    def enter(self, parent: int, handshake: _core.Handshake, alarm: tuple[float, float]) -> None:
        """Enter the namespaces that ``parent``, a pidfd of pytest, makes; never raises, and returns only inside."""
        try:
            self._get_ready()
            directory = _directory()
            _core.enter(self._request.plan, parent, handshake)
            os.close(parent)
            if directory is not None and _directory() != directory:
                os.chdir(directory)  # who enters a mount namespace begins at its root
            self._pid = os.getpid()
            threading.current_thread()._set_native_id()  # type: ignore[attr-defined]  # as after a fork
            self._before = leaks.inventory(self._request.flags)
            signal.setitimer(signal.ITIMER_REAL, *alarm)
        except BaseException as error:
            self._pid = os.getpid()
            with contextlib.suppress(OSError):
                self._send("refused", "".join(traceback.format_exception_only(error)).strip())
            self._exit(1)

    def _get_ready(self) -> None:
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
        self._ending = ENDING.copy()  # those are children of pytest, and would complain that they still run
        ENDING.clear()
        if subtests := sys.modules.get("_pytest.subtests"):  # pytest 8 has none of its own
            config.stash[subtests.failed_subtests_key] = defaultdict(int)  # not those of other tests
        self._recorded = len(suite_properties(config))
        stack = self._item.session._setupstate.stack
        for node, (_, error) in list(stack.items()):
            stack[node] = ([], error)  # What was made outside is torn down outside.
        if config.pluginmanager.hasplugin("warnings"):
            # Those that outside has caught already will be reported there.
            self._warnings = warnings.catch_warnings(record=True).__enter__()
        fork: Fork = config.pluginmanager.getplugin("nslab-fork")
        fork.inside = self
        self._item.stash[INSIDE] = self

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
            message = wire.pack("report", (data, report.longrepr if flattened else None))
        except Exception as error:
            lost = f"its report cannot cross to pytest: {_unpicklable(data)}: {error}"
            message = wire.pack("lost", (report.when, lost))
        self._write(message)

    def debugging(self, active: bool) -> None:
        """Stop the clock of the timeout, or start it anew."""
        self._send("debugging", active)

    def _send(self, kind: str, content: Any) -> None:
        self._write(wire.pack(kind, content))

    def _write(self, message: bytes) -> None:
        if os.getpid() != self._pid:
            self._exit(1)  # a fork of the test that came back from it
        try:
            # The test may have closed it, and opened something else that has its number now.
            if os.path.samestat(os.fstat(self._fd), self._pipe):
                wire.send(self._fd, message)
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
            if os.getpid() == self._pid:  # else as above: what is wider is not its own
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
        if subtests := sys.modules.get("_pytest.subtests"):
            self._send("subtests", dict(self._item.config.stash[subtests.failed_subtests_key]))
        if recorded := suite_properties(self._item.config)[self._recorded :]:
            self._send("suite", recorded)
        left = [] if self._failed else leaks.since(self._before, self._request.flags)
        leaks.kill_children()
        if left and self._request.fails_for_leaks:
            self._send("left", left)
        if error is not None:
            self._send("raised", _portable_error(error))
        self._send("end", None)


def suite_properties(config: pytest.Config) -> list[tuple[str, str]]:
    """Return what ``record_testsuite_property`` has noted for the JUnit file."""
    junit = sys.modules.get("_pytest.junitxml")
    xml = config.stash.get(junit.xml_key, None) if junit else None
    found: list[tuple[str, str]] = xml.global_properties if xml else []
    return found


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
