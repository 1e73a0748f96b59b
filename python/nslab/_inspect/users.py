"""`id_maps` and `capabilities`: who a process is, inside and outside, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _core
from .ids import NamespaceId
from .record import Record
from .target import Target, namespace_of, pinned

# The bits in their order, see linux/capability.h.
NAMES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST"),
    *("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"),
    *("CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE"),
    *("CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE"),
    *("CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM"),
    *("CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)


@dataclass(frozen=True)
class IdRange(Record):
    """One line of a map, see user_namespaces(7)."""

    inside: int
    #: As the caller's user namespace has it (as its parent has it, for the caller's own); 4294967295 for one that is
    #: not mapped there.
    outside: int
    count: int


@dataclass(frozen=True)
class IdMaps(Record):
    """The id maps of a user namespace."""

    #: The user namespace, or None where it may not be looked at.
    namespace: NamespaceId | None
    #: The process they were read through.
    pid: int
    users: tuple[IdRange, ...]
    groups: tuple[IdRange, ...]
    #: ``"allow"`` or ``"deny"``; None where the kernel does not say.
    setgroups: str | None


@dataclass(frozen=True)
class Capabilities(Record):
    """The capability sets of a process in words (``"CAP_NET_ADMIN"``), see capabilities(7).

    One that is newer than this library has its number: ``"CAP_41"``.
    """

    pid: int
    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...]
    bounding: tuple[str, ...]
    ambient: tuple[str, ...]
    #: How many capabilities this kernel has.
    known: int
    no_new_privs: bool


def id_maps(target: Target = None) -> IdMaps:
    """Read the maps of the user namespace of a process, see user_namespaces(7).

    ``target`` is a pid, an object that has one, or None for the caller. Raises `ProcessLookupError` when there is no
    such process.

    >>> with nslab.spawn("user", ["cat"], map_root_user=True, stdin=nslab.PIPE) as process:
    ...     nslab.id_maps(process).users[0].outside == os.geteuid()
    True
    """
    with pinned(target) as process:
        users, groups, allowed = _core.id_maps(process)
        namespace = namespace_of(process, "user")
    setgroups = None if allowed is None else "allow" if allowed else "deny"
    return IdMaps(namespace, process.pid, _ranges(users), _ranges(groups), setgroups)


def _ranges(rows: list[list[int]]) -> tuple[IdRange, ...]:
    return tuple(IdRange(*row) for row in rows)


def capabilities(target: Target = None) -> Capabilities:
    """Read what a process may do in its own user namespace.

    See capabilities(7). ``target`` is a pid, an object that has one, or None for the caller. Raises
    `ProcessLookupError` when there is no such process.

    >>> with nslab.spawn("user", ["cat"], map_root_user=True, stdin=nslab.PIPE) as process:
    ...     "CAP_SYS_ADMIN" in nslab.capabilities(process).effective
    True
    """
    with pinned(target) as process:
        sets, known, no_new_privs = _core.capabilities(process)
    effective, permitted, inheritable, bounding, ambient = map(_names, sets)
    return Capabilities(process.pid, effective, permitted, inheritable, bounding, ambient, known, no_new_privs)


def _names(bits: int) -> tuple[str, ...]:
    numbers = (number for number in range(bits.bit_length()) if bits >> number & 1)
    return tuple(NAMES[number] if number < len(NAMES) else f"CAP_{number}" for number in numbers)
