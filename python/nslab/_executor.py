"""`Executor`: a `concurrent.futures.Executor` whose functions run inside namespaces."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import weakref
from concurrent.futures import Executor as AnyExecutor
from concurrent.futures import Future

from ._crew import Crew, Work
from ._interpreter import STREAMS, checked
from ._lock import Condition
from ._spawn import plan
from ._task import name_of, task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, TypeVar

    from ._namespace import Flags
    from ._task import Message

    T = TypeVar("T")


class Executor(AnyExecutor):
    """A `concurrent.futures.Executor` whose workers are fresh Pythons inside namespaces.

    ``flags`` and the other options are those of `spawn`: each worker gets namespaces of its own. There are up to
    ``max_workers`` (as many as this process may use CPUs), started when they are needed and used again; with ``fresh``
    each gets one function. ``initializer(*initargs)`` is called first in each. ``timeout`` is what a function may take,
    in seconds; then it is killed, as by `call`. Functions are sent as by `call`; standard input is empty.

    A future raises what its function raised, with the traceback there as the cause; `WorkerDied` if the function ended
    its worker, while the others go on; `SpawnError`; `TimeoutError`; `pickle.PicklingError`. What could never work is
    a `ValueError` or `TypeError` from here. The workers end with this process (``kill_child=True``).

    >>> with nslab.Executor("uts", max_workers=2, hostname="lab") as executor:
    ...     executor.submit(os.uname).result().nodename
    'lab'
    """

    def __init__(
        self,
        flags: Flags,
        max_workers: int | None = None,
        *,
        fresh: bool = False,
        timeout: float | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        if max_workers is None:
            max_workers = len(os.sched_getaffinity(0))
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if timeout is not None and timeout <= 0:
            raise ValueError("timeout must be greater than 0 seconds")
        options = {"stdin": subprocess.DEVNULL, **checked(options)}
        # The streams are checked already, and a plan would open them.
        plan(flags, [sys.executable], **{name: options[name] for name in options.keys() - STREAMS})
        first = task(initializer, initargs, {}) if initializer is not None else None
        self._crew = Crew(flags, options, max_workers, fresh=fresh, timeout=timeout, first=first)
        # As in `concurrent.futures`: who forgets it need not shut it down.
        weakref.finalize(self, self._crew.abandon).atexit = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called by a worker; return its `concurrent.futures.Future`.

        Raises `RuntimeError` after `shutdown`, and in a process that is a fork of the executor's.
        """
        future: Future[T] = _Future()
        try:
            message = fn.task(*args) if isinstance(fn, _Chunk) else task(fn, args, kwargs)
        except Exception as error:
            future.set_exception(error)
        else:
            self._crew.submit(Work(future, name_of(fn), message))
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[T]:
        """Call ``fn`` for each, ``chunksize`` of them in one go; the rest is as `concurrent.futures.Executor.map`."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **more)
        rows = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(rows, chunksize)), [])
        return itertools.chain.from_iterable(super().map(_Chunk(fn), chunks, timeout=timeout, **more))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more, and end the workers once all is done; ``cancel_futures`` drops what has not been started."""
        self._crew.close(cancel=cancel_futures)
        if wait:
            self._crew.join()

    def kill_workers(self) -> None:
        """Kill the workers, whose futures raise `WorkerDied`, and drop what has not been started."""
        self._crew.close(cancel=True, kill=True)
        self._crew.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # After an interrupt nobody wants to wait for what runs; and the workers have not seen the ^C.
            if kind is None or issubclass(kind, Exception):
                self.shutdown()
            else:
                self.kill_workers()
        except BaseException:
            self.kill_workers()
            raise


class _Future(Future):  # type: ignore[type-arg] # Any is there for the checker only
    """An exception out of a signal handler, in `result` for one, leaves no lock for which the thread would wait."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = Condition()


class _Chunk:
    """What `Executor.map` submits: several calls in one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__qualname__ = name_of(function)

    def task(self, rows: list[tuple[Any, ...]]) -> Message:
        return task(self._function, rows, {}, chunk=True)

    __call__: Callable[..., list[Any]]
