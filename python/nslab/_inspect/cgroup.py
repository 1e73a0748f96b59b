"""`cgroup`: the same control group, by the two paths it has inside and outside."""

from __future__ import annotations

from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


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
