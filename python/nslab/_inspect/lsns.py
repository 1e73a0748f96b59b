"""`lsns`: every namespace on the machine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _core
from .._namespace import parse_flags
from .ids import NamespaceId, from_row
from .record import Record
from .visible import limits, proc

if TYPE_CHECKING:
    from .._namespace import Flags


@dataclass(frozen=True)
class NamespaceInfo(Record):
    """One namespace, with what lsns(8) tells of it and who it belongs to."""

    #: The namespace itself.
    namespace: NamespaceId
    #: How many processes are in it; 0 for one that only a descriptor, a mount or another namespace holds.
    nprocs: int
    #: The lowest pid in it, or None.
    pid: int | None
    #: The parent of that process.
    ppid: int | None
    #: The user of that process.
    uid: int | None
    #: Its command line.
    command: str | None
    #: A file by which it can be opened: ``/proc/PID/ns/…``, or where it is bound; None when neither exists.
    path: str | None
    #: Where it is bound to a file, see ip-netns(8).
    nsfs: tuple[str, ...]
    #: The number that the caller's network namespace has for it (type net), or None.
    netnsid: int | None
    #: The namespace in which it was made (types pid and user), or None where the kernel does not show it.
    parent: NamespaceId | None
    #: The user namespace it belongs to, or None where the kernel does not show it.
    owner: NamespaceId | None
    #: The user who made it (type user), or who made its owner.
    owner_uid: int | None
    #: What keeps it alive: of ``"process"``, ``"thread"``, ``"fd"``, ``"mount"``, ``"child"``.
    held_by: tuple[str, ...]

    @property
    def type(self) -> str:
        """``"uts"``, ``"mnt"``, …."""
        return self.namespace.type

    @property
    def user(self) -> str | None:
        """The name of the user of that process, or the number of one without a name."""
        return None if self.uid is None else _user_name(self.uid)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, also under those names of lsns(8) that are not ours: ``ns``, ``type``, ``user``, …."""
        relatives = {
            "pns": self.parent and self.parent.inode,
            "ons": self.owner and self.owner.inode,
        }
        own = {"ns": self.namespace.inode, "type": self.type, "user": self.user}
        return {**own, **super().to_dict(), **relatives}


@dataclass(frozen=True)
class NamespaceTable(Record):
    """What `lsns` found: iterates and counts as its rows."""

    #: A row for each namespace, by type and then by 64-bit number or inode.
    namespaces: tuple[NamespaceInfo, ...]
    #: Processes that could not be looked into.
    unreadable: tuple[int, ...]
    #: What may be missing and why, or None.
    note: str | None

    def __iter__(self) -> Iterator[NamespaceInfo]:
        return iter(self.namespaces)

    def __len__(self) -> int:
        return len(self.namespaces)

    def __getitem__(self, index: int) -> NamespaceInfo:
        return self.namespaces[index]


def lsns(types: Flags = "all", *, progress: Callable[[int, int], object] | None = None) -> NamespaceTable:
    """Find every namespace on the machine: by processes as lsns does, and by threads, descriptors and mounts.

    ``types`` are given as in `nslab.spawn`; ``progress`` is called now and then with the number of processes done and
    of all. Nothing is raised for what vanishes or may not be looked at; see `NamespaceTable.note`. Raises
    `FileNotFoundError` without a ``/proc``.

    >>> [row.pid for row in nslab.lsns("uts") if row.namespace == nslab.namespaces(os.getpid())["uts"]]
    [...]
    """
    bits = parse_flags(types)
    if not bits:
        raise ValueError("types names no namespace")
    with proc():
        rows, unreadable = _core.lsns(bits, progress)
    return NamespaceTable(tuple(map(_info, rows)), tuple(unreadable), limits(len(unreadable)))


def _info(row: tuple[Any, ...]) -> NamespaceInfo:
    namespace, nprocs, leader, path, nsfs, netnsid, (parent, owner, owner_uid), held_by = row
    pid, ppid, uid, command = leader or (None, None, None, None)
    kind, dev, inode, number = namespace
    return NamespaceInfo(
        namespace=NamespaceId(kind, inode, dev, number, pid),
        nprocs=nprocs,
        pid=pid,
        ppid=ppid,
        uid=uid,
        command=command,
        path=path,
        nsfs=tuple(nsfs),
        netnsid=netnsid,
        parent=from_row(parent),
        owner=from_row(owner),
        owner_uid=owner_uid,
        held_by=tuple(held_by),
    )


@functools.lru_cache(maxsize=1024)
def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
