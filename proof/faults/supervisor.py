"""Runs cells: one call of the library each, in a process of its own, with one system call failing."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import pickle
import platform
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from errno import errorcode
from pathlib import Path
from typing import Any

from . import calls, left, listener
from .plans import Plan

_X86 = platform.machine() == "x86_64"
# In these a program, a host and an init have come to rest.
_NANOSLEEP, _PPOLL, _WAIT4 = (230, 271, 61) if _X86 else (115, 73, 260)
_PIDFD_GETFD = 438
_FUTEX, FUTEX_WAKE, FUTEX_COMMAND = (202 if _X86 else 98), 1, 127
ERRNOS = {name: number for number, name in errorcode.items()}
PATIENCE = 30.0
# Where the calls are counted; elsewhere they are only let go on.
CALLING, AFTERWARDS, ELSEWHERE = "calling", "afterwards", "elsewhere"


@dataclasses.dataclass(frozen=True)
class Fault:
    """The call to fail: the n-th of its kind in this process; and how: an errno, or KILL."""

    process: str
    number: int
    ordinal: int
    how: str


@dataclasses.dataclass
class Outcome:
    """What came of a cell."""

    #: Whether the call was made.
    reached: bool = False
    #: What the library raised, or the program's pid.
    result: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: How the program looked.
    program: dict[str, Any] | None = None
    #: How the program ended, when told to.
    ended: Any = None
    #: What was there afterwards and not before, or the other way round.
    changed: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: The same of a second call without any fault, in the same process.
    again: Outcome | None = None
    #: Why there is no result: a crash, a hang.
    trouble: str = ""


def kill(pid: int) -> None:
    """Kill it, and wait until it has ended."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    ended = select.select([pidfd], [], [], PATIENCE)[0]
    os.close(pidfd)
    if not ended:
        raise TroubleError("does not end when it is killed")


class TroubleError(Exception):
    """The process of a cell has ended, or does not."""


class Supervisor:
    """Holds every system call of a worker."""

    def __init__(self, plans: str = "proof.faults.plans") -> None:
        """``plans`` is the module whose ``PLANS`` are run."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.dup2(theirs.fileno(), listener.CONTROL)
        theirs.close()
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-m", "proof.faults.worker", plans]
        self._worker = subprocess.Popen(command, pass_fds=[listener.CONTROL], env=environment)
        os.close(listener.CONTROL)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self._listener = -1
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._begin(None, None)
        self.hosts, number = self._hear()
        pidfd = os.pidfd_open(self._worker.pid)
        self._listener = ctypes.CDLL(None).syscall(_PIDFD_GETFD, pidfd, number, 0)
        os.close(pidfd)
        self._poll.register(self._listener, select.POLLIN)

    def close(self) -> None:
        self._control.send(pickle.dumps(None))
        self._serve_until(lambda: self._worker.poll() is not None)
        os.close(self._listener)
        self._control.close()

    # ------------------------------------------------------------------------------------------------ the calls

    def _begin(self, plan: Plan | None, fault: Fault | None) -> None:
        self._plan, self._fault = plan, fault
        self._stage = ELSEWHERE
        self._cell = 0
        self._processes: dict[int, str] = {}
        self._made = 0
        self._bystanders: set[int] = set()
        self._seen: Counter[tuple[str, int]] = Counter()
        self._reached = False
        self._resting: set[int] = set()
        #: The calls of the last cell: thread, process, number.
        self.held: list[tuple[int, str, int]] = []

    def _process(self, tid: int) -> str | None:
        """Who makes the call, if it is one to count."""
        if self._stage == ELSEWHERE or tid == self._worker.pid:
            return None
        if tid not in self._processes:
            if self._stage == AFTERWARDS:
                return None
            self._processes[tid] = self._new(tid)
        name = self._processes[tid]
        return None if self._stage == AFTERWARDS and name in ("parent", "keeper") else name

    def _new(self, tid: int) -> str:
        if tid == self._cell:
            return "parent"
        if Path(f"/proc/{self._cell}/task/{tid}").exists():
            return "keeper"
        # Whoever was born later may be the first to make a call.
        unknown = {pid for pid in left.pids() if pid > self._cell} - self._processes.keys() - self._bystanders
        names = self._plan.processes if self._plan else ()
        for pid in sorted(unknown):
            self._made += 1
            self._processes[pid] = names[self._made - 1] if self._made <= len(names) else f"process {self._made}"
        return self._processes.get(tid, "unknown")

    def _serve(self) -> None:
        """Take the next call, and let it go on, fail, or be its process's last."""
        held = listener.receive(self._listener)
        if held is None:
            return
        plan = self._plan
        if held.number in (_PPOLL if plan and plan.is_host else _NANOSLEEP, _WAIT4):
            self._resting.add(held.tid)
        lacks = plan and self._stage != ELSEWHERE and held.number in plan.without
        how = self._fault_of(held) or ("ENOSYS" if lacks else "")
        if how == "KILL":
            kill(held.tid)
        else:
            listener.answer(self._listener, held, ERRNOS[how] if how else 0)

    def _fault_of(self, held: listener.Held) -> str | None:
        process = self._process(held.tid)
        if process is None:
            return None
        self.held.append((held.tid, process, held.number))
        if held.number == _FUTEX and held.arguments[1] & FUTEX_COMMAND == FUTEX_WAKE:
            # It cannot fail; and whether it comes before or after one that waits is not the same each time.
            return None
        self._seen[process, held.number] += 1
        wanted = self._fault
        call = (process, held.number, self._seen[process, held.number])
        if wanted is None or call != (wanted.process, wanted.number, wanted.ordinal):
            return None
        self._reached = True
        return wanted.how

    def _serve_until(self, condition: Any) -> bool:
        """Let the calls go on until the condition holds; return whether it does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                return False
            for fd, _ in self._poll.poll(5):
                if fd == self._listener:
                    self._serve()
        return True

    def _hear(self) -> Any:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ready = {fd for fd, _ in self._poll.poll(1000)}
            # Whoever has said it may have gone on to its next call.
            if self._control.fileno() in ready:
                message = self._control.recv(1 << 16)
                if not message:
                    raise RuntimeError("the worker has ended")
                return pickle.loads(message)
            if self._listener in ready:
                self._serve()
        raise TroubleError("hangs")

    def _tell(self, message: Any) -> None:
        self._control.send(pickle.dumps(message))

    # -------------------------------------------------------------------------------------------------- a cell

    def run(self, plan: Plan, fault: Fault | None = None) -> Outcome:
        """Run one cell."""
        return self._run(plan, fault, None)[0]

    def trace(self, plan: Plan) -> tuple[Outcome, list[calls.Call]]:
        """Run one without a fault, under strace too."""
        return self._run(plan, None, [])

    def replay(self, plan: Plan, fault: Fault, name: str) -> Outcome:
        """Run one whose fault is strace's: in every process that makes this call so often."""
        found, seen = self._run(plan, None, ["-e", f"inject={name}:error={fault.how}:when={fault.ordinal}"])
        found.reached = any("(INJECTED)" in call.text for call in seen)
        return found

    def _run(self, plan: Plan, fault: Fault | None, strace: list[str] | None) -> tuple[Outcome, list[calls.Call]]:
        self._begin(plan, fault)
        self._tell(plan.name)
        found = Outcome()
        tracer = None
        try:
            _, self._cell = self._expect("ready")
            before = left.traces(self._cell)
            if strace is not None:
                tracer = calls.Tracer(self._cell, *strace)
                before["processes"] = left.traces(self._cell)["processes"]
            self._bystanders = left.pids()
            self._stage = CALLING
            self._call(found, before)
            found.reached = self._reached
            if tracer and strace:
                # It counts again in every new process.
                tracer.stop()
                self._serve_until(tracer.has_ended)
                before["processes"] = left.traces(self._cell)["processes"]
            found.again = Outcome()
            self._call(found.again, before)
            self._tell("quit")
            _, status = self._hear()
            if status:
                found.trouble = f"ended with status {status}"
        except TroubleError as trouble:
            found.trouble, found.reached = str(trouble), self._reached
            self._clean_up()
        return found, tracer.calls() if tracer else []

    def _call(self, found: Outcome, before: dict[str, Any]) -> None:
        self._tell("go")
        _, found.result = self._expect("spawned")
        if self._stage == CALLING:
            self._stage = AFTERWARDS
        if pid := found.result.get("pid"):
            self._serve_until(lambda: self._rests(pid))
            with suppress(OSError):
                found.program = left.program(pid, self._cell, self.hosts)
        self._tell("end")
        _, found.ended, dumpable = self._expect("ended")
        self._stage = ELSEWHERE

        def is_as_before() -> bool:
            after = {**left.traces(self._cell), "dumpable": dumpable}
            expected = {**before, "dumpable": 1}
            found.changed = {what: (expected[what], after[what]) for what in expected if expected[what] != after[what]}
            if self._plan and self._plan.keeper and after["threads"] == before["threads"] + 1:
                found.changed.pop("threads")
            # What was killed may need a while, and a thread that was joined; all else is as it stays.
            return not found.changed.keys() & {"processes", "threads", "sockets"}

        self._serve_until(is_as_before)

    def _rests(self, pid: int) -> bool:
        """Whether a program, and the init above it, have come to rest or to their end."""
        try:
            parent = left.parent(pid)
        except OSError:
            return True
        rests = {process for process in (pid, parent) if left.name(process).endswith((" Z", "gone"))} | self._resting
        return pid in rests and parent in rests | {self._cell}

    def _expect(self, what: str) -> Any:
        message = self._hear()
        if message[0] == "over":
            raise TroubleError(f"ended with status {message[1]}")
        assert message[0] == what, message
        return message

    def _clean_up(self) -> None:
        """End what a cell in trouble has left: everything here but ourselves, the worker and its hosts."""
        keep = {1, os.getpid(), self._worker.pid, *self.hosts}
        self._stage = ELSEWHERE
        over = not Path(f"/proc/{self._cell}").exists()
        for pid in left.pids() - keep:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not over:
            with suppress(TroubleError):
                while self._hear()[0] != "over":
                    pass
