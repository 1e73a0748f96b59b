"""The killers: each function runs in a process of its own, which every orphan becomes a child of."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nslab

from . import sets, victims
from .held import WALL, Progress, children

PR_SET_CHILD_SUBREAPER = 36
# Seconds in which all must have ended; and after which we end what has not.
BAR, PATIENCE = 1.0, 30.0
# Seconds from the first thing that a victim does to its end, at most. Interpreters need longer to be there.
MOMENTS = {"kill_child": 0.03, "plain": 0.02, "owner": 0.06, "pool": 0.03, "caller": 0.3, "shell": 0.1}

Found = dict[str, Any]


def of_a_parent(victim: str, count: int, seed: int) -> Found:
    """Fork a victim, kill it at a random moment, and see what of it survives."""
    found, lives = _begin(), 0
    for moments, what in _each(victim, count, seed):
        before = victims.remnants()
        pid, told = _forked(getattr(victims, victim), moments)
        with os.fdopen(told) as lines:
            lines.readline()
            time.sleep(moments.uniform(0, MOMENTS[victim]))
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            os.waitpid(pid, 0)
            # The pipe is at its end now: no child has got the other end.
            living = [int(line) for line in lines]
        if victim == "plain":
            dead = [one for one in living if not _lives(one)]
            found["survived"] += [f"{what}: {dead} should live on"] if dead else []
            lives += len(living) - len(dead)
            for one in children():
                os.kill(one, signal.SIGKILL)
            killed = time.monotonic()
        _reap(found, killed, what)
        found["left"] += [f"{what}: {one}" for one in victims.left(before)]
    return {**found, "lives": lives} if victim == "plain" else found


def of_a_hosts_init(_: str, count: int, seed: int) -> Found:
    """Kill what keeps a host alive, while programs are started in it: closing it ends the others."""
    found = _begin()
    kinds = [flags for flags in sets.every_set() if flags]
    for moments, what in _each("host", count, seed):
        before, flags = victims.remnants(), moments.choice(kinds)
        host = nslab.Host(flags, name=f"{victims.prefix(os.getpid())}0", **sets.options_of(flags))
        end = time.monotonic() + moments.uniform(0, 0.02)
        with contextlib.suppress(nslab.SpawnError):
            while True:
                host.spawn(["sh", "-c", "sleep 600 & sleep 600"])
                if time.monotonic() > end:
                    break
        os.kill(host.pid, signal.SIGKILL)
        with contextlib.suppress(nslab.SpawnError):
            host.spawn(["sleep", "600"])
        # Without a pid namespace the others live on until now.
        host.close()
        closed = time.monotonic()
        found["survived"] += [f"{what}: it says that it is alive"] if host.alive else []
        del host
        _reap(found, closed, f"{what} {flags}")
        found["left"] += [f"{what}: {one}" for one in victims.left(before)]
    return found


def of_an_init(_: str, count: int, seed: int) -> Found:
    """Kill the init above a program: the kernel ends the program, and that is what its status says."""
    found = _begin()
    for moments, what in _each("init", count, seed):
        before = victims.remnants()
        process = nslab.spawn("pid", ["sh", "-c", "sleep 600 & sleep 600"], init=True)
        (init,) = children()
        time.sleep(moments.uniform(0, 0.005))
        os.kill(init, signal.SIGKILL)
        killed = time.monotonic()
        if (status := process.wait(PATIENCE)) != -signal.SIGKILL:
            found["survived"].append(f"{what}: status {status}")
        del process
        _reap(found, killed, what)
        found["left"] += [f"{what}: {one}" for one in victims.left(before)]
    return found


def of_a_worker(_: str, count: int, seed: int) -> Found:
    """Kill a worker of an executor: its function fails, the others do not, and another worker takes its place."""
    found = _begin()
    for moments, what in _each("worker", count, seed):
        before = victims.remnants()
        with nslab.Executor("uts", max_workers=2) as executor:
            pids = {future.result(30) for future in [executor.submit(os.getpid) for _ in range(2)]}
            tasks = [executor.submit(time.sleep, 0.02) for _ in range(4)]
            time.sleep(moments.uniform(0, 0.06))
            with contextlib.suppress(ProcessLookupError):
                # Not ours to reap, so the number is its own as long as it is among our children.
                os.kill(next(pid for pid in pids if pid in children()), signal.SIGKILL)
            outcomes = [_outcome(task) for task in tasks]
            if outcomes.count("WorkerDied") > 1 or set(outcomes) - {"None", "WorkerDied"}:
                found["survived"].append(f"{what}: {outcomes}")
            if executor.submit(abs, -1).result(30) != 1:
                found["survived"].append(f"{what}: no other worker")
        _reap(found, time.monotonic(), what)
        found["left"] += [f"{what}: {one}" for one in victims.left(before)]
    return found


def of_a_call(_: str, count: int, seed: int) -> Found:
    """Kill the interpreter of a call: it raises `WorkerDied`, or `SpawnError` if that was not there yet."""
    found = _begin()
    for moments, what in _each("call", count, seed):
        before = victims.remnants()
        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(_kill_child, os.getpid(), moments.uniform(0, 0.15), _lives)
            try:
                nslab.call("uts pid", os.system, "sleep 600", timeout=30)
                found["survived"].append(f"{what}: it returned")
            except nslab.WorkerDied as error:
                found["survived"] += [] if error.returncode == -signal.SIGKILL else [f"{what}: {error}"]
            except nslab.SpawnError as error:
                found["survived"] += [] if error.signal == signal.SIGKILL else [f"{what}: {error}"]
        _reap(found, killed.result(), what)
        found["left"] += [f"{what}: {one}" for one in victims.left(before)]
    return found


def _kill_child(parent: int, moment: float, which: Callable[[int], object]) -> float:
    """Wait for such a child, kill it a moment later, and return when; what never had one says itself why."""
    deadline = time.monotonic() + PATIENCE
    while not (found := [pid for pid in children(parent) if which(pid)]) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(moment)
    for pid in found[:1]:
        os.kill(pid, signal.SIGKILL)
    return time.monotonic()


_TESTS = """
import os, pytest

@pytest.mark.namespaces("uts pid")
def test_killed():
    open({started!r}, "w").close()
    os.system("sleep 600")

@pytest.mark.namespaces("uts")
def test_other():
    pass
"""


def of_a_test(_: str, count: int, seed: int) -> Found:
    """Kill the child that runs a marked test: that test fails, the next one passes."""
    found = _begin()
    for moments, what in _each("test", count, seed):
        before = victims.remnants()
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "test_it.py")
            started = Path(directory, "started")
            file.write_text(_TESTS.format(started=str(started)))
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", str(file)]
            with subprocess.Popen(command, stdout=-1, stderr=subprocess.STDOUT, text=True, cwd=directory) as tests:
                while not started.exists() and tests.poll() is None:
                    time.sleep(0.001)
                # Another holds the namespaces, and has no children.
                _kill_child(tests.pid, moments.uniform(0, 0.1), children)
                output, _ = tests.communicate()
        if "1 failed, 1 passed" not in output or "SIGKILL" not in output:
            found["survived"].append(f"{what}: {output[-1000:]}")
        # The other test has run since.
        _reap(found, time.monotonic(), what)
        found["left"] += [f"{what}: {one}" for one in victims.left(before)]
    return found


# ------------------------------------------------------------------------------------------------------------ killing


def _begin() -> Found:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # What is started once per process, and modules.
    assert nslab.run("uts", ["true"], kill_child=True).returncode == 0
    victims.remnants()
    return {"survived": [], "left": [], "slowest": 0.0}


def _each(name: str, count: int, seed: int) -> Iterator[tuple[random.Random, str]]:
    with Progress(f"kill {name}", count) as progress:
        for number in range(count):
            yield random.Random(f"{seed} {name} {number}"), f"number {number}"
            progress.step()


def _forked(victim: Callable[[random.Random, victims.Tell], None], moments: random.Random) -> tuple[int, int]:
    """Return the pid, and a pipe in which it says that it has begun, and then what lives on."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            victim(moments, lambda number: os.write(write, f"{number}\n".encode()))
        finally:
            # It was to be killed before.
            os._exit(1)
    os.close(write)
    return pid, read


def _lives(pid: int) -> bool:
    return children().get(pid, "Z") not in "ZX"


def _reap(found: Found, killed: float, what: str) -> None:
    """Wait until there is no child any more; whoever is there after a second has survived."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG | WALL)[0] == 0:
                if time.monotonic() - killed > PATIENCE:
                    break
                time.sleep(0.001)
        except ChildProcessError:
            break
    took = time.monotonic() - killed
    found["slowest"] = max(found["slowest"], took)
    if took > BAR:
        left = children()
        found["survived"].append(f"{what}: {took:.1f} s, {[_command(pid) for pid in left]}")
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return str(pid)


def _outcome(task: Future[None]) -> str:
    try:
        return str(task.result(30))
    except nslab.WorkerDied:
        return "WorkerDied"
    except Exception as error:
        return repr(error)
