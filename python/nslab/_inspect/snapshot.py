"""`snapshot`: everything a process sees, at one moment: the answers to the same questions inside and outside."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TypeVar

from .. import _core
from .cgroup import CgroupView, cgroup
from .clocks import Clocks, clocks
from .entered import entered
from .ids import NamespaceId
from .ipc import IpcObjects, ipc
from .mounts import Mounts, mounts
from .network import Network, network
from .processes import ProcessTree, processes
from .record import Record
from .target import Target, namespace_of, namespaces_of, pinned
from .users import Capabilities, IdMaps, IdRange, capabilities, id_maps
from .within import within

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot(Record):
    """What one process sees; None and a line in ``notes`` where it could not be read."""

    #: ``"host"``, ``"pid 4711"``.
    name: str
    pid: int
    namespaces: Mapping[str, NamespaceId]
    hostname: str | None
    domainname: str | None
    #: Its user and group id as it sees them itself.
    uid: int | None
    gid: int | None
    #: The processes in its pid namespace and below it.
    processes: ProcessTree | None
    mounts: Mounts | None
    id_maps: IdMaps | None
    capabilities: Capabilities | None
    clocks: Clocks | None
    network: Network | None
    ipc: IpcObjects | None
    cgroup: CgroupView | None
    #: By field: why it is None.
    notes: Mapping[str, str]


def snapshot(target: Target = None) -> Snapshot:
    """Read everything that a process sees: the names, the users, processes, mounts, clocks, network, IPC, cgroups.

    ``target`` is a pid, an object that has one, or None for the calling process. What may not be read is None, with a
    line in ``notes``. Raises `ProcessLookupError` when there is no such process or it ends meanwhile.

    >>> with nslab.spawn("uts", ["cat"], hostname="lab", stdin=nslab.PIPE) as process:
    ...     nslab.snapshot(process).hostname
    'lab'
    """
    with _held(target) as (pid, held):
        seen = _Seen(held)
        hostname, domainname = seen.read("hostname domainname", _names) or (None, None)
        uid, gid = seen.read("uid gid", _ids) or (None, None)
        found = Snapshot(
            name="host" if target is None else f"pid {pid}",
            pid=pid,
            namespaces=seen.read("namespaces", _namespaces) or MappingProxyType({}),
            hostname=hostname,
            domainname=domainname,
            uid=uid,
            gid=gid,
            processes=seen.read("processes", _processes),
            mounts=seen.read("mounts", mounts),
            id_maps=seen.read("id_maps", id_maps),
            capabilities=seen.read("capabilities", capabilities),
            clocks=seen.read("clocks", clocks),
            network=seen.read("network", network),
            ipc=seen.read("ipc", ipc),
            cgroup=seen.read("cgroup", cgroup),
            notes=MappingProxyType(seen.notes),
        )
        with pinned(held) as process:
            # One that has begun to end loses its namespaces first.
            if not process.runs() or (found.namespaces and len(process.namespaces()) < len(found.namespaces)):
                raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")
        return found


@contextmanager
def _held(target: Target) -> Iterator[tuple[int, Target]]:
    """Hold the process by a pidfd, so that all the questions are about the same one."""
    with pinned(target) as process:
        pid = process.pid
    if target is None or hasattr(target, "pidfd"):
        yield pid, target
        return
    with _core.Fd(os.pidfd_open, pid) as pidfd:
        yield pid, SimpleNamespace(pid=pid, pidfd=pidfd)


class _Seen:
    """Asks one question after the other, and notes which of them may not be answered."""

    def __init__(self, target: Target) -> None:
        self.notes: dict[str, str] = {}
        self._target = target

    def read(self, fields: str, question: Callable[[Target], T]) -> T | None:
        """Return the answer, or None with a note for each of the fields that it would have filled."""
        try:
            return question(self._target)
        except ProcessLookupError:
            raise
        except OSError as error:
            self.notes |= dict.fromkeys(fields.split(), error.strerror or str(error))
            return None


def _namespaces(target: Target) -> Mapping[str, NamespaceId]:
    with pinned(target) as process:
        return namespaces_of(process)


def _names(target: Target) -> tuple[str, str]:
    with entered(target, "uts") as (_, fd):
        return _core.hostname(fd)


def _processes(target: Target) -> ProcessTree:
    with pinned(target) as process:
        namespace = namespaces_of(process)["pid"]
    return within(processes(), namespace)


def _ids(target: Target) -> tuple[int, int]:
    """Return the effective ids as the process sees them itself: the kernel writes them for who reads."""
    maps = id_maps(target)
    with pinned(target) as process, pinned(None) as caller:
        fields = dict(line.split(":", 1) for line in os.fsdecode(process.read("status")).splitlines())
        shared = namespace_of(process, "user") == namespace_of(caller, "user")
    ids = [int(fields[name].split()[1]) for name in ("Uid", "Gid")]
    if shared:
        return ids[0], ids[1]
    return _inside(ids[0], maps.users, "uid"), _inside(ids[1], maps.groups, "gid")


def _inside(number: int, ranges: tuple[IdRange, ...], kind: str) -> int:
    """Return the number that it has inside; one that has none is shown as the overflow id."""
    for line in ranges:
        if 0 <= number - line.outside < line.count:
            return number - line.outside + line.inside
    return int(Path(f"/proc/sys/kernel/overflow{kind}").read_text())
