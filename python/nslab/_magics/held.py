"""The namespaces of a child, held open: what they contain can still be looked at when the child has ended."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nslab

# A pid namespace ends with its init: there is nothing left to enter.
_MORTAL = {"pid"}


class Held:
    """Descriptors of the namespaces that a process has of its own, until `release`."""

    def __init__(self, process: nslab.Process) -> None:
        # A cycle would keep the namespaces until the garbage collector comes.
        self._process = weakref.ref(process)
        own, theirs, self._files = nslab.namespaces(os.getpid()), process.namespaces, dict[str, int]()
        for kind, namespace in theirs.items():
            if namespace != own.get(kind) and kind not in _MORTAL:
                # A program that has ended already has left them.
                with suppress(OSError):
                    self._files[kind] = os.open(f"/proc/{process.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        #: Its pid on every level, from the caller's to its own.
        self.pids = (process.pid,) if theirs.get("pid") == own.get("pid") else _pids(process.pid)
        self.release = weakref.finalize(self, _close, self._files)

    @property
    def is_init(self) -> bool:
        """Whether it is PID 1 of a pid namespace: with it all in there end."""
        return len(self.pids) > 1 and self.pids[-1] == 1

    @property
    def types(self) -> tuple[str, ...]:
        """What is held."""
        return tuple(self._files)

    @contextmanager
    def looker(self) -> Iterator[int]:
        """Give the pid of a process in these namespaces: the child itself, or when it has ended one that waits there.

        Raises `ProcessLookupError` when nothing of it is left.
        """
        process = self._process()
        if process is not None and process.poll() is None:
            yield process.pid
            return
        if not self._files:
            raise ProcessLookupError(f"process {self.pids[0]} has ended, and nothing of its namespaces is left")
        waits = nslab.spawn(
            0, ["cat"], join=list(self._files.values()), stdin=nslab.PIPE, stdout=nslab.DEVNULL, kill_child=True
        )
        try:
            yield waits.pid
        finally:
            waits.kill()
            waits.communicate()


def _pids(pid: int) -> tuple[int, ...]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return tuple(map(int, line.split()[1:]))
    return (pid,)


def _close(files: dict[str, int]) -> None:
    while files:
        os.close(files.popitem()[1])
