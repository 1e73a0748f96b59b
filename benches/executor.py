"""What functions, executors and awaits cost, beside what the standard library has: python benches/executor.py."""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import nslab

MILLI = 1e3


def once(work: Callable[[], object]) -> float:
    """Return the milliseconds that it takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * MILLI


def side_by_side(rounds: int, works: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Take turns, so that whatever else the machine does hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(once(work))
    return times


def show(title: str, times: dict[str, list[float]]) -> None:
    print(f"\n{title:<44}{'min':>9}{'median':>9}{'p99':>9}  ms")
    for name, row in times.items():
        p99 = sorted(row)[int(len(row) * 0.99)]
        print(f"  {name:<42}{min(row):9.3f}{statistics.median(row):9.3f}{p99:9.3f}")


def round_trips(rounds: int) -> None:
    """`submit(os.getpid).result()`, warm."""
    with (
        nslab.Executor("uts", 1) as uts,
        nslab.Executor("all", 1, map_root_user=True) as every,
        nslab.Executor("uts", 1, fresh=True) as fresh,
        ProcessPoolExecutor(1) as processes,
        ThreadPoolExecutor(1) as threads,
    ):

        def trip(executor: Executor) -> object:
            return executor.submit(os.getpid).result()

        warm: dict[str, Executor] = {
            "nslab.Executor, uts": uts,
            "nslab.Executor, all eight": every,
            "ProcessPoolExecutor": processes,
            "ThreadPoolExecutor": threads,
        }
        works: dict[str, Callable[[], object]] = {name: partial(trip, executor) for name, executor in warm.items()}
        show("Executor.submit round trip, warm", side_by_side(rounds * 20, works))
        show("the same, fresh=True", side_by_side(rounds, {"nslab.Executor, uts": partial(trip, fresh)}))


def calls(rounds: int) -> None:
    """A function in a fresh interpreter."""
    python = [sys.executable, "-c", "pass"]
    works: dict[str, Callable[[], object]] = {
        "subprocess.run python -c pass": lambda: subprocess.run(python, check=True),
        "nslab.run uts python -c pass": lambda: nslab.run("uts", python, check=True),
        "nslab.call uts os.getpid": lambda: nslab.call("uts", os.getpid),
        "nslab.call uts lambda (cloudpickle)": lambda: nslab.call("uts", lambda: None),
        "nslab.call all os.getpid": lambda: nslab.call("all", os.getpid, map_root_user=True),
    }
    show("a function, cold", side_by_side(rounds, works))


def awaits(children: int) -> None:
    """Many children at once."""

    async def exit_with(number: int) -> int:
        process = await nslab.aspawn("uts", ["sh", "-c", f"exit {number % 200}"])
        return await process.wait()

    async def main() -> list[int]:
        return await asyncio.gather(*map(exit_with, range(children)))

    before = len(os.listdir("/proc/self/fd"))
    start = time.perf_counter()
    statuses = asyncio.run(main())
    took = time.perf_counter() - start
    right = statuses == [number % 200 for number in range(children)]
    threads, after = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    print(f"\n{children} children under asyncio: {took:.2f} s, statuses {'right' if right else 'WRONG'}")
    print(f"  threads {threads}, descriptors {before} -> {after}")


def inline_or_in_a_thread(rounds: int) -> None:
    """A spawn by the loop's thread, and by one that it would have to hand it to."""

    async def measure(flags: str, by_thread: bool) -> list[float]:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            if by_thread:
                process = await asyncio.to_thread(nslab.spawn, flags, ["true"], map_root_user="user" in flags)
            else:
                process = nslab.spawn(flags, ["true"], map_root_user="user" in flags)
            times.append((time.perf_counter() - start) * MILLI)
            process.wait()
        return times

    rows = {}
    for flags in ("", "uts", "net", "all"):
        for by_thread in (False, True):
            name = f"{flags or 'plain'}, {'to_thread' if by_thread else 'inline'}"
            rows[name] = asyncio.run(measure(flags, by_thread))
    show("what a spawn takes under asyncio", rows)


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--children", type=int, default=1000)
    options = parser.parse_args()
    calls(options.rounds)
    round_trips(options.rounds)
    inline_or_in_a_thread(options.rounds)
    awaits(options.children)


if __name__ == "__main__":
    main()
