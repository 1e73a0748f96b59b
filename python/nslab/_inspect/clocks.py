"""`clocks`: what a process reads from the clocks that a time namespace shifts."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from .. import _core
from .ids import NamespaceId
from .record import Record
from .target import Target, namespace_of, pinned


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


def clocks(target: Target = None) -> Clocks:
    """Read the clocks as a process has them.

    ``target`` is a pid, an object that has one, or None for the caller. Raises `ProcessLookupError` when there is no
    such process, `OSError` when it has other clocks than its children, and nobody else has them.

    >>> with nslab.spawn("time", ["cat"], monotonic=1000, stdin=nslab.PIPE) as process:
    ...     (nslab.clocks(process).monotonic - nslab.clocks().monotonic) // 10**9 in (999, 1000)
    True
    """
    with pinned(target) as process:
        try:
            (monotonic_offset, boottime_offset), (monotonic, boottime), realtime = _core.clocks(process)
        except OSError as error:
            if error.errno == errno.ENODATA:
                error.strerror = (
                    f"no process shows the clock offsets of process {process.pid}: its children have others"
                )
            raise
        namespace = namespace_of(process, "time")
    return Clocks(namespace, process.pid, monotonic_offset, boottime_offset, monotonic, boottime, realtime)
