"""The part of a process tree that is in one pid namespace or below it."""

from __future__ import annotations

from dataclasses import replace

from .ids import NamespaceId
from .processes import ProcessInfo, ProcessTree


def within(tree: ProcessTree, namespace: NamespaceId) -> ProcessTree:
    """Return the processes of this pid namespace and of those below it.

    One whose parent is outside is a topmost one; one that may not be looked into is where its parent is.
    """
    below = {namespace: True}
    order = list(tree.roots)
    for info in order:
        order += info.children  # While it grows: parents come before their children, however long the chain is.
    inside: set[int] = set()
    for info in order:
        own = info.namespaces.get("pid")
        if info.ppid in inside if own is None else _is_below(own, below):
            inside.add(info.pid)
    made: dict[int, ProcessInfo] = {}
    for info in reversed(order):
        if info.pid in inside:
            children = tuple(made.pop(child.pid) for child in info.children if child.pid in inside)
            made[info.pid] = replace(info, children=children)
    return ProcessTree(tuple(made[pid] for pid in sorted(made)), tree.note)


def _is_below(namespace: NamespaceId, known: dict[NamespaceId, bool]) -> bool:
    if namespace not in known:
        try:
            parent = namespace.parent
        except OSError:
            parent = None
        known[namespace] = parent is not None and _is_below(parent, known)
    return known[namespace]
