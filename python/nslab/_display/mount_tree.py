"""The mounts of a namespace as the nodes of a tree, in the order in which they are drawn; the many alike are folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .._inspect.mounts import Mount, MountDiff, Mounts

# More rows than this cannot be read: what is alike is folded, and then what comes last.
_LONG = 40
_ROWS = 120
_ALIKE = 3


class Node(NamedTuple):
    """A row of the tree: a mount, or (``folded``) what stands for several."""

    mount: Mount | None
    depth: int
    folded: str = ""
    #: ``"added"``, ``"removed"`` or empty.
    state: str = ""
    #: If it changed: what it was.
    before: Mount | None = None
    #: It is on the whole of its parent.
    covers: bool = False
    #: A path no longer leads to it.
    hidden: bool = False


def tree(of: Mounts, diff: MountDiff | None) -> list[Node]:
    """Return the rows of the tree, at most about a hundred."""
    forest = _Forest(of, diff)
    nodes: list[Node] = []
    for node in forest.nodes():
        if len(nodes) == _ROWS:
            left = forest.count - sum(node.mount is not None for node in nodes)
            nodes.append(Node(None, 0, f"and {left} more mounts"))
            break
        nodes.append(node)
    return nodes


class _Forest:
    """Mounts by their place in a list: first those that are there, then those that are gone."""

    def __init__(self, of: Mounts, diff: MountDiff | None) -> None:
        removed = diff.removed if diff else ()
        added = {mount.id for mount in diff.added} if diff else set()
        self._before = {change.after.id: change.before for change in diff.changed} if diff else {}
        self._mounts = [*of.mounts, *removed]
        self.count = len(self._mounts)
        self._state = ["added" if mount.id in added else "" for mount in of.mounts] + ["removed"] * len(removed)
        self._parent = self._parents(of, diff)
        self._cut_circles()
        self._children: list[list[int]] = [[] for _ in self._mounts]
        for at, parent in enumerate(self._parent):
            if parent is not None:
                self._children[parent].append(at)
        self._order = list(self._walk())
        self._hidden = self._find_hidden()
        self._kept = self._find_kept() if diff else None

    def _parents(self, of: Mounts, diff: MountDiff | None) -> list[int | None]:
        """Hang what is gone on the same mount as before, or, in another namespace, on what is at the same place."""
        known = {mount.id: at for at, mount in enumerate(of.mounts)}
        parents = [known.get(mount.parent) for mount in of.mounts]
        if diff is None:
            return parents
        gone = {mount.id: len(of.mounts) + at for at, mount in enumerate(diff.removed)}
        before = {mount.id: mount.target for mount in diff.before.mounts}
        places = {mount.target: at for at, mount in enumerate(of.mounts)}
        one = diff.before.namespace == diff.after.namespace
        for mount in diff.removed:
            parent = gone.get(mount.parent, known.get(mount.parent) if one else None)
            parents.append(places.get(before.get(mount.parent, "")) if parent is None else parent)
        return parents

    def _cut_circles(self) -> None:
        # The kernel has none, but a list is not read at one moment, and ids are used again.
        done: set[int] = set()
        for start in range(self.count):
            path: set[int] = set()
            at: int | None = start
            while at is not None and at not in done:
                path.add(at)
                above = self._parent[at]
                if above in path:
                    self._parent[at] = above = None
                at = above
            done |= path

    def _walk(self) -> Iterator[int]:
        stack = [at for at, parent in enumerate(self._parent) if parent is None][::-1]
        while stack:
            at = stack.pop()
            yield at
            stack += self._children[at][::-1]

    def _find_hidden(self) -> set[int]:
        """Return the mounts to which no path leads: they, or what they are on, are covered."""
        lost: set[int] = set()
        covers: set[int] = set()
        for top in self._order:
            place = self._mounts[top].target
            below = self._children[top]
            covered = {self._mounts[at].target for at in below if self._state[at] != "removed"}
            if place in covered:
                covers.add(top)
            for at in below:
                target = self._mounts[at].target
                # What covers the whole of a mount hides all else that is on it.
                aside = place in covered and target != place
                if top in lost or aside or any(above in covered for above in _above(target, place)):
                    lost.add(at)
        return lost | covers

    def _find_kept(self) -> set[int]:
        """Return what a diff is about, and what that is on."""
        kept: set[int] = set()
        for start in self._order:
            at: int | None = start if self._state[start] or self._mounts[start].id in self._before else None
            while at is not None and at not in kept:
                kept.add(at)
                at = self._parent[at]
        return kept

    def nodes(self) -> Iterator[Node]:
        """Return the rows, a parent before what is on it."""
        roots = [at for at in self._order if self._parent[at] is None]
        stack: list[tuple[int | None, Node]] = self._rows(roots, 0)[::-1]
        while stack:
            at, node = stack.pop()
            yield node
            if at is not None:
                stack += self._rows(self._children[at], node.depth + 1)[::-1]

    def _rows(self, places: list[int], depth: int) -> list[tuple[int | None, Node]]:
        """Return the rows of what is on one mount, those that are alike folded into the last of their kind."""
        shown, folded = self._fold(places)
        rows: list[tuple[int | None, Node]] = [(at, self._node(at, depth)) for at in shown]
        return rows + [(None, Node(None, depth, words)) for words in folded]

    def _node(self, at: int, depth: int) -> Node:
        mount, state, parent = self._mounts[at], self._state[at], self._parent[at]
        covers = parent is not None and self._mounts[parent].target == mount.target
        before = None if state else self._before.get(mount.id)
        return Node(mount, depth, "", state, before, covers, at in self._hidden)

    def _fold(self, places: list[int]) -> tuple[list[int], list[str]]:
        if self._kept is not None:
            same = sum(self._size(at) for at in places if at not in self._kept)
            return [at for at in places if at in self._kept], [f"{same} unchanged"] if same else []
        if self.count <= _LONG:
            return places, []
        seen: Counter[str] = Counter()
        shown = []
        for at in places:
            leaf = not self._children[at]
            fstype = self._mounts[at].fstype
            seen[fstype] += leaf
            if not leaf or seen[fstype] <= _ALIKE:
                shown.append(at)
        return shown, [f"and {count - _ALIKE} more {kind}" for kind, count in seen.items() if count > _ALIKE]

    def _size(self, top: int) -> int:
        count, stack = 0, [top]
        while stack:
            count += 1
            stack += self._children[stack.pop()]
        return count


def _above(target: str, top: str) -> Iterator[str]:
    """Return the directories between ``top`` and ``target``."""
    parts = target.rstrip("/").split("/")
    for length in range(len(parts) - 1, 1, -1):
        path = "/".join(parts[:length])
        if len(path) <= len(top):
            return
        yield path
