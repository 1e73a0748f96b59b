"""`Pool`: the expensive namespaces, made before somebody needs them."""

from __future__ import annotations

import atexit
import errno
import os
import subprocess
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue

from . import _core, _spawn
from ._errors import SpawnError
from ._lone import LoneThread
from ._namespace import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUSER, parse_flags
from ._process import OPTIONS, Process, _take_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from ._namespace import Flags
    from ._spawn import Argv

# These cost more to make than to enter, and a descriptor keeps them. A pid namespace cannot be entered before it has
# an init; the others are cheap.
_KEPT = CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUSER
# What is said to them when they are made; everything else is said at each spawn.
_AT_MAKING = {"map_root_user", "map_current_user", "map_users", "map_groups", "setgroups", "loopback"}

# Seconds without a taker after which the thread fills up. While somebody spawns it would only be in the way.
_QUIET = 0.005
# The kernel takes a network namespace away long after its end, and counts it until then (user.max_net_namespaces).
_FIRST_PAUSE, _LONGEST_PAUSE, _PATIENCE = 0.001, 0.25, 10.0


class Pool:
    """Fresh namespaces in stock: `spawn` joins a set that nobody has used, and costs half of making one.

    ``flags`` and ``options`` are those of `nslab.spawn`; ``size`` is how many sets a thread keeps ready. In stock are
    net, ipc, and the user namespace that owns them; the rest is made at each spawn, for that costs no more than
    entering it. A pool is a context manager, used from any thread; `close` forgets the stock, and programs run on.

    The kernel counts a network namespace until it has taken it away, some time after its end. At that limit (ENOSPC) a
    pool waits for it, up to 10 seconds; `nslab.spawn` does not, and names the limit.

    Raises what `nslab.spawn` raises for the first set, and `ValueError` for flags without net, ipc and user.

    >>> with nslab.Pool("user net pid", size=2, map_root_user=True) as pool:
    ...     pool.spawn(["sh", "-c", "test $$ = 1"]).wait()
    0
    """

    def __init__(self, flags: Flags, *, size: int = 4, **options: Any) -> None:
        unknown = sorted(options.keys() - (OPTIONS.keys() - {"join"}))
        if unknown:
            raise TypeError(f"{unknown[0]} is no option of a pool: give it to pool.spawn()")
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        bits = parse_flags(flags)
        if not bits & _KEPT:
            raise ValueError("a pool keeps net, ipc and user namespaces; the others cost no more to make than to enter")
        # Everything is checked before anything is made.
        _spawn.plan(bits, ["true"], **options)
        making = _take_own({name: options[name] for name in options.keys() & _AT_MAKING})
        self._flags = bits & ~_KEPT
        self._options = {name: options[name] for name in options.keys() - _AT_MAKING}
        self._stock = _Stock(bits & _KEPT, making, size)
        _open.add(self)
        # Only now: what an interrupt leaves half made is closed with its last reference.
        self._stock.start()

    @property
    def ready(self) -> int:
        """How many sets are in stock."""
        return 0 if self._stock.closed else self._stock.sets.qsize()

    def spawn(self, argv: Argv, **options: Any) -> Process:
        """Execute a program in namespaces that are new to everybody; ``options`` are those of `nslab.spawn`.

        Those for namespaces were given to the pool. With an empty stock it waits for the thread. Raises what
        `nslab.spawn` raises, and `ValueError` once the pool is closed.
        """
        options = self._with_own(options)
        fresh = self._stock.take()
        try:
            process = Process.__new__(Process)
            process._make(argv, (), self._flags, {**options, "join": fresh})
        finally:
            self._stock.used(fresh)
        process._known = True
        return process

    def run(self, argv: Argv, **options: Any) -> subprocess.CompletedProcess[Any]:
        r"""Run a program as `spawn` does, wait for it; ``options`` and what is returned are those of `nslab.run`.

        >>> with nslab.Pool("user net uts", size=1, map_root_user=True, hostname="lab") as pool:
        ...     pool.run(["uname", "-n"], capture_output=True, text=True).stdout
        'lab\n'
        """
        options = self._with_own(options)
        fresh = self._stock.take()
        try:
            return _spawn.run(self._flags, argv, **options, join=fresh)
        finally:
            self._stock.used(fresh)

    def _with_own(self, options: dict[str, Any]) -> dict[str, Any]:
        own = sorted(options.keys() & (OPTIONS.keys() - {"kill_child"}))
        if own:
            raise TypeError(f"{own[0]} belongs to the namespaces: give it to nslab.Pool()")
        return {**self._options, **options}

    def close(self) -> None:
        """Stop the thread and forget the stock; do nothing the second time."""
        self._stock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_stock"):
            self.close()

    def __repr__(self) -> str:
        return f"<Pool: {'closed' if self._stock.closed else f'{self.ready} ready'}>"


# Those that nobody has closed.
_open: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Stop their threads while Python still runs threads."""
    for pool in list(_open):
        pool.close()


class _Stock:
    """The sets, and the thread that makes them; it does not keep the pool alive."""

    def __init__(self, bits: int, options: dict[str, Any], size: int) -> None:
        self._bits, self._options = bits, options
        self._owner = os.getpid()
        self._size = size
        # Queues in C: after a program has run, every line of Python is cold and costs as much as a system call.
        self.sets: SimpleQueue[_core.Held | Exception] = SimpleQueue()
        # Each says no more than to look: one that an interrupt has swallowed is made good by the next.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._closed: ValueError | None = None
        self._thread = LoneThread("nslab-pool")
        # The first is made here, so that what the kernel refuses is raised to whom it concerns.
        self.sets.put(_core.hold(bits, options))
        self._bell.put(None)

    def start(self) -> None:
        self._thread.start(self._replenish)

    @property
    def closed(self) -> bool:
        return self._closed is not None

    def take(self) -> _core.Held:
        """Wait for a set, which is the caller's then; raise what the kernel said if it makes none."""
        try:
            fresh = self.sets.get_nowait()
        except Empty:
            if self._owner != os.getpid():
                raise RuntimeError("a pool is of the process that made it: a fork has no thread to fill it") from None
            self._bell.put(None)
            fresh = self.sets.get()
        if isinstance(fresh, _core.Held):
            return fresh
        # For the next one who asks: that it is closed, or a new try.
        if self.closed:
            self.sets.put(fresh)
        else:
            self._bell.put(None)
        raise fresh

    def used(self, fresh: _core.Held) -> None:
        """Forget a set, whose namespaces now end with their program, and have it replaced."""
        fresh.close()
        self._bell.put(None)

    def _replenish(self) -> None:
        while not self.closed:
            self._bell.get()
            # Let takers go first, as long as there is something to take.
            with suppress(Empty):
                while not self.sets.empty():
                    self._bell.get(timeout=_QUIET)
            self._fill()

    def _fill(self) -> None:
        while self.sets.qsize() < self._size and not self.closed:
            made = self._make()
            self.sets.put(made)
            if isinstance(made, Exception):
                return

    def _make(self) -> _core.Held | Exception:
        """Return a set; or why there is none, for ENOSPC only after the kernel had the time to take old ones away."""
        pause, end = _FIRST_PAUSE, time.monotonic() + _PATIENCE
        while True:
            try:
                return _core.hold(self._bits, self._options)
            except Exception as error:
                full = isinstance(error, SpawnError) and error.errno == errno.ENOSPC
                if not full or self.closed or time.monotonic() > end:
                    return error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        # Again, all of it: the first time may have been interrupted anywhere.
        self._closed = self._closed or ValueError("the pool is closed")
        self._bell.put(None)
        if self._owner == os.getpid() and not self._thread.prevent():
            self._thread.join()
        with suppress(Empty):
            while True:
                fresh = self.sets.get_nowait()
                if isinstance(fresh, _core.Held):
                    fresh.close()
        self.sets.put(self._closed)
