"""The lock of executors, pictures and background output: whatever a signal handler raises, it is left unlocked."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from interrupting import interrupted_at

from nslab._lock import Condition, Lock

SECONDS = 30.0


class HandlerError(Exception):
    """What the handler raises."""


def _try(lock: Any) -> bool:
    """Return whether another thread can take it."""
    got: list[bool] = []

    def take() -> None:
        got.append(lock.acquire(blocking=False))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return got[0]


def test_one_thread_at_a_time() -> None:
    lock = Lock()
    with lock:
        assert not _try(lock)
    assert _try(lock)


def test_what_the_body_raises_comes_out_and_leaves_it_unlocked() -> None:
    lock = Lock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert _try(lock)


def test_nobody_takes_it_twice() -> None:
    lock = Lock()
    with lock:
        with pytest.raises(RuntimeError, match="signal handler"), lock:
            pass
        assert not _try(lock)
    assert _try(lock)


def test_a_condition_waits_with_it() -> None:
    changed, ready = Condition(), False

    def tell() -> None:
        nonlocal ready
        with changed:
            ready = True
            changed.notify_all()

    thread = threading.Thread(target=tell)
    with changed:
        thread.start()
        assert changed.wait_for(lambda: ready, SECONDS)
    thread.join()


@pytest.mark.parametrize("make", [Lock, Condition])
def test_an_interrupt_at_any_moment_leaves_it_unlocked(make: Callable[[], Any]) -> None:
    lock = make()

    def use() -> None:
        with lock:
            time.monotonic()

    moment = 0
    while interrupted_at(use, moment):
        assert _try(lock), moment
        moment += 1
    assert moment > 0


def test_exceptions_of_a_signal_handler_leave_it_unlocked() -> None:
    """On CPython 3.14 more than half of them would leave a `threading.Lock` locked."""
    lock, is_armed, came = Lock(), False, 0

    def handle(*_: object) -> None:
        if is_armed:
            raise HandlerError

    moments, usual = random.Random(1), signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(2000):
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-6, 3e-5))
            try:
                is_armed = True
                for _ in range(300):
                    with lock:
                        pass
                is_armed = False
            except HandlerError:
                is_armed = False
                came += 1
            # Its own next `with` would say so too.
            assert not lock._is_owned()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    assert came > 100
