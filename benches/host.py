"""The bars of hosts and pools, in one run: a program in namespaces that are there, beside making them.

Needs root and a C compiler. What is divided was measured side by side: on a machine that is not idle, only neighbours
can be compared.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import measures
from contest import CPUS, NET_SETTLE, Entrant

import nslab

ALL_BUT_USER = ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"]
Sample = Callable[[], float]


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Where the scheduler happens to put a child changes a sample by a third."""
    os.sched_setaffinity(0, CPUS[-1:])
    yield
    os.sched_setaffinity(0, CPUS)


def whole(spawn: Callable[[], nslab.Process]) -> float:
    """From the call to the end of the program and of what was held, in microseconds."""
    began = time.perf_counter_ns()
    process = spawn()
    process.wait()
    del process
    return (time.perf_counter_ns() - began) / 1000


def ratio(ours: Sample, theirs: Sample, samples: int) -> tuple[float, float, float]:
    """The medians of both, and of the quotients of neighbours."""
    pairs = []
    for number in range(samples + 5):
        both = (ours(), theirs()) if number % 2 else (theirs(), ours())[::-1]
        if number >= 5:
            pairs.append(both)
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    return first, second, statistics.median(a / b for a, b in pairs)


def host_spawn(payload: list[str], samples: int, ballast: int) -> tuple[float, float, float]:
    held = bytearray(os.urandom(1 << 20) * ballast)
    with on_one_cpu(), nslab.Host("all", map_root_user=True) as host:

        def cold() -> float:
            # The kernel takes the last one's network namespace away later; whoever comes next must not pay for that.
            time.sleep(NET_SETTLE)
            return whole(lambda: nslab.spawn("all", payload, map_root_user=True))

        def warm() -> float:
            time.sleep(NET_SETTLE)
            return whole(lambda: host.spawn(payload))

        result = ratio(warm, cold, samples)
    del held
    return result


def pool_spawn(payload: list[str], samples: int) -> tuple[float, float, float]:
    with ExitStack() as stack:
        stack.enter_context(on_one_cpu())
        baseline = stack.enter_context(Entrant(measures.BASELINE, measures.command_of(measures.BASELINE)))
        pool = stack.enter_context(nslab.Pool(ALL_BUT_USER, size=2))

        def cold() -> float:
            time.sleep(NET_SETTLE)
            baseline.live([], payload[0], 1)
            return baseline.live(ALL_BUT_USER, payload[0], 1)[0].whole

        def pooled() -> float:
            while pool.ready < 2:
                time.sleep(0.001)
            time.sleep(NET_SETTLE)
            nslab.spawn(0, payload).wait()
            return whole(lambda: pool.spawn(payload))

        return ratio(pooled, cold, samples)


def at_rest() -> float:
    """The private memory of a host's init, in KiB."""
    with nslab.Host("all", map_root_user=True) as host, open(f"/proc/{host.pid}/smaps_rollup") as memory:
        return float(sum(int(line.split()[1]) for line in memory if line.startswith("Private")))


def main() -> int:
    parser = argparse.ArgumentParser(prog="host.py", description=__doc__)
    parser.add_argument("--samples", type=int, default=150)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    given = parser.parse_args()
    measures.compile_programs()

    rows: list[tuple[str, str, float, float | None]] = []
    for payload in (measures.STATIC, measures.TRUE):
        argv, shown = [str(payload)], measures.SHOWN[payload]
        # Loading /bin/true takes longer than all that is compared, so it is shown and under no bar.
        bars = (0.6, 0.55) if payload == measures.STATIC else (None, None)
        warm, cold, share = host_spawn(argv, given.samples, 0)
        medians = f"{warm:.0f} ÷ {cold:.0f} µs"
        rows.append((f"host.spawn into all eight ÷ cold spawn, {shown}", medians, share, bars[0]))
        pooled, made, share = pool_spawn(argv, given.samples)
        medians = f"{pooled:.0f} ÷ {made:.0f} µs"
        rows.append((f"pool.spawn, all but user ÷ C baseline, {shown}", medians, share, bars[1]))
    warm, cold, share = host_spawn([str(measures.STATIC)], given.samples // 3, 1024)
    rows.append(("the same of host.spawn, from a process of 1 GiB", f"{warm:.0f} ÷ {cold:.0f} µs", share, 0.6))
    private = at_rest()
    rows.append(("a host at rest, private memory", f"{private:.0f} KiB", private / 1024, 1.0))

    print("| measured | medians | value | bar |\n|---|---|---|---|")
    missed = False
    for measured, medians, value, bar in rows:
        ok = bar is None or value <= bar
        missed |= not ok
        verdict = "" if bar is None else f"≤ {bar} {'✓' if ok else '✗'}"
        print(f"| {measured} | {medians} | {value:.2f} | {verdict} |")
    return 1 if given.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
