"""`id_maps` and `capabilities`: who a process is, inside and outside, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


@dataclass(frozen=True)
class IdRange(Record):
    """One line of a map, see user_namespaces(7)."""

    inside: int
    #: As the caller's user namespace has it.
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
    """The capability sets of a process in words (``"CAP_NET_ADMIN"``), see capabilities(7)."""

    pid: int
    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...]
    bounding: tuple[str, ...]
    ambient: tuple[str, ...]
    #: How many capabilities this kernel has.
    known: int
    no_new_privs: bool
