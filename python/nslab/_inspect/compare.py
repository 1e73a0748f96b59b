"""`compare`: which of the eight two processes share."""

from __future__ import annotations

from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


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
