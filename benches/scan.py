"""nslab.lsns() beside `lsns --json`, interleaved, among 1000 processes in 200 new namespaces; its memory at 10 000.

Needs a C compiler, and root to look into all processes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nslab

HERE = Path(__file__).resolve().parent
CROWD = HERE.parent / "target" / "bench" / "crowd"
COLUMNS = "NS,TYPE,PATH,NPROCS,PID,PPID,COMMAND,UID,USER,NETNSID,NSFS,PNS,ONS"
KINDS = 8


@contextmanager
def crowd(processes: int, namespaces: int) -> Iterator[None]:
    """So many processes, evenly in so many new namespaces; all are gone afterwards."""
    groups = namespaces // KINDS
    with ExitStack() as stack:
        for _ in range(groups):
            members = str(processes // groups - 1)
            pipes = {"stdin": nslab.PIPE, "stdout": nslab.PIPE}
            first = nslab.spawn("all", [str(CROWD), members], map_root_user=True, start_new_session=True, **pipes)
            stack.enter_context(first)
            assert first.stdout and first.stdout.readline() == b"ready\n"
        yield


def seconds(action: object) -> float:
    assert callable(action)
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def lsns() -> None:
    subprocess.run(["lsns", "--json", "-o", COLUMNS], stdout=subprocess.PIPE, check=True)


def race(rounds: int) -> float:
    times: dict[str, list[float]] = {"nslab.lsns()": [], "lsns --json": []}
    for _ in range(rounds):
        times["nslab.lsns()"].append(seconds(nslab.lsns))
        times["lsns --json"].append(seconds(lsns))
    for name, taken in times.items():
        print(f"{name:14} {min(taken) * 1000:7.1f} ms least, {statistics.median(taken) * 1000:7.1f} ms median")
    ours, theirs = times.values()
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def resident() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in rollup if line.startswith("Rss:")).split()[1])


def memory() -> float:
    """MiB that the process grows by, at its peak, while it looks at 10 000 processes."""
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")
    table = nslab.lsns()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"{len(table)} namespaces")
    return (int(peak.split()[1]) - before) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="scan.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--memory", action="store_true", help="also the memory at 10 000 processes")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    options = parser.parse_args()

    CROWD.parent.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-Wall", "-Os", "-static", "-o", str(CROWD), str(HERE / "crowd.c")], check=True)
    with crowd(1000, 200):
        ratio = race(options.rounds)
    print(f"lsns, 1000 processes in 200 namespaces: {ratio:.2f} × (at most 0.5)")
    ok = ratio <= 0.5
    if options.memory:
        with crowd(10_000, 200):
            grown = memory()
        print(f"memory at 10 000 processes: {grown:.1f} MiB more (at most 50)")
        ok = ok and grown < 50
    return 1 if options.check and not ok else 0


if __name__ == "__main__":
    sys.exit(main())
