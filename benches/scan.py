"""nslab.lsns() beside `lsns --json`, interleaved, among 1000 processes in 200 new namespaces; every picture of them;
its memory at 10 000 processes.

Needs a C compiler, and root to look into all processes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nslab
from nslab import pictures

HERE = Path(__file__).resolve().parent
CROWD = HERE.parent / "target" / "bench" / "crowd"
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
    # It gives up, early and with 1, when a process ends while it looks at it: elsewhere on this machine, too.
    subprocess.run(["lsns", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)


def race(rounds: int) -> float:
    times: dict[str, list[float]] = {"nslab.lsns()": [], "lsns --json": []}
    for _ in range(rounds):
        times["nslab.lsns()"].append(seconds(nslab.lsns))
        times["lsns --json"].append(seconds(lsns))
    for name, taken in times.items():
        print(f"{name:14} {min(taken) * 1000:7.1f} ms least, {statistics.median(taken) * 1000:7.1f} ms median")
    ours, theirs = times.values()
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


# In an interpreter of its own, which has not yet any memory to use again.
GROWTH = """
import nslab, pathlib, re
nslab.lsns  # what is imported is not what is measured
number = lambda file, name: int(re.search(rf"^{name}:\\s*(\\d+)", pathlib.Path(file).read_text(), re.M)[1])
before = number("/proc/self/smaps_rollup", "Rss")
pathlib.Path("/proc/self/clear_refs").write_text("5")
table = nslab.lsns()
print((number("/proc/self/status", "VmHWM") - before) / 1024)
"""


def memory() -> float:
    """MiB that a process grows by, at its peak, while it lists the namespaces."""
    return float(subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True).stdout)


def slowest_picture() -> tuple[float, str]:
    """Draw everything there is in every picture; seconds and name of the slowest."""
    table = nslab.lsns()
    # Those of the crowd: what is not ours may be gone by the time it is looked at.
    ours = [row for row in table if row.command and row.command.startswith(str(CROWD))]
    rows = {kind: [row for row in ours if row.type == kind and row.pid] for kind in nslab.namespaces(os.getpid())}
    processes = nslab.processes()
    networks = [nslab.network(row.namespace) for row in rows["net"]]
    mounts = [nslab.mounts(row.pid) for row in rows["mnt"]]
    clocks = [nslab.clocks(row.pid) for row in rows["time"]]
    objects = [nslab.ipc(row.namespace) for row in rows["ipc"]]
    maps = [nslab.id_maps(row.pid) for row in rows["user"]]
    compared = nslab.compare(None, *[row.pid for row in rows["uts"]])
    drawn: dict[str, Callable[[], object]] = {
        "listing": lambda: pictures.listing(table),
        "owners": lambda: pictures.owners(table),
        "users": lambda: pictures.users(table, *maps),
        "pids": lambda: pictures.pids(processes),
        "network": lambda: pictures.network(*networks),
        "propagation": lambda: pictures.propagation(*mounts),
        "clocks": lambda: pictures.clocks(*clocks),
        "ipc": lambda: pictures.ipc(*objects),
        "card": lambda: pictures.card(compared),
    }
    return max((seconds(draw), name) for name, draw in drawn.items())


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
        slowest, name = slowest_picture()
    print(f"lsns, 1000 processes in 200 namespaces: {ratio:.2f} × (at most 0.5)")
    print(f"the slowest picture of them, {name}: {slowest * 1000:.0f} ms (less than 100)")
    ok = ratio <= 0.5 and slowest < 0.1
    if options.memory:
        with crowd(10_000, 200):
            grown = memory()
        print(f"memory at 10 000 processes: {grown:.1f} MiB more (at most 50)")
        ok = ok and grown < 50
    return 1 if options.check and not ok else 0


if __name__ == "__main__":
    sys.exit(main())
