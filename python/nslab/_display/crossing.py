"""What crosses from one mount namespace to another: their mounts in rows, linked where a peer group joins them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .._inspect.ids import NamespaceId
from .._inspect.mounts import Mount, MountDiff, Mounts
from .labels import name
from .palette import Look, look
from .text import several

# More cannot be read beside each other, or below.
_COLUMNS = 5
_ROWS = 16
# So many new mounts of one kind are told one by one.
_NEW = 4

Cell = tuple[Mount, ...]


class Column(NamedTuple):
    """A mount namespace."""

    #: What is in it: usually one name.
    names: tuple[str, ...]
    look: Look
    mounts: tuple[Mount, ...]
    #: The mounts that a diff calls new, by number; None where there is no diff.
    added: frozenset[int] | None
    removed: tuple[Mount, ...]
    #: How many others are connected in the same way.
    more: int = 0

    @property
    def name(self) -> str:
        """What to call it."""
        return several(list(self.names), 2)


class Link(NamedTuple):
    """What one column mounts appears in the other, and, if ``both``, the other way round."""

    start: int
    end: int
    both: bool
    group: int


class Row(NamedTuple):
    """The mounts that belong together: of one family of peer groups or, unconnected, at one place."""

    #: By column; the first of a cell stands for the others.
    cells: tuple[Cell, ...]
    links: tuple[Link, ...]
    #: The columns in which it is new.
    new: tuple[int, ...]
    #: Where it was mounted, if it appeared elsewhere too.
    origin: int | None
    #: The places of others that are connected in the same way.
    more: tuple[str, ...] = ()

    @property
    def first(self) -> Mount:
        """A mount that stands for the row."""
        return self.cells[self.origin][0] if self.origin is not None else next(cell[0] for cell in self.cells if cell)


class Crossing(NamedTuple):
    """What the picture shows."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    #: Namespaces and rows that are not shown.
    left_out: int
    hidden: int


def crossing(given: Sequence[Mounts], diffs: Sequence[MountDiff], names: Sequence[str]) -> Crossing:
    """Arrange the namespaces in columns, and their mounts in rows."""
    columns = _columns(given, diffs, names)
    shown = _folded(columns)
    families = Families(shown)
    rows = list(_alike([*_connected(shown, families), *_unconnected(shown, families)]))
    covered = sum(column.more + 1 for column in shown)
    return Crossing(tuple(shown), tuple(rows[:_ROWS]), len(columns) - covered, len(rows[_ROWS:]))


def _columns(given: Sequence[Mounts], diffs: Sequence[MountDiff], names: Sequence[str]) -> list[Column]:
    known: dict[object, Mounts] = {}
    called: dict[object, list[str]] = {}
    for index, mounts in enumerate(given):
        key: object = mounts.namespace or (index, mounts.pid)
        known[key] = mounts
        called.setdefault(key, []).append(names[index] if index < len(names) else _name(mounts))
    over_time = [diff for diff in diffs if _place(diff.before) == _place(diff.after)]
    for diff in diffs:
        for mounts in (diff.after,) if diff in over_time else (diff.before, diff.after):
            key = _key(known, mounts)
            # A diff knows the later state.
            known[key] = mounts
            called.setdefault(key, [_name(mounts)])
    added = {_key(known, diff.after): diff for diff in over_time}
    return [
        Column(
            tuple(dict.fromkeys(called[key])),
            look(mounts.namespace),
            mounts.mounts,
            frozenset(mount.id for mount in added[key].added) if key in added else None,
            added[key].removed if key in added else (),
        )
        for key, mounts in known.items()
    ]


def _name(mounts: Mounts) -> str:
    return "host" if look(mounts.namespace).host else name(f"pid {mounts.pid}")


def _place(mounts: Mounts) -> NamespaceId | int:
    return mounts.namespace or mounts.pid


def _key(known: dict[object, Mounts], mounts: Mounts) -> object:
    if mounts.namespace:
        return mounts.namespace
    same = (key for key, other in known.items() if other.namespace is None and other.pid == mounts.pid)
    return next(same, ("diff", mounts.pid))


def _folded(columns: list[Column]) -> list[Column]:
    """Let one column stand for all that are connected in the same way, if there are too many."""
    if len(columns) <= _COLUMNS:
        return columns
    families = Families(columns)
    kinds: dict[object, list[Column]] = {}
    for index, column in enumerate(columns):
        crosses = ((families.crossing(mount), mount.propagation) for mount in column.mounts)
        kind: object = frozenset(item for item in crosses if item[0] is not None)
        # The first is what the others are held against, and a diff is about one namespace.
        kinds.setdefault(index if index == 0 or column.added is not None else kind, []).append(column)
    shown = [kind[0]._replace(more=len(kind) - 1) for kind in kinds.values()]
    return shown[:_COLUMNS]


class Families:
    """Peer groups, joined to a family where one is the master of another."""

    def __init__(self, columns: Iterable[Column]) -> None:
        columns = list(columns)
        self._visible = {mount.shared for column in columns for mount in column.mounts} - {None}
        self._parent: dict[int, int] = {}
        for column in columns:
            for mount in column.mounts:
                source = self.source(mount)
                if mount.shared is not None and source is not None:
                    self._parent[self._top(mount.shared)] = self._top(source)
        self._spread: dict[int, set[int]] = {}
        for index, column in enumerate(columns):
            for mount in column.mounts:
                if (family := self._of(mount)) is not None:
                    self._spread.setdefault(family, set()).add(index)

    def source(self, mount: Mount) -> int | None:
        """Return the group from which it receives, if one of its members is here."""
        groups = (mount.master, mount.propagate_from)
        return next((group for group in groups if group is not None and group in self._visible), None)

    def crossing(self, mount: Mount) -> int | None:
        """Return the family of ``mount`` if it reaches into several columns."""
        family = self._of(mount)
        return family if family is not None and len(self._spread[family]) > 1 else None

    def _of(self, mount: Mount) -> int | None:
        group = mount.shared if mount.shared is not None else self.source(mount)
        return None if group is None else self._top(group)

    def _top(self, group: int) -> int:
        while (above := self._parent.get(group, group)) != group:
            self._parent[group] = self._parent.get(above, above)
            group = above
        return group


def _connected(columns: list[Column], families: Families) -> Iterator[Row]:
    members: dict[int, list[list[Mount]]] = {}
    for index, column in enumerate(columns):
        for mount in column.mounts:
            if (family := families.crossing(mount)) is not None:
                members.setdefault(family, [[] for _ in columns])[index].append(mount)
    for cells in members.values():
        new = _new(columns, cells)
        links = tuple(_links(families, cells))
        yield Row(tuple(map(tuple, cells)), links, new, _origin(cells, new, links))


def _links(families: Families, cells: list[list[Mount]]) -> Iterator[Link]:
    peers: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        for group in dict.fromkeys(mount.shared for mount in cell if mount.shared is not None):
            peers.setdefault(group, []).append(index)
    pairs = set()
    for group, at in peers.items():
        for start, end in itertools.pairwise(at):
            if (start, end) not in pairs:
                pairs.add((start, end))
                yield Link(start, end, True, group)
    for index, cell in enumerate(cells):
        for mount in cell:
            source = families.source(mount)
            # Of a group that is a slave, one arrow is enough: its peers have it from each other.
            if source is None or (mount.shared is not None and peers[mount.shared][0] != index):
                continue
            start = min(peers[source], key=lambda at: abs(at - index))
            if start != index and not {(start, index), (index, start)} & pairs:
                pairs.add((start, index))
                yield Link(start, index, False, source)


def _new(columns: list[Column], cells: list[list[Mount]]) -> tuple[int, ...]:
    """Return the columns in which the row is new: where no diff says so, as the other columns have it."""
    told = {
        index: any(mount.id in added for mount in cell)
        for index, cell in enumerate(cells)
        if cell and (added := columns[index].added) is not None
    }
    if told and all(told.values()):
        return tuple(index for index, cell in enumerate(cells) if cell)
    return tuple(index for index, new in told.items() if new)


def _origin(cells: list[list[Mount]], new: tuple[int, ...], links: tuple[Link, ...]) -> int | None:
    """Return where it was mounted, if it is new everywhere."""
    if not new or len(new) < sum(map(bool, cells)):
        return None
    takers = {link.end for link in links if not link.both}
    # The kernel numbers a mount before the copies that propagation makes of it, with the lowest free number.
    return min(new, key=lambda index: (index in takers, cells[index][0].id))


def _unconnected(columns: list[Column], families: Families) -> Iterator[Row]:
    places: dict[tuple[str, int], list[Cell]] = {}
    for index, column in enumerate(columns):
        apart = (mount for mount in column.mounts if families.crossing(mount) is None)
        nth: dict[str, int] = {}
        for mount in apart:
            nth[mount.target] = nth.get(mount.target, 0) + 1
            places.setdefault((mount.target, nth[mount.target]), [() for _ in columns])[index] = (mount,)
    for cells in places.values():
        new = [i for i, cell in enumerate(cells) if cell and cell[0].id in (columns[i].added or ())]
        yield Row(tuple(cells), (), tuple(new), None)


def _alike(rows: list[Row]) -> Iterator[Row]:
    """Fold the rows that tell the same, and put first what connects, then what is new."""
    kinds: dict[object, list[Row]] = {}
    for row in rows:
        links = frozenset(link[:3] for link in row.links)
        kind = (links, tuple(cell[0].propagation if cell else "" for cell in row.cells), row.new, row.origin)
        kinds.setdefault(kind, []).append(row)

    def order(row: Row) -> int:
        if row.new:
            return 2
        return 0 if row.links else 1 if sum(map(bool, row.cells)) > 1 else 3

    for first, *others in sorted(kinds.values(), key=lambda rows: order(rows[0])):
        if first.new and len(others) < _NEW:
            yield from (first, *others)
        else:
            yield first._replace(more=tuple(dict.fromkeys(row.first.target for row in others)))
