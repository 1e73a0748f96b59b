"""The process that a question is about: pinned while it is read, and one clear sentence when it cannot be."""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, SupportsIndex

from .. import _core
from .ids import NamespaceId, from_row, from_rows
from .visible import no_proc


class HasPid(Protocol):
    """A `Process`, a `subprocess.Popen`, a `ProcessInfo`, …."""

    @property
    def pid(self) -> int:
        """In the caller's pid namespace."""


PF_KTHREAD = 0x00200000

#: What all questions about a process take: its pid, an object that has one, or None for the calling process.
Target = int | HasPid | None


@contextmanager
def pinned(target: Target) -> Iterator[_core.Target]:
    """Pin the process while the block reads it, so that another one with the same pid is never taken for it.

    Raises `ProcessLookupError` when there is no such process or it ends meanwhile, `PermissionError` when it may not
    be inspected, `FileNotFoundError` without a ``/proc`` that shows it.
    """
    pid, pidfd = _numbers(target)
    try:
        process = _core.Target(pid, pidfd)
    except OSError as error:
        raise _unreachable(pid, error) from None
    try:
        yield process
    except OSError as error:
        raise _refused(process, error) from None
    finally:
        process.close()


def namespace_of(process: _core.Target, kind: str) -> NamespaceId | None:
    """Return the namespace of this type, or None where it may not be looked at."""
    return from_row(process.namespace(kind), process.pid)


def namespaces_of(process: _core.Target) -> Mapping[str, NamespaceId]:
    """Return all its namespaces by type."""
    return from_rows(process.namespaces(), process.pid)


def _numbers(target: Target) -> tuple[int | None, int | None]:
    """Return the pid and, where there is one, the pidfd; neither for the caller."""
    if target is None:
        return None, None
    if getattr(target, "returncode", None) is not None:
        # Its pid may be another one's by now.
        raise _ended(getattr(target, "pid", 0))
    number = getattr(target, "pid", target)
    if isinstance(number, bool) or not isinstance(number, SupportsIndex):
        raise TypeError(f"a process is given by its pid, an object that has one, or None, not {type(target).__name__}")
    pid = operator.index(number)
    if not 0 < pid < 2**31:
        raise ValueError(f"{pid} is no pid")
    return pid, getattr(target, "pidfd", None)


def _unreachable(pid: int | None, error: OSError) -> OSError:
    if error.errno == errno.ESRCH:
        return ProcessLookupError(errno.ESRCH, f"there is no process {pid}")
    if error.errno == errno.EINVAL:
        return ProcessLookupError(errno.ESRCH, f"{pid} is a thread, not a process")
    if error.errno not in (errno.ENOENT, errno.EPERM):
        return error
    if not Path("/proc/self").exists():
        return no_proc()
    hidden = "/proc is mounted with hidepid, see proc(5)"
    return PermissionError(errno.EPERM, f"process {pid} may not be inspected: {hidden}")


def _refused(process: _core.Target, error: OSError) -> OSError:
    if error.errno == errno.ESRCH or (error.errno in (errno.ENOENT, errno.EINVAL) and not process.runs()):
        return _ended(process.pid)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionError(errno.EPERM, f"process {process.pid} may not be inspected: {_reason(process)}")
    return error


def _ended(pid: int) -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, f"process {pid} has ended")


def _reason(process: _core.Target) -> str:
    """Return why ptrace(2) forbids to look into it."""
    status = process.read("status").decode(errors="replace")
    flags = int(process.read("stat").rpartition(b")")[2].split()[6])
    if flags & PF_KTHREAD:
        return "it is a kernel thread"
    uid = next(int(line.split()[2]) for line in status.splitlines() if line.startswith("Uid:"))
    if uid != os.geteuid():
        return f"it belongs to another user (uid {uid})"
    return "it has more privileges than the caller, or protects itself"
