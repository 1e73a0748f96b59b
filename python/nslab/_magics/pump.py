"""Reading what a child writes: as it arrives, in the calling thread, with an eye on its end."""

from __future__ import annotations

import codecs
import os
import select
import time
from collections.abc import Callable, Mapping
from typing import IO

import nslab

from .screen import Screen

Sink = Callable[[str], object]

# What is on its way when the child ends (the `cat` of a `> >(cat)`) still belongs to it; a daemon that keeps the
# pipes open must not hold the cell.
_LINGER = 0.1
# Of a pipe, see pipe(7).
_CAPACITY = 1 << 16


class Pump:
    """The pipes of a child, and where their text goes: each has an incremental decoder, so no character is cut."""

    def __init__(self, process: nslab.Process, sinks: Mapping[str, Sink], screen: Screen | None = None) -> None:
        self._process = process
        self._sinks = dict(sinks)
        self._screen = screen or Screen()
        self._pipes: dict[int, tuple[str, IO[bytes], codecs.IncrementalDecoder]] = {}
        self._poll = select.poll()
        for name in sinks:
            pipe: IO[bytes] = getattr(process, name)
            self._pipes[pipe.fileno()] = name, pipe, codecs.getincrementaldecoder("utf-8")("replace")
            self._poll.register(pipe, select.POLLIN)
        self._poll.register(process, select.POLLIN)
        self._ended = False

    @property
    def open(self) -> bool:
        """Whether somebody may still write."""
        return bool(self._pipes)

    def run(self, timeout: float | None = None, linger: float | None = _LINGER) -> bool:
        """Pass the text on until the child has ended; return False when the ``timeout``, in seconds, is over first.

        ``linger`` is how long to wait for others who hold its pipes, when it has ended; None is until they let go.
        """
        deadline = _after(linger if self._ended else timeout)
        try:
            while self._pipes or not self._ended:
                for fd in self._wait(deadline):
                    if fd in self._pipes:
                        self._read(fd)
                    else:
                        self._end()
                        deadline = _after(linger)
                if deadline is not None and time.monotonic() >= deadline:
                    break
        finally:
            self._screen.flush()
        return self._ended

    def _wait(self, deadline: float | None) -> list[int]:
        """Return which descriptors are ready; none when the time is over."""
        first = min((moment for moment in (deadline, self._screen.due) if moment is not None), default=None)
        # Rounded up: poll(2) would come back a moment too early.
        left = None if first is None else max(0.0, first - time.monotonic()) * 1000
        events = self._poll.poll(left and left + 1)
        self._screen.flush_if_due()
        return [fd for fd, _ in events]

    def _read(self, fd: int) -> None:
        name, pipe, decoder = self._pipes[fd]
        data = os.read(fd, _CAPACITY)
        if not data:
            self._poll.unregister(fd)
            del self._pipes[fd]
            pipe.close()
        if text := decoder.decode(data, final=not data):
            self._sinks[name](text)

    def redirect(self, sink: Callable[[str], Sink]) -> None:
        """Pass the text of each stream on to ``sink(its name)`` from now on."""
        self._sinks = {name: sink(name) for name in self._sinks}

    def _end(self) -> None:
        """Read what the child left in its pipes: no more than one read takes, whatever others go on to write."""
        self._poll.unregister(self._process)
        self._ended = True
        for fd, _ in self._poll.poll(0):
            self._read(fd)

    def close(self) -> None:
        """Let go of the pipes: who writes gets SIGPIPE."""
        while self._pipes:
            fd, (_, pipe, _) = self._pipes.popitem()
            self._poll.unregister(fd)
            pipe.close()


def _after(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds
