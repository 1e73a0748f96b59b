"""`lsns`: every namespace on the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


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


@dataclass(frozen=True)
class NamespaceTable(Record):
    """What `lsns` found: iterates and counts as its rows."""

    #: A row for each namespace, by type and then by age or inode.
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
