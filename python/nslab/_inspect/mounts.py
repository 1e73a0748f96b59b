"""`mounts`: a mount namespace's tree, propagation, and what changed in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from .. import _core
from .ids import NamespaceId
from .record import Record
from .target import Target, namespace_of, pinned


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
    #: In the order of the kernel's list. What the process cannot reach from its root is not there, so the
    #: mount that the first one is on is missing, too.
    mounts: tuple[Mount, ...]

    def __iter__(self) -> Iterator[Mount]:
        return iter(self.mounts)

    def __len__(self) -> int:
        return len(self.mounts)

    def diff(self, after: Mounts) -> MountDiff:
        """Compare with a later moment of the same mount namespace, or with another one.

        Within one namespace a mount is known by its number too; another one has a copy with a number of its own.

        >>> here = nslab.mounts()
        >>> here.diff(nslab.mounts()).changed
        ()
        """
        return _diff(self, after)


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


def mounts(target: Target = None) -> Mounts:
    """Read the mounts that a process sees, see proc_pid_mountinfo(5).

    ``target`` is a pid, an object that has one, or None for the caller. Raises `ProcessLookupError` when there is no
    such process.

    >>> nslab.mounts().mounts[0].options
    (...)
    """
    with pinned(target) as process:
        rows = _core.mounts(process)
        return Mounts(namespace_of(process, "mnt"), process.pid, tuple(map(_mount, rows)))


def _mount(row: tuple[Any, ...]) -> Mount:
    number, parent, device, root, where, options, fstype, source, super_options, propagation = row
    plain = device, root, where, tuple(options), fstype, source, tuple(super_options)
    return Mount(number, parent, *plain, *propagation)


def _diff(before: Mounts, after: Mounts) -> MountDiff:
    same = before.namespace is not None and before.namespace == after.namespace
    old, new = _keyed(before, same), _keyed(after, same)
    both = [MountChange(old[key], mount) for key, mount in new.items() if key in old]
    return MountDiff(
        before=before,
        after=after,
        added=tuple(mount for key, mount in new.items() if key not in old),
        removed=tuple(mount for key, mount in old.items() if key not in new),
        changed=tuple(pair for pair in both if _state(pair.before) != _state(pair.after)),
    )


def _keyed(mounts: Mounts, by_number: bool) -> dict[Hashable, Mount]:
    """Return the mounts by what stays the same as long as they live.

    The number alone will not do: the kernel soon gives it to another mount. Equal ones on top of each other are told
    apart by their order.
    """
    seen: Counter[Hashable] = Counter()
    keyed: dict[Hashable, Mount] = {}
    for mount in mounts:
        what = mount.target, mount.device, mount.root, mount.fstype, mount.source, by_number and mount.id
        seen[what] += 1
        keyed[*what, seen[what]] = mount
    return keyed


def _state(mount: Mount) -> Hashable:
    return mount.options, mount.super_options, mount.propagation
