"""``nslab run``: execute the program in the foreground, as a shell would, and end as it ended."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import nslab

# As timeout(1), env(1) and unshare(1) have it.
TIMED_OUT, NOT_SET_UP, NOT_EXECUTABLE, NOT_FOUND = 124, 125, 126, 127


class Foreground:
    """Runs a plan while the terminal's signals belong to the program.

    What the keyboard sends goes to the whole foreground group, so the program gets it from the terminal, and this
    process only has to outlive it. ``is_all`` says that nothing comes after it but the end of this process, which
    another Ctrl-C must not give a status of its own.
    """

    def __init__(self, plan: nslab.Plan, *, is_init: bool, is_all: bool) -> None:
        self._plan = plan
        self._is_init = is_init
        self._is_all = is_all
        self._process: nslab.Process | None = None
        self._ignored = 0
        self._terminated = False

    def run(self, timeout: float | None = None) -> int:
        """Return the exit status that a shell would report: the program's, or 128 and the number of its signal.

        ``timeout`` is in seconds; then the program is killed, and the status is 124. Raises `nslab.SpawnError`.
        """
        handlers = {
            signal.SIGINT: self._on_interrupt,
            signal.SIGQUIT: self._on_quit,
            signal.SIGTERM: self._on_terminate,
        }
        # Ignored by choice, as with nohup(1): then it stays so, for the program too.
        taken = [number for number in handlers if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, handlers[number]) for number in taken}
        had_terminal = _terminal_group() == os.getpgrp()
        try:
            return self._wait(self._plan.spawn(), timeout)
        finally:
            if had_terminal and self._process is not None:
                _take_terminal_back(self._process.pid)
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self._is_all and number != signal.SIGTERM else handler)

    def _wait(self, process: nslab.Process, timeout: float | None) -> int:
        self._process = process
        if self._terminated:  # before there was anybody to pass it on to
            process.terminate()
        try:
            status = process.wait(timeout)
        except nslab.TimeoutExpired:
            process.kill()
            process.wait()
            print(f"nslab: timed out after {timeout} seconds", file=sys.stderr)
            return TIMED_OUT
        return status if status >= 0 else 128 - status

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._process is not None and self._ignores_interrupts():
            self._ignored += 1
            if self._ignored > 1:
                self._process.kill()

    def _ignores_interrupts(self) -> bool:
        """Return whether the program is an init without a handler for SIGINT, which the kernel then discards."""
        assert self._process is not None
        if not self._is_init:
            return False
        try:
            with open(f"/proc/{self._process.pid}/status") as status:  # noqa: PTH123
                caught = next(line for line in status if line.startswith("SigCgt:"))
        except (OSError, StopIteration):
            return False
        return not int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1

    def _on_quit(self, _number: int, _frame: FrameType | None) -> None:
        """Outlive it: the program decides."""

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True
        if self._process is not None:
            self._process.terminate()


def _terminal_group() -> int:
    """Return the process group in the foreground of the terminal that is standard input; 0 when it is none."""
    try:
        return os.tcgetpgrp(0)
    except OSError:
        return 0


def _take_terminal_back(program: int) -> None:
    """Take the terminal from a program that has ended.

    A shell that had made itself a foreground group would give it back, but cannot name our group from within its pid
    namespace. Where our own shell has put us into the background meanwhile, the terminal is that shell's.
    """
    if _terminal_group() not in (program, os.getpgrp()) and _exists(_terminal_group()):
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        pass  # It was hung up.
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def failure_status(error: nslab.SpawnError) -> int:
    """Return the exit status for a program that was never executed."""
    if error.step != "execve":
        return NOT_SET_UP
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
