"""`clocks`: what a process reads from the clocks that a time namespace shifts."""

from __future__ import annotations

from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


@dataclass(frozen=True)
class Clocks(Record):
    """The clocks as one process has them, in nanoseconds, all read at one moment; see time_namespaces(7)."""

    #: The time namespace, or None where it may not be looked at.
    namespace: NamespaceId | None
    pid: int
    #: The offsets against the initial time namespace.
    monotonic_offset: int
    boottime_offset: int
    #: What `time.clock_gettime_ns` returns in that process.
    monotonic: int
    boottime: int
    #: The wall clock: no namespace shifts it.
    realtime: int
