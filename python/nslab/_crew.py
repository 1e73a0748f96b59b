"""The workers of an `Executor`, and the one thread that looks after them."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import selectors
import sys
import time
import weakref
from collections import deque

from ._died import WorkerDied
from ._interpreter import Interpreter
from ._lock import Lock
from ._lone import LoneThread
from ._task import outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

    from ._task import Message


class Work:
    """A function that a future waits for."""

    __slots__ = ("future", "is_running", "message", "name")

    def __init__(self, future: Future[Any], name: str, message: Message) -> None:
        self.future = future
        self.name = name
        self.message = message
        self.is_running = False

    def begin(self) -> bool:
        """Return False if it has been cancelled."""
        # Once more, if the first worker died before it had read it.
        self.is_running = self.is_running or self.future.set_running_or_notify_cancel()
        return self.is_running


class Worker(Interpreter):
    """An interpreter with at most one function at a time."""

    work: Work | None = None
    deadline: float | None = None
    is_late = False
    # Whether the next answer is that of the initializer.
    is_initializing = False
    has_answered = False
    is_retired = False


class Crew:
    """Up to ``size`` workers and what they have to do.

    Whoever submits sends to an idle worker himself. All else, the selector above all, is the thread's; the lock is for
    who is idle and what is pending.
    """

    def __init__(
        self,
        flags: Any,
        options: dict[str, Any],
        size: int,
        *,
        fresh: bool,
        timeout: float | None,
        first: Message | None,
    ) -> None:
        self._flags = flags
        self._options = options
        self._size = size
        self._fresh = fresh
        self._timeout = timeout
        self._first = first
        self._lock = Lock()
        self._pending: deque[Work] = deque()
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._closing = self._killing = self._ended = False
        self._thread = LoneThread("nslab.Executor")
        self._selector = selectors.DefaultSelector()
        # A file object: who rings after its end must not reach another file that has got the number.
        # In C from the opening to our having it, so that no exception of a signal handler comes between.
        (self._bell,) = map(io.FileIO, map(os.eventfd, [0], [os.EFD_CLOEXEC | os.EFD_NONBLOCK]), ["w"])
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._owner = os.getpid()
        _crews.add(self)

    # ------------------------------------------------------------------------------------- called from any thread

    def submit(self, work: Work) -> None:
        """Have it done. Raises `RuntimeError` after `close`, and in a fork, where there is no thread for it."""
        if not self._is_here():
            raise RuntimeError("this executor belongs to another process: make one after the fork")
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._thread.start(self._run)
            if self._idle and not self._pending:
                worker = self._idle[-1]
                try:
                    work.begin()
                    self._give(worker, work)
                    self._idle.pop()
                except BaseException:
                    # Nobody knows how much of it was sent.
                    with contextlib.suppress(ValueError):
                        self._idle.remove(worker)
                    worker.kill()
                    raise
                if not (worker.is_sending or worker.deadline):
                    return
            else:
                self._pending.append(work)
        self._ring()

    def close(self, *, cancel: bool = False, kill: bool = False) -> None:
        """Take no more work."""
        if not self._is_here():
            return
        dropped: list[Work] = []
        with self._lock:
            self._closing = True
            self._killing = self._killing or kill
            if cancel:
                dropped, self._pending = list(self._pending), deque()
            self._end_or_ring()
        for work in dropped:
            if work.future.cancel():
                work.future.set_running_or_notify_cancel()

    def abandon(self) -> None:
        """Take no more work: called by the garbage collector, in the middle of anything, so without the lock."""
        if self._closing or not self._is_here():
            return
        self._closing = True
        self._end_or_ring()

    def _end_or_ring(self) -> None:
        if self._thread.prevent():
            self._end()
        if not self._ended:
            self._ring()

    def join(self) -> None:
        """Wait until the workers have ended."""
        self._thread.join()

    def _is_here(self) -> bool:
        return os.getpid() == self._owner

    def _ring(self) -> None:
        # After the end there is nobody to hear it; and one that was not heard yet is enough.
        with contextlib.suppress(ValueError, OSError):
            self._bell.write((1).to_bytes(8, sys.byteorder))

    def _give(self, worker: Worker, work: Work, before: Message | None = None) -> None:
        worker.work = work
        if self._timeout is not None:
            worker.deadline = time.monotonic() + self._timeout
        worker.send(before or work.message)

    # ------------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._has_nothing_left():
                for key, events in self._selector.select(self._left()):
                    if key.data is None:
                        os.eventfd_read(self._bell.fileno())
                    else:
                        self._advance(key.data, events)
        finally:
            # Nothing is left, unless what was raised is our own fault; then nobody must wait for ever.
            with self._lock:
                self._closing = True
                left, self._pending = list(self._pending), deque()
            for worker in self._workers:
                left += [worker.work] if worker.work else []
                worker.close()
            self._workers.clear()
            with self._lock:
                self._end()
            for work in left:
                work.future.set_exception(WorkerDied("the executor has failed"))

    def _has_nothing_left(self) -> bool:
        """Give out what can be given out; return whether the thread has nothing left to do."""
        self._expire()
        self._give_out()
        with self._lock:
            for worker in self._workers:
                if worker.is_sending:
                    worker.watch_sending()
            if not self._closing:
                return False
            while self._idle:
                self._retire(self._idle.pop())
            if self._killing:
                for worker in self._workers:
                    worker.kill()
            return not self._workers and not self._pending

    def _give_out(self) -> None:
        while (work := self._next()) is not None:
            self._hire(work)

    def _next(self) -> Work | None:
        """Give pending work to those who are idle; return what needs another worker."""
        with self._lock:
            while self._pending:
                busy = sum(not worker.is_retired for worker in self._workers) - len(self._idle)
                if busy >= self._size:
                    return None
                work = self._pending.popleft()
                if not work.begin():
                    continue
                if not self._idle:
                    return work
                self._give(self._idle.pop(), work)
        return None

    def _hire(self, work: Work) -> None:
        worker = Worker(self._selector)
        try:
            worker.start(self._flags, self._options)
        except BaseException as error:
            worker.close()
            work.future.set_exception(error)
            return
        # Ours from here on, and not that of a forked process, where its last reference would kill it.
        worker.process._known = True
        self._workers.add(worker)
        worker.is_initializing = self._first is not None
        # Then the function waits until the initializer has returned.
        self._give(worker, work, self._first)

    def _advance(self, worker: Worker, events: int) -> None:
        try:
            while (answer := worker.advance(events)) is not None:
                self._answered(worker, answer)
        except Exception as error:
            # What it sends makes no sense, or it cannot be shown.
            self._fail(worker, error)
            worker.kill()
        if worker.process.returncode is not None:
            self._gone(worker)

    def _answered(self, worker: Worker, answer: list[bytearray]) -> None:
        if worker.is_initializing:
            worker.is_initializing = False
            try:
                outcome(answer)
            except BaseException as error:
                broken = WorkerDied(f"the initializer failed: {error}")
                broken.__cause__ = error
                self._fail(worker, broken)
                self._retire(worker)
            if worker.work is not None:
                self._give(worker, worker.work)
            return
        work, worker.work, worker.deadline, worker.has_answered = worker.work, None, None, True
        if self._fresh:
            self._retire(worker)
        else:
            with self._lock:
                self._idle.append(worker)
        # Before the answer is loaded and its future's callbacks run.
        self._give_out()
        if work is not None:
            _settle(work, answer)

    def _retire(self, worker: Worker) -> None:
        """Let it end as any program does."""
        worker.is_retired = True
        worker.let_go()

    def _fail(self, worker: Worker, error: BaseException) -> None:
        work, worker.work = worker.work, None
        if work is not None:
            work.future.set_exception(error)

    def _gone(self, worker: Worker) -> None:
        with self._lock:
            self._workers.discard(worker)
            with contextlib.suppress(ValueError):
                self._idle.remove(worker)
            if worker.work and worker.deaf and worker.has_answered and not self._killing:
                # It died of something else, before it had read this.
                self._pending.appendleft(worker.work)
                worker.work = None
        worker.close()
        if worker.work is not None:
            name = "the initializer" if worker.is_initializing else worker.work.name
            late = f"{name} did not return within {self._timeout} seconds"
            self._fail(worker, TimeoutError(late) if worker.is_late else WorkerDied.of(worker, name))

    def _left(self) -> float | None:
        """Return the seconds to the next deadline."""
        deadlines = [worker.deadline for worker in self._workers if worker.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _expire(self) -> None:
        for worker in self._workers:
            if worker.deadline is not None and worker.deadline <= time.monotonic():
                worker.deadline, worker.is_late = None, True
                worker.kill()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._selector.close()
            self._bell.close()


def _settle(work: Work, answer: list[bytearray]) -> None:
    try:
        value = outcome(answer)
    except BaseException as error:
        work.future.set_exception(error)
    else:
        work.future.set_result(value)


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


@atexit.register
def _finish() -> None:
    """Let what has been submitted be done, as `concurrent.futures` does, unless this program ends by an interrupt."""
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for crew in list(_crews):
        crew.close(cancel=interrupted, kill=interrupted)
        crew.join()
