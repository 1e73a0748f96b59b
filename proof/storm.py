"""Many at once: threads, forks, an event loop, a second interpreter; each function runs in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nslab

from .held import held, left, settled

# Of a kind, "lost" or "wrong": what was found, and what was expected.
Answer = tuple[str, object, object]

# Flags, options, and what a shell prints then.
MIX: list[tuple[str, dict[str, Any], str, str]] = [
    ("", {}, "echo {}", "{}"),
    ("uts", {"hostname": "{}"}, "uname -n", "{}"),
    ("uts", {"hostname": "{}", "kill_child": True}, "uname -n", "{}"),
    ("pid uts", {"hostname": "{}", "init": True}, "echo $(uname -n) $$", "{} 2"),
    ("user uts", {"map_root_user": True, "hostname": "{}"}, "echo $(uname -n) $(id -u)", "{} 0"),
    ("user uts", {"map_users": [(0, 0, 5)], "map_groups": [(0, 0, 5)], "hostname": "{}"}, "uname -n", "{}"),
    ("mnt pid", {"mount_proc": True}, "read pid rest < /proc/self/stat; echo $pid {}", "1 {}"),
    ("ipc cgroup time", {"monotonic": 1000}, "awk '/mono/ {{print $2}}' /proc/self/timens_offsets", "1000"),
    ("uts", {"join": "/proc/self/ns/ipc", "hostname": "{}", "user": 65534}, "echo $(uname -n) $(id -u)", "{} 65534"),
    ("net uts", {"hostname": "{}", "loopback": True}, "uname -n", "{}"),
]


def threads(count: int, each: int) -> dict[str, Any]:
    """Spawn from so many threads, while a timer signals a thousand times a second and another thread allocates."""
    before, signals, end = _before(), 0, threading.Event()

    def count_signal(*_: object) -> None:
        nonlocal signals
        signals += 1

    signal.signal(signal.SIGALRM, count_signal)
    allocator = threading.Thread(target=_allocate, args=(end,))
    allocator.start()
    # So that the one which allocates does not have the interpreter nearly all the time.
    sys.setswitchinterval(0.0002)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        with ThreadPoolExecutor(count) as pool:
            tasks = [(thread, each) for thread in range(count)]
            answers = [found for batch in pool.map(lambda task: list(_mixed(*task)), tasks) for found in batch]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        end.set()
        allocator.join()
    return {**_result(before, answers), "note": f"{signals} signals came meanwhile."}


def _mixed(thread: int, each: int) -> Iterator[Answer]:
    for number in range(each):
        flags, options, script, expected = MIX[(thread + number) % len(MIX)]
        name, status = f"t{thread}n{number}", number % 100
        options = {key: name if value == "{}" else value for key, value in options.items()}
        argv = ["/bin/sh", "-c", f"{script.format(name)}; exit {status}"]
        done = nslab.run(flags, argv, stdout=nslab.PIPE, text=True, **options)
        yield "lost", done.returncode, status
        yield "wrong", done.stdout.strip(), expected.format(name)


def _allocate(end: threading.Event) -> None:
    # More than Python keeps for itself, so each is a call of malloc(3).
    while not end.is_set():
        for size in range(1024, 65536, 512):
            bytearray(size)


def one_process(count: int) -> dict[str, Any]:
    """Wait for, poll and kill one process from eight threads: all see the same status, once it has been given."""
    before = _before()
    with ThreadPoolExecutor(8) as pool:
        answers = [_by_eight(pool, number) for number in range(count)]
    return _result(before, answers)


def _by_eight(pool: ThreadPoolExecutor, number: int) -> Answer:
    options: dict[str, Any] = {"init": True} if number % 4 == 3 else {}
    kills, status = number % 8 < 4, number % 100
    process = nslab.spawn("pid", ["sh", "-c", "read line; exit $line"], stdin=nslab.PIPE, text=True, **options)
    gate = threading.Barrier(9)
    seen = [pool.submit(_at_once, gate, way, process) for way in _WAYS[kills]]
    assert process.stdin
    gate.wait()
    if not kills:
        process.stdin.write(f"{status}\n")
        process.stdin.flush()
    codes = {future.result() for future in seen}
    process.stdin.close()
    return "lost", codes, {-9} if kills else {status}


def _polled(process: nslab.Process) -> int:
    while (status := process.poll()) is None:
        time.sleep(0)
    return status


def _killed(process: nslab.Process) -> int:
    process.kill()
    return process.wait()


def _waited_by_a_loop(process: nslab.Process) -> int:
    return asyncio.run(process.wait_async())


def _waited_for_long(process: nslab.Process) -> int:
    return process.wait(timeout=60)


def _at_once(gate: threading.Barrier, way: Callable[[nslab.Process], int], process: nslab.Process) -> int:
    gate.wait()
    return way(process)


_LOOK: list[Callable[[nslab.Process], int]] = [nslab.Process.wait, _waited_for_long, _polled, _waited_by_a_loop]
_WAYS = {False: 2 * _LOOK, True: [*_LOOK, _killed, _killed, nslab.Process.wait, _polled]}


def forks(count: int) -> dict[str, Any]:
    """Spawn in forked processes while threads spawn: a lock that was copied in its locked state would hang there."""
    before, end = _before(), threading.Event()
    answers: list[Answer] = []
    # Python 3.12 warns of what this is about.
    warnings.simplefilter("ignore", DeprecationWarning)

    def work(thread: int) -> list[Answer]:
        found: list[Answer] = []
        for number in itertools.takewhile(lambda _: not end.is_set(), itertools.count()):
            found += [("lost", nslab.spawn("uts", ["true"], kill_child=number % 2 == thread % 2).wait(), 0)]
        return found

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, thread) for thread in range(4)]
        try:
            answers += [("lost", _forked() if number % 4 else _multiprocessed("fork"), 0) for number in range(count)]
            answers += [("lost", _multiprocessed(method), 0) for method in ("spawn", "forkserver")]
        finally:
            end.set()
        for worker in workers:
            answers += worker.result()
    _stop_forkserver()
    return _result(before, answers)


def _forked() -> int:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            in_a_fork()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _multiprocessed(method: str) -> int:
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=in_a_fork)
    process.start()
    process.join()
    status: int = process.exitcode
    process.close()
    return status


def in_a_fork() -> None:
    signal.alarm(60)
    for options in ({"hostname": "lab"}, {"hostname": "lab", "kill_child": True}):
        done = nslab.run("uts pid", ["uname", "-n"], stdout=nslab.PIPE, **options)
        assert (done.returncode, done.stdout) == (0, b"lab\n")
    signal.alarm(0)


def _stop_forkserver() -> None:
    # It would go on until this process ends, and be counted as a child that is left.
    from multiprocessing import forkserver, resource_tracker

    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def event_loop(count: int) -> dict[str, Any]:
    """Spawn by the functions of asyncio and in a thread pool of the same loop."""
    before = _before()
    answers = asyncio.run(_in_a_loop(count))
    return _result(before, answers)


async def _in_a_loop(count: int) -> list[Answer]:
    loop, limit = asyncio.get_running_loop(), asyncio.Semaphore(32)

    async def one(number: int) -> list[Answer]:
        name, status = f"n{number}", number % 100
        argv = ["sh", "-c", f"uname -n; exit {status}"]
        options: dict[str, Any] = {"hostname": name, "stdout": nslab.PIPE}
        returncode: int | None
        async with limit:
            if number % 3 == 0:
                done = await loop.run_in_executor(None, lambda: nslab.run("uts", argv, **options))
                returncode, output = done.returncode, done.stdout
            elif number % 3 == 1:
                done = await nslab.arun("uts pid", argv, **options)
                returncode, output = done.returncode, done.stdout
            else:
                async with await nslab.aspawn("uts", argv, **options) as process:
                    output, _ = await process.communicate()
                returncode = process.returncode
        return [("lost", returncode, status), ("wrong", output, f"{name}\n".encode())]

    return [answer for found in await asyncio.gather(*map(one, range(count))) for answer in found]


_CODE = """
try:
    import nslab
except ImportError as error:
    said = f"refuses the import: {error}"
else:
    assert nslab.spawn("uts", ["true"]).wait() == 0
    said = "works"
with open(path, "w") as file:
    file.write(said)
"""


def subinterpreter() -> tuple[str, str]:
    """Return the version of this Python, and what happens to `import nslab` in a subinterpreter of it."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    interpreters = importlib.import_module(name)
    path = f"/proc/{os.getpid()}/fd/{os.memfd_create('said')}"
    failure = interpreters.run_string(interpreters.create(), f"path = {path!r}\n{_CODE}")
    assert failure is None, failure
    with open(path) as file:
        said = file.read()
    assert said == "works" or "interpreter" in said, said
    # And the interpreter that it came from has not been harmed.
    assert nslab.spawn("uts", ["true"]).wait() == 0
    return ".".join(map(str, sys.version_info[:3])), f"nslab {said}" if said == "works" else f"Python {said}"


# ------------------------------------------------------------------------------------------------------------ counting


def _before() -> dict[str, int]:
    """Return what is held once everything has been made that is made once."""
    assert nslab.run("uts", ["true"], capture_output=True, kill_child=True).returncode == 0
    held()
    return held()


def _result(before: dict[str, int], answers: list[Answer]) -> dict[str, Any]:
    result: dict[str, Any] = {"times": sum(kind == "lost" for kind, _, _ in answers), "lost": [], "wrong": []}
    for kind, found, expected in answers:
        if found != expected:
            result[kind].append(f"{found!r} instead of {expected!r}")
    return {**result, "left": left(_roomy(before), settled(_roomy(before), 10.0))}


def _roomy(before: dict[str, int]) -> dict[str, int]:
    """Leave memory and network namespaces to the soak: thread stacks come and go, and others make namespaces."""
    return {**before, "rss_kib": sys.maxsize, "net": sys.maxsize}
