"""`compare`: which of the eight two processes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .._namespace import Namespace, names
from .._process import Process
from .ids import NamespaceId
from .record import Record
from .target import Target, namespaces_of, pinned


@dataclass(frozen=True)
class Compared(Record):
    """One type of namespace in several processes."""

    type: str
    #: In the order of `Comparison.names`; None where it may not be looked at.
    namespaces: tuple[NamespaceId | None, ...]

    @property
    def same(self) -> bool | None:
        """Whether all are in the same one; None where that cannot be told."""
        if None in self.namespaces:
            return None
        return len(set(self.namespaces)) == 1


@dataclass(frozen=True)
class Comparison(Record):
    """The eight rows, for two or more processes: the first is what the others are held against."""

    #: How the processes are called: ``"host"``, ``"pid 4711"``.
    names: tuple[str, ...]
    rows: tuple[Compared, ...]

    @property
    def different(self) -> tuple[str, ...]:
        """The types in which they differ."""
        return tuple(row.type for row in self.rows if row.same is False)


def compare(a: Target | Literal["self"], *others: Target | Literal["self"]) -> Comparison:
    """Hold the namespaces of one process against those of others.

    Each is a pid, an object that has one, or None or ``"self"`` for the caller. A `Process` that has ended still knows
    its own. Raises `ProcessLookupError` when there is no such process.

    >>> with nslab.spawn("uts pid", ["cat"], stdin=nslab.PIPE) as process:
    ...     nslab.compare(None, process).different
    ('pid', 'uts')
    """
    if not others:
        raise TypeError("compare takes at least two processes")
    found = [_look(target) for target in (a, *others)]
    kinds = names(Namespace.ALL)
    rows = (Compared(kind, tuple(namespaces.get(kind) for _, namespaces in found)) for kind in kinds)
    return Comparison(tuple(name for name, _ in found), tuple(rows))


def _look(target: Target | Literal["self"]) -> tuple[str, Mapping[str, NamespaceId]]:
    """Return how it is called, and what it is in; nothing where that may not be looked at."""
    if target is None or target == "self":
        with pinned(None) as process:
            return "host", namespaces_of(process)
    if isinstance(target, Process) and target.returncode is not None:
        return f"pid {target.pid}", target.namespaces
    with pinned(target) as process:
        name = f"pid {process.pid}"
        try:
            return name, namespaces_of(process)
        except PermissionError:
            return name, {}
