"""`processes`: the tree of processes, with the pid on every level."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .. import _core
from .ids import NamespaceId, Row
from .record import Record
from .target import Target, pinned
from .visible import limits, proc


@dataclass(frozen=True)
class ProcessInfo(Record):
    """One process and its children."""

    #: The pid as the caller sees it.
    pid: int
    #: Its parent as the caller sees it; 0 when that is outside.
    ppid: int
    #: Its pid on every level, from the caller's pid namespace to its own (``NSpid``).
    pids: tuple[int, ...]
    #: The short name that the kernel keeps.
    name: str
    #: The command line, or the name in brackets for a kernel thread and for what has ended, as in ps(1).
    command: str
    #: ``"R"``, ``"S"``, ``"Z"``, … as in ps(1).
    state: str
    #: The effective user.
    uid: int
    #: What it is in, by type; empty where it may not be looked into.
    namespaces: Mapping[str, NamespaceId]
    #: Why something is missing here, or None.
    note: str | None
    #: Its children.
    children: tuple[ProcessInfo, ...]


@dataclass(frozen=True)
class ProcessTree(Record):
    """The processes below one or, without one, all that are visible."""

    #: The topmost processes.
    roots: tuple[ProcessInfo, ...]
    #: What may be missing and why, or None.
    note: str | None


def processes(target: Target = None) -> ProcessTree:
    """Read the process ``target`` and its descendants or, without one, all processes.

    ``target`` is a pid or an object that has one. Raises `ProcessLookupError` when there is no such process.

    >>> nslab.processes(os.getpid()).roots[0].pid == os.getpid()
    True
    """
    if target is None:
        with proc():
            rows, refused = _core.processes(None)
    else:
        with pinned(target) as process:
            rows, refused = _core.processes(process)
            if not rows:
                raise ProcessLookupError(errno.ESRCH, f"process {process.pid} has ended")
    return ProcessTree(_grow(rows), limits(len(refused) + sum(row[-1] is None for row in rows)))


def _grow(rows: list[tuple[Any, ...]]) -> tuple[ProcessInfo, ...]:
    """Return the topmost processes, made from the leaves up: a chain of parents may be long."""
    pids = {row[0] for row in rows}
    below: dict[int, list[tuple[Any, ...]]] = {}
    for row in sorted(rows):
        below.setdefault(row[1] if row[1] in pids else 0, []).append(row)
    order = below.pop(0, [])
    for row in order:
        order += below.get(row[0], [])
    made: dict[int, ProcessInfo] = {}
    seen: dict[Row, NamespaceId] = {}
    for row in reversed(order):
        children = tuple(made.pop(child[0]) for child in below.get(row[0], []))
        made[row[0]] = _info(row, children, seen)
    return tuple(made[pid] for pid in sorted(made))


def _info(row: tuple[Any, ...], children: tuple[ProcessInfo, ...], seen: dict[Row, NamespaceId]) -> ProcessInfo:
    """Make one; most are in the same few namespaces, so these are ``seen`` already."""
    pid, ppid, pids, name, command, state, uid, namespaces = row
    note = None
    if namespaces is None:
        note = "it may not be looked into"
    elif state == "Z":
        note = "it has ended, and its parent has not waited for it yet"
    return ProcessInfo(
        pid=pid,
        ppid=ppid,
        pids=tuple(pids),
        name=name,
        command=command or f"[{name}]",
        state=state,
        uid=uid,
        namespaces=MappingProxyType({found[0]: _seen(found, pid, seen) for found in namespaces or ()}),
        note=note,
        children=children,
    )


def _seen(row: Row, pid: int, seen: dict[Row, NamespaceId]) -> NamespaceId:
    if row not in seen:
        kind, dev, inode, number = row
        seen[row] = NamespaceId(kind, inode, dev, number, pid)
    return seen[row]
