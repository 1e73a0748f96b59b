"""`processes`: the tree of processes, with the pid on every level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


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
    #: The command line, or the name in brackets for a kernel thread.
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
