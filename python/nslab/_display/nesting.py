"""Sorts a tree of processes into the pid namespaces they are in, nested as these are, and leaves out what repeats."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from .._inspect.ids import NamespaceId
from .._inspect.processes import ProcessInfo, ProcessTree

# Of siblings that are alike so many are shown; and so many processes in all.
_ALIKE = 2
_ROWS = 80


@dataclass
class Row:
    """One process, or, without one, how many are left out."""

    process: ProcessInfo | None
    #: How deep below the first in its box.
    depth: int
    #: The parent, where that is outside the box.
    outside: ProcessInfo | None = None
    #: How many processes are left out, and how many pid namespaces with them.
    more: tuple[int, int] = (0, 0)


@dataclass
class Box:
    """A pid namespace: its processes, and the boxes of those made in it, each below the process that made it."""

    namespace: NamespaceId | None
    #: How many namespaces it is in; 0 is the caller's own.
    level: int
    inner: list[Row | Box] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """Every row in it and in the boxes in it."""
        for item in self.inner:
            yield from (item.rows() if isinstance(item, Box) else [item])


def nest(tree: ProcessTree) -> Box:
    """Return the outermost box, the caller's own pid namespace, with all the others in it."""
    # Of some that are in it this cannot be read, such as a PID 1 that protects itself.
    own = (process.namespaces.get("pid") for process in every(tree.roots) if len(process.pids) == 1)
    nesting = _Nesting(tree, next(filter(None, own), None))
    nesting.add_siblings(tree.roots, None, nesting.outermost, 0)
    return nesting.outermost


def every(processes: Iterable[ProcessInfo]) -> Iterator[ProcessInfo]:
    """Every process and all below it, a parent before its children; they may be nested deeper than Python's stack."""
    waiting = [*processes][::-1]
    while waiting:
        process = waiting.pop()
        yield process
        waiting += reversed(process.children)


class _Nesting:
    def __init__(self, tree: ProcessTree, own: NamespaceId | None) -> None:
        self.outermost = Box(own, 0)
        self.boxes: dict[Hashable, Box] = {} if own is None else {own: self.outermost}
        self.left = _ROWS
        everyone = [*every(tree.roots)]
        self.shapes = _shapes(everyone, merge=len(everyone) > _ROWS)

    def add_siblings(self, siblings: tuple[ProcessInfo, ...], parent: ProcessInfo | None, box: Box, depth: int) -> None:
        seen: dict[int, int] = {}
        skipped = []
        for process in siblings:
            shape = self.shapes[id(process)]
            seen[shape] = seen.get(shape, 0) + 1
            if seen[shape] > _ALIKE or self.left <= 0:
                skipped.append(process)
            else:
                self.left -= 1
                self.add(process, parent, box, depth)
        if skipped:
            left_out = [*every(skipped)]
            inside = {process.namespaces.get("pid") for process in left_out} - {box.namespace, None}
            box.inner.append(Row(None, depth, more=(len(left_out), len(inside))))

    def add(self, process: ProcessInfo, parent: ProcessInfo | None, box: Box, depth: int) -> None:
        own = self.box_of(process, box)
        own.inner.append(Row(process, depth if own is box else 0, None if own is box else parent))
        self.add_siblings(process.children, process, own, depth + 1 if own is box else 1)

    def box_of(self, process: ProcessInfo, box: Box) -> Box:
        """Return the box of the process; if it is the first in its namespace, a new one in that of its parent."""
        namespace, level = process.namespaces.get("pid"), max(0, len(process.pids) - 1)
        if namespace == box.namespace or (namespace is None and level <= box.level):
            return box
        key: Hashable = ("unreadable", process.pid) if namespace is None else namespace
        if key not in self.boxes:
            self.boxes[key] = Box(namespace, level)
            box.inner.append(self.boxes[key])
        return self.boxes[key]


def _shapes(everyone: list[ProcessInfo], merge: bool) -> dict[int, int]:
    """Return a number for each process, the same for those of which a few are as good as all.

    With ``merge`` these are all that stay, with all below them, in the pid namespace of their parent.
    """
    numbers: dict[Hashable, int] = {}
    shapes: dict[int, int] = {}
    plain = numbers.setdefault("plain", 0)
    levels = {id(child): len(parent.pids) for parent in everyone for child in parent.children}
    for process in reversed(everyone):
        deeper = len(process.pids) - levels.get(id(process), len(process.pids))
        children = tuple(shapes[id(child)] for child in process.children)
        alike = (process.command, process.state, process.note, deeper, children)
        staying = merge and not deeper and all(child == plain for child in children)
        shapes[id(process)] = plain if staying else numbers.setdefault(alike, len(numbers))
    return shapes
