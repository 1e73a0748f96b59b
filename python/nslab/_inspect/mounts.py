"""`mounts`: a mount namespace's tree, propagation, and what changed in it."""

from __future__ import annotations

from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


@dataclass(frozen=True)
class Mount(Record):
    """One line of ``/proc/PID/mountinfo``, see proc_pid_mountinfo(5)."""

    #: The mount's number.
    id: int
    #: The number of the mount it is on.
    parent: int
    #: ``"major:minor"`` of the file system.
    device: str
    #: Which directory of the file system is mounted.
    root: str
    #: Where.
    target: str
    #: The mount's own options: ``("rw", "nosuid")``.
    options: tuple[str, ...]
    #: The type of the file system.
    fstype: str
    #: What was mounted: a device, a name.
    source: str
    #: The file system's options.
    super_options: tuple[str, ...]
    #: Its peer group, if it is shared.
    shared: int | None
    #: The peer group it receives from, if it is a slave.
    master: int | None
    #: The nearest group above ``master`` that is visible here.
    propagate_from: int | None
    #: Whether it cannot be bound.
    unbindable: bool

    @property
    def propagation(self) -> str:
        """``"private"``, ``"shared"``, ``"slave"``, ``"shared,slave"`` or ``"unbindable"``."""
        if self.unbindable:
            return "unbindable"
        kinds = [name for name, group in (("shared", self.shared), ("slave", self.master)) if group is not None]
        return ",".join(kinds) or "private"


@dataclass(frozen=True)
class Mounts(Record):
    """The mounts of one mount namespace at one moment."""

    #: The mount namespace, or None where it may not be looked at.
    namespace: NamespaceId | None
    #: The process it was read through.
    pid: int
    #: In the order of the kernel's list: a mount follows the one it is on.
    mounts: tuple[Mount, ...]


@dataclass(frozen=True)
class MountChange(Record):
    """A mount that is there before and after, but not the same."""

    before: Mount
    after: Mount


@dataclass(frozen=True)
class MountDiff(Record):
    """What differs between two moments of a mount namespace, or between two of them."""

    before: Mounts
    after: Mounts
    #: Only in ``after``.
    added: tuple[Mount, ...]
    #: Only in ``before``.
    removed: tuple[Mount, ...]
    #: With other options, or another propagation type.
    changed: tuple[MountChange, ...]
