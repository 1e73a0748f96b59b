"""Exceptions out of signal handlers at random moments: what the call had made is gone, or in somebody's hand."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from types import FrameType
from typing import Any

import nslab

from .held import children, descriptors

Call = Callable[[], object]

# Seconds for what an interrupted call has killed, or left to a thread of its own.
_PATIENCE = 30.0
# Between one exception and the next of a handler that raises again and again.
_PAUSES = 2e-4, 2e-3
_ROOT: dict[str, Any] = {"map_root_user": True}


def _executor() -> object:
    with nslab.Executor("uts", max_workers=1) as executor:
        return executor.submit(os.getpid).result()


def _host() -> object:
    with nslab.Host("user uts", name=f"proof-{os.getpid()}", **_ROOT) as host:
        return host.run(["true"]).returncode


def _pool() -> object:
    with nslab.Pool("user ipc", size=2, **_ROOT) as pool:
        return pool.run(["true"]).returncode


@contextlib.contextmanager
def _on_a_host() -> Iterator[Call]:
    with nslab.Host("user uts pid", **_ROOT) as host:
        yield partial(host.spawn, ["cat"], stdin=nslab.PIPE)


@contextlib.contextmanager
def _on_a_pool() -> Iterator[Call]:
    with nslab.Pool("user ipc", size=2, **_ROOT) as pool:
        while pool.ready < 2:
            time.sleep(0.001)
        yield partial(pool.spawn, ["cat"], stdin=nslab.PIPE)


def _pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@contextlib.contextmanager
def _on_an_executor() -> Iterator[Call]:
    with nslab.Executor("uts", max_workers=2) as executor:
        # Both are there from now on; one that an interrupt costs is replaced.
        while len(set(executor.map(_pid_after, [0.1, 0.1]))) < 2:
            pass
        yield partial(executor.submit, abs, -1)


# `cat` reads what nobody writes, see `watched`, so a child that is lost would stay. What returns a process is no
# function of ours: in that, an interrupt could come when nslab has given it away and we do not have it yet.
CALLS: dict[str, Call | Callable[[], contextlib.AbstractContextManager[Call]]] = {
    "spawn": partial(nslab.spawn, "uts", ["cat"], hostname="lab", stdin=nslab.PIPE),
    "spawn, plain": partial(nslab.spawn, "uts", ["cat"]),
    "spawn with kill_child": partial(nslab.spawn, "pid", ["cat"], kill_child=True, stdin=nslab.PIPE),
    "spawn with init": partial(nslab.spawn, "pid", ["cat"], init=True, stdin=nslab.PIPE),
    "Popen": partial(nslab.Popen, ["cat"], flags="uts", stdin=-1, stdout=-1, stderr=-1),
    "run": partial(nslab.run, "uts", ["true"]),
    "run with pipes": partial(nslab.run, "uts", ["cat"], input=b"in", capture_output=True),
    "run with a timeout": lambda: _timed_out(),
    "call": partial(nslab.call, "uts", os.getpid),
    "Executor": _executor,
    "Executor.submit": _on_an_executor,
    "Host": _host,
    "Host.spawn": _on_a_host,
    "Pool": _pool,
    "Pool.spawn": _on_a_pool,
}
# For comparison.
SUBPROCESS = {"subprocess.Popen": partial(subprocess.Popen, ["cat"], stdin=-1, stdout=-1, stderr=-1)}


def _timed_out() -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        nslab.run("uts", ["cat"], timeout=0.003)


def interrupted(name: str, count: int, seed: int) -> dict[str, Any]:
    """Interrupt this call once each time, by KeyboardInterrupt."""
    return _at_random(name, count, seed, KeyboardInterrupt, again=False)


class HandlerError(Exception):
    """What the handler raises."""


def raising(count: int, seed: int) -> dict[str, Any]:
    """Have a handler raise again and again, while a spawn is made and while what it made is taken back."""
    return _at_random("spawn, plain", count, seed, HandlerError, again=True)


def _at_random(name: str, count: int, seed: int, kind: type[BaseException], *, again: bool) -> dict[str, Any]:
    def handle(_: int, frame: FrameType | None, is_in_it: bool = False) -> None:
        # Python may call this late: only the call is interrupted, and not what ends it and looks after it.
        while frame and frame.f_code is not _interrupt.__code__:
            frame, is_in_it = frame.f_back, True
        if frame and is_in_it:
            raise kind

    signal.signal(signal.SIGALRM, handle)
    # What a destructor raises cannot be caught.
    sys.unraisablehook = lambda _: None
    moments = random.Random(f"{name} {seed}")
    result: dict[str, Any] = {"times": 0, "lost": [], "wrong": [], "left": [], "pipes": 0}
    with contextlib.ExitStack() as stack:
        call: Any = {**CALLS, **SUBPROCESS}[name]
        if hasattr(call, "__wrapped__"):
            call = stack.enter_context(call())
        ours, fds = set(children()), descriptors()
        usual = statistics.median(_time(call) for _ in range(7))
        gc.collect()
        gc.freeze()
        for number in range(count):
            moment, pause, made = moments.uniform(1e-6, 1.2 * usual), moments.uniform(*_PAUSES), list[Any]()
            result["times"] += _interrupt(call, made, kind, moment, pause if again else 0)
            _finish(made)
            what = f"interrupt {number}, after {moment:.6f} s (seed {seed})"
            for pid in _lost(ours, 0.05 if name in SUBPROCESS else _PATIENCE):
                result["left"].append(f"{what}: child {pid}")
                ours.add(pid)
            if more := _more(fds):
                fds += more
                result["pipes"] += more.pop("pipe", 0)
                result["left"] += [f"{what}: descriptors of {dict(more)}"] if more else []
    return result


def _time(call: Call) -> float:
    began, made = time.perf_counter(), [call()]
    took = time.perf_counter() - began
    _finish(made)
    return took


def _interrupt(call: Call, made: list[Any], kind: type[BaseException], moment: float, pause: float) -> bool:
    """Call it, and return whether it was interrupted; what it returns is put into ``made``."""
    try:
        signal.setitimer(signal.ITIMER_REAL, moment, pause)
        # Called from C, to which no signal handler comes between the return and our having it.
        made.extend(itertools.starmap(call, [()]))
    except kind:
        return True
    except RuntimeError as error:
        # In `threading.Condition`, as in Future.result, the exception is followed by one about its lock.
        if isinstance(error.__context__, kind):
            return True
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False


def _finish(made: list[Any]) -> None:
    for process in made:
        if isinstance(process, subprocess.Popen):
            process.kill()
            process.communicate()
        elif isinstance(process, Future):
            assert process.result(30) == 1
    made.clear()


def _lost(ours: set[int], patience: float) -> set[int]:
    """Return the children that should have ended by now; what has been killed is reaped by the next Popen."""
    deadline = time.monotonic() + patience
    while True:
        gc.collect()
        subprocess._cleanup()  # type: ignore[attr-defined]
        now = set(children())
        if len(now) <= len(ours):
            return set()
        if time.monotonic() > deadline:
            return now - ours
        time.sleep(0.001)


def _more(fds: Counter[str]) -> Counter[str]:
    """Return what is open above that; a thread may just be using one, but a pipe that `subprocess` has lost stays."""
    began = time.monotonic()
    while more := descriptors() - fds:
        if time.monotonic() - began > (0.5 if set(more) == {"pipe"} else _PATIENCE):
            break
        time.sleep(0.001)
    return more
