"""Which namespaces a process is in, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .. import _core
from .._namespace import parse_flags
from .record import Record

# Type, device, inode, 64-bit number.
Row = tuple[str, int, int, int | None]


@dataclass(frozen=True, eq=False)
class NamespaceId(Record):
    """One namespace: equal to another by the kernel's 64-bit number where there is one, else by device and inode.

    >>> nslab.namespaces(os.getpid())["net"].type
    'net'
    """

    #: ``"uts"``, ``"mnt"``, …
    type: str
    #: The inode of the file in ``/proc/PID/ns``: unique among the living, used again later.
    inode: int
    #: The device of that file.
    dev: int
    #: The number that is never used again (Linux 6.18), or None.
    id: int | None
    # A process that was in it, through which it may be opened.
    _pid: int | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NamespaceId):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return (self.type, self.id) if self.id is not None else (self.type, self.dev, self.inode)

    def __str__(self) -> str:
        return f"{self.type}:[{self.inode}]"

    def key(self) -> tuple[int, int, int, int | None, int | None]:
        """Return what the core needs to find it again."""
        return (parse_flags(self.type), self.dev, self.inode, self.id, self._pid)

    def open(self) -> int:
        """Open it and return the descriptor, which keeps it alive; the caller closes it.

        Raises `ProcessLookupError` when no process that may be inspected is in it any more.

        >>> os.close(nslab.namespaces(os.getpid())["uts"].open())
        """
        return _core.open_namespace(*self.key())

    @property
    def parent(self) -> NamespaceId | None:
        """The one it was made in, see ioctl_nsfs(2); None but for types pid and user, and outside of the caller's own.

        Raises `ProcessLookupError` as `open` does.

        >>> with nslab.spawn("pid", ["cat"], stdin=nslab.PIPE) as process:
        ...     process.namespaces["pid"].parent == nslab.namespaces(os.getpid())["pid"]
        True
        """
        return from_row(_core.relations(*self.key())[0])

    @property
    def owner(self) -> NamespaceId | None:
        """The user namespace it belongs to; None where that is outside of the caller's own.

        Raises `ProcessLookupError` as `open` does.

        >>> with nslab.spawn("user uts", ["cat"], stdin=nslab.PIPE) as process:
        ...     process.namespaces["uts"].owner == process.namespaces["user"]
        True
        """
        return from_row(_core.relations(*self.key())[1])

    @property
    def owner_uid(self) -> int | None:
        """The user who made it (type user), or who made its owner.

        Raises `ProcessLookupError` as `open` does.

        >>> with nslab.spawn("user", ["cat"], stdin=nslab.PIPE) as process:
        ...     process.namespaces["user"].owner_uid == os.geteuid()
        True
        """
        return _core.relations(*self.key())[2]


def from_row(row: Row | None, pid: int | None = None) -> NamespaceId | None:
    """Return what the core reports of one namespace."""
    return None if row is None else NamespaceId(row[0], row[2], row[1], row[3], pid)


def from_rows(rows: list[Row], pid: int | None) -> Mapping[str, NamespaceId]:
    """Return what the core reports as a read-only mapping by type."""
    ids = {kind: NamespaceId(kind, inode, dev, number, pid) for kind, dev, inode, number in rows}
    return MappingProxyType(ids)


def namespaces(pid: int) -> Mapping[str, NamespaceId]:
    """Look up what the process ``pid`` is in, by type, as lsns(8) does.

    Raises `FileNotFoundError` when there is no such process, `PermissionError` when it may not be inspected.

    >>> sorted(nslab.namespaces(os.getpid()))
    ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'time', 'user', 'uts']
    """
    try:
        return from_rows(_core.namespaces(pid), pid)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"there is no process {pid} in /proc") from None


def current() -> Mapping[str, NamespaceId]:
    """Return the namespaces that a child of the calling thread would get."""
    return from_rows(_core.namespaces(None), None)
