"""Moves one thread into namespaces of a host, and back."""

from __future__ import annotations

import os
import threading

from . import _core
from ._namespace import names, parse_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ._host import Host

_NEVER = {
    "pid": "setns(2) would move the thread's children only, and let it start no further thread",
    "user": "the kernel moves no process with several threads into a user namespace, and none back",
    "time": "the kernel moves no process with several threads into a time namespace",
}

_entered = threading.local()


class Entered:
    """What `Host.enter` returns: the thread is inside during the ``with`` block."""

    def __init__(self, host: Host, bits: int) -> None:
        kinds = names(bits)
        if not kinds:
            raise ValueError("enter needs at least one of cgroup, ipc, mnt, net, uts")
        for kind in kinds:
            if kind in _NEVER:
                raise ValueError(f"enter({kind!r}): {_NEVER[kind]} (use host.run, host.spawn or host.call)")
            if not bits & host._bits & parse_flags(kind):
                raise ValueError(f"enter({kind!r}): the host has no {kind} namespace of its own")
        if host._is_found():
            raise ValueError(
                "enter: only the process that made a host enters it with a thread, for whoever is inside when a host "
                "ends is ended too (use host.run or host.spawn)"
            )
        self._host, self._bits, self._kinds = host, bits, kinds
        self._back: list[tuple[int, int]] = []
        self._places: list[int] = []
        self._thread = 0

    def __enter__(self) -> Self:
        if self._thread:
            raise RuntimeError("this block has been entered already")
        [(pidfd, *_)] = self._host._to_join()
        try:
            for kind in self._kinds:
                fd = os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY)
                self._back.append((fd, parse_flags(kind)))
            if "mnt" in self._kinds:
                self._places = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in ("/", ".")]
                # The kernel moves nobody whose root and directory are shared with other threads.
                _core.unshare_fs()
            _core.setns(pidfd, self._bits)
        except BaseException:
            self._close()
            raise
        self._thread = threading.get_ident()
        _stack().append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a thread moves only itself back: leave the block in the thread that entered it")
        if _stack()[-1] is not self:
            raise RuntimeError("the thread has entered another namespace since: leave that block first")
        _stack().pop()
        try:
            for fd, bit in self._back:
                _core.setns(fd, bit)
            if self._places:
                self._restore_directories()
        finally:
            self._close()

    def _restore_directories(self) -> None:
        """Entering a mount namespace has put the thread at its root."""
        root, directory = self._places
        if not os.path.samestat(os.lstat("/"), os.fstat(root)):
            os.fchdir(root)
            os.chroot(".")
        os.fchdir(directory)

    def _close(self) -> None:
        for fd in [*(fd for fd, _ in self._back), *self._places]:
            os.close(fd)
        self._back, self._places = [], []


def _stack() -> list[Entered]:
    """Return what the calling thread is inside of, the innermost last."""
    if not hasattr(_entered, "stack"):
        _entered.stack = []
    stack: list[Entered] = _entered.stack
    return stack
