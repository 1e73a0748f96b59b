"""Moves one thread into namespaces of a host, and back."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from . import _core
from ._namespace import names, parse_flags
from ._process import entered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from ._host import Host

_NEVER = {
    "pid": "setns(2) would move the thread's children only, and let it start no further thread",
    "user": "the kernel moves no process with several threads into a user namespace, and none back",
    "time": "the kernel moves no process with several threads into a time namespace",
}


class Entered(_core.Leaving):
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
        self._back: list[tuple[_core.Fd, int]] = []
        self._places: list[_core.Fd] = []
        #: What it enters: a descriptor for each type.
        self.namespaces: dict[str, _core.Fd] = {}
        self._thread = 0

    def __enter__(self) -> Self:
        if self._thread:
            raise RuntimeError("this block has been entered already")
        [(pidfd, *_)] = self._host._to_join()
        # What starts inside for all of the process must not be inside.
        _core.start_keeper()
        own = [f"/proc/thread-self/ns/{kind}" for kind in self._kinds]
        bits = [parse_flags(kind) for kind in self._kinds]
        theirs = self._host.namespaces
        try:
            if "mnt" in self._kinds:
                self._places = [_core.Fd(os.open, place, os.O_PATH | os.O_DIRECTORY) for place in ("/", ".")]
            self._back = [(_core.Fd(os.open, path, os.O_RDONLY), bit) for path, bit in zip(own, bits, strict=True)]
            self.namespaces = {kind: _core.Fd(_core.open_namespace, *theirs[kind].key()) for kind in self._kinds}
            if self._places:
                # The kernel moves nobody whose root and directory are shared with other threads.
                _core.unshare_fs()
            _core.setns(pidfd, self._bits)
            self._thread = threading.get_ident()
            _stack().append(self)
        except BaseException:
            # Where it was refused, so is the way back, which then is not needed.
            with suppress(OSError):
                self._return()
            self._close()
            raise
        return self

    def _leave(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a thread moves only itself back: leave the block in the thread that entered it")
        # For the second time it may not be there any more.
        if self in _stack():
            if _stack()[-1] is not self:
                raise RuntimeError("the thread has entered another namespace since: leave that block first")
            self._return()
        self._close()

    def _return(self) -> None:
        if self._places:
            # Again: a thread that was started inside shares them.
            _core.unshare_fs()
        for fd, bit in self._back:
            _core.setns(fd.fileno(), bit)
        if self._places:
            self._restore_directories()
        if self in _stack():
            _stack().remove(self)

    def _restore_directories(self) -> None:
        """Entering a mount namespace has put the thread at its root."""
        root, directory = (place.fileno() for place in self._places)
        if not os.path.samestat(os.lstat("/"), os.fstat(root)):
            os.fchdir(root)
            os.chroot(".")
        os.fchdir(directory)

    def _close(self) -> None:
        self._back, self._places, self.namespaces = [], [], {}


def _stack() -> list[Entered]:
    """Return what the calling thread is inside of, the innermost last."""
    if not hasattr(entered, "stack"):
        entered.stack = []
    stack: list[Entered] = entered.stack
    return stack


def joining(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a spawn for a child that another thread clones: it must get into what this one is in."""
    inside: dict[str, _core.Fd] = {}
    for each in _stack():
        inside.update(each.namespaces)
    join = options.get("join")
    where = {} if "mnt" not in inside or options.get("cwd") is not None else {"cwd": Path.cwd()}
    return {**options, **where, "join": [*inside.values(), *([] if join is None else [join])]}
