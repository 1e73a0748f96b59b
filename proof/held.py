"""What a process and its machine hold, and what of it is left after a run."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path

import nslab

# Seconds in which the kernel, which ends namespaces and threads some time later, comes back to where it was.
PATIENCE = 60.0
# Children of any kind, see waitpid(2).
WALL = 0x40000000
# Resident memory: what an allocator keeps for the next time.
MAY_GROW_KIB = 1024


def held() -> dict[str, int]:
    """Return what this process holds; ``net`` are the network namespaces of the whole machine, -1 if not shown."""
    gc.collect()
    # smaps_rollup walks the page tables; VmRSS may be off by the counters' per-CPU remainder.
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "rss_kib": int(next(line for line in rollup if line.startswith("Rss:")).split()[1]),
        "children": len(children()),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "hosts": len(nslab.hosts()),
        "net": net_namespaces(),
    }


def descriptors() -> Counter[str]:
    """Count the open descriptors of this process, by what they are open for."""
    found = Counter[str]()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]] += 1
    return found


def children(parent: int | None = None) -> dict[int, str]:
    """Return the children of a process, or of this one, and their states (proc_pid_stat(5)); zombies are some too."""
    found: dict[int, str] = {}
    if parent is None:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
        except ChildProcessError:
            return found  # without a look at every process
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, above = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            if int(above) == (parent or os.getpid()):
                found[int(entry)] = state
    return found


def net_namespaces() -> int:
    """Return how many network namespaces the kernel still has in memory, dead ones included; -1 if not shown."""
    return next(iter(_net_slabs()), -1)


def net_uncertainty() -> int:
    """Return by how much that may be too many: SLUB counts every slab that a CPU has at hand as full of objects."""
    *_, in_slab = _net_slabs() or [0]
    # The one in use, and partial ones with room for 6 objects of a page or more (set_cpu_partial() in mm/slub.c).
    at_hand = 1 + math.ceil(2 * 6 / in_slab) if in_slab else 0
    return at_hand * in_slab * (os.cpu_count() or 1)


def _net_slabs() -> list[int]:
    """Return the numbers of slabinfo(5): objects in use, all, their size, and how many a slab has."""
    try:
        rows = Path("/proc/slabinfo").read_text().splitlines()
    except OSError:
        return []
    return next((list(map(int, row.split()[1:5])) for row in rows if row.startswith("net_namespace ")), [])


def settled(before: dict[str, int], patience: float | None = None) -> dict[str, int]:
    """Return what is held now; while that is more than before, wait for the kernel."""
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    while left(before, after := held()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return after


def left(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Say what is left: more of anything than before; for what only roughly returns, more than that explains."""
    may_grow = {"rss_kib": MAY_GROW_KIB - 1, "net": net_uncertainty()}
    return [
        f"{what}: {before[what]} before, {count} after"
        for what, count in after.items()
        if count - before[what] > may_grow.get(what, 0)
    ]


class Progress:
    """Shows on standard error how far a run has come: at once on a terminal, else now and then."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._count = what, total, 0
        self._tty = sys.stderr.isatty()
        self._pause = 0.2 if self._tty else 20.0
        self._next = time.monotonic() + self._pause

    def step(self) -> None:
        self._count += 1
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._pause
            self._show("\r" if self._tty else "", "" if self._tty else "\n")

    def _show(self, start: str, end: str) -> None:
        print(f"{start}{self._what}: {self._count} of {self._total}", end=end, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
