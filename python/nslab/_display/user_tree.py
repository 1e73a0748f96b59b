"""The user namespaces of a table as a tree, with the namespaces that each of them owns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .._inspect.ids import NamespaceId
from .._inspect.lsns import NamespaceInfo, NamespaceTable
from .labels import pid
from .options import options
from .text import several

# As many user namespaces that are alike are shown one by one.
_ALIKE = 3

# What holds a namespace in which there is no process.
_HOLDERS = {
    "thread": "a thread",
    "fd": "a descriptor",
    "mount": "a mount",
    "child": "a namespace below it",
}


class UserTree:
    """Who made whom, and what belongs to whom; a namespace that the table only mentions has no info."""

    def __init__(self, table: NamespaceTable) -> None:
        self.info: dict[NamespaceId, NamespaceInfo] = {}
        self.owned: dict[NamespaceId | None, list[NamespaceInfo]] = {}
        self._parents: dict[NamespaceId, NamespaceId | None] = {}
        for row in table:
            if row.type == "user":
                self.info[row.namespace] = row
                self._parents[row.namespace] = row.parent
            else:
                self.owned.setdefault(row.owner, []).append(row)
        for known in [*self._parents.values(), *self.owned]:
            if known is not None:
                self._parents.setdefault(known, None)
        self._cut_circles()
        self.children: dict[NamespaceId | None, list[NamespaceId]] = {}
        for namespace, parent in self._parents.items():
            self.children.setdefault(parent, []).append(namespace)

    def _cut_circles(self) -> None:
        # The kernel has none, but the table is not read at one moment, and inodes are used again.
        done: set[NamespaceId] = set()
        for start in self._parents:
            path: set[NamespaceId] = set()
            at: NamespaceId | None = start
            while at is not None and at not in done:
                path.add(at)
                above = self._parents[at]
                if above in path:
                    self._parents[at] = above = None
                at = above
            done |= path

    def walk(self, kind: Callable[[NamespaceId], object]) -> Iterator[tuple[int, list[NamespaceId]]]:
        """Return the user namespaces and their depth, a parent before its children.

        Siblings of the same kind are, but for the first, returned together, and what is below them is left out.
        """
        stack = [(0, those) for those in self._grouped(None, kind)[::-1]]
        while stack:
            depth, those = stack.pop()
            yield depth, those
            if len(those) == 1:
                stack += [(depth + 1, below) for below in self._grouped(those[0], kind)[::-1]]

    def _grouped(self, parent: NamespaceId | None, kind: Callable[[NamespaceId], object]) -> list[list[NamespaceId]]:
        kinds: dict[object, list[NamespaceId]] = {}
        for child in self.children.get(parent, []):
            kinds.setdefault(kind(child), []).append(child)
        grouped = []
        for alike in kinds.values():
            single = len(alike) if len(alike) <= _ALIKE + 1 else _ALIKE
            grouped += [[one] for one in alike[:single]] + [alike[single:]] * (len(alike) > single)
        return grouped


def first_process(row: NamespaceInfo | None) -> str:
    """Return the lowest pid in it and its command."""
    if row is None:
        return "not in this table"
    if row.pid is None:
        return ""
    return f"{pid(row.pid)} {row.command or ''}".rstrip()


def holder(row: NamespaceInfo | None) -> str:
    """Return what keeps it alive, if that is no process: ``"only a mount: /run/netns/blue"``."""
    if row is None or row.nprocs or "process" in row.held_by:
        return ""
    words = [_HOLDERS.get(kind, kind) for kind in row.held_by]
    if not words:
        return "held by nothing that can be seen"
    where = several(list(row.nsfs), 1)
    if not where and not options.stable and row.path:
        where = row.path
    return f"only {' and '.join(words)}{': ' if where else ''}{where}"


def made_by(row: NamespaceInfo | None) -> str:
    """Return the user who made a user namespace."""
    if row is None or row.owner_uid is None:
        return ""
    return f"uid {row.owner_uid}{' (root)' if row.owner_uid == 0 else ''}"
