"""`cgroup`: the same control group, by the two paths it has inside and outside."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from .ids import NamespaceId
from .record import Record
from .target import Target, namespace_of, pinned


@dataclass(frozen=True)
class CgroupPath(Record):
    """A process's place in one hierarchy, see cgroups(7)."""

    #: The number of the hierarchy; 0 is cgroup v2.
    hierarchy: int
    #: ``("cpu", "cpuacct")`` or ``("name=systemd",)``; empty for v2.
    controllers: tuple[str, ...]
    #: As the caller's cgroup namespace has it.
    outside: str
    #: As its own has it; None where that may not be read.
    inside: str | None


@dataclass(frozen=True)
class CgroupView(Record):
    """A process's control groups."""

    namespace: NamespaceId | None
    pid: int
    paths: tuple[CgroupPath, ...]
    #: What could not be read and why, or None.
    note: str | None


def cgroup(target: Target = None) -> CgroupView:
    """Read a process's control groups, as the caller has them and as the process has them itself.

    ``target`` is a pid, an object that has one, or None for the calling process. Raises `ProcessLookupError` when it is
    gone. See cgroup_namespaces(7).

    >>> nslab.cgroup().pid == os.getpid()
    True
    """
    with pinned(target) as process:
        namespace = namespace_of(process, "cgroup")
        rows, refused = _core.cgroup(process)
        if refused == errno.ENOENT and Path("/proc/self/ns/cgroup").exists():
            raise ProcessLookupError(errno.ESRCH, f"process {process.pid} has ended")
        paths = tuple(CgroupPath(number, tuple(names), outside, inside) for number, names, outside, inside in rows)
        return CgroupView(namespace, process.pid, paths, _note(refused))


def _note(refused: int | None) -> str | None:
    if refused is None:
        return None
    if refused == errno.EPERM:
        return "the paths inside: to enter the cgroup namespace takes CAP_SYS_ADMIN in the user namespace that owns it"
    if refused == errno.EACCES:
        return "the paths inside: the process may not be inspected"
    return f"the paths inside: {os.strerror(refused)}"
