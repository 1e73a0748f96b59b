"""Spawn many times in one process and print, as JSON, what that process holds before and after."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import nslab

# Without net: the kernel needs seconds to take thousands of those down, whoever asked for them.
FLAGS = ["", "uts", "ipc pid", "mnt", "user uts time cgroup"]


def live(flags: str, payload: str) -> None:
    options: dict[str, Any] = {"map_root_user": True} if "user" in flags else {}
    with nslab.spawn(flags, [payload], **options) as process:
        process.wait(timeout=10)


def held() -> dict[str, int]:
    # smaps_rollup walks the page tables; VmRSS may be off by the counters' per-CPU remainder.
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    rss = next(line for line in rollup if line.startswith("Rss:"))
    return {
        "fds": entries("/proc/self/fd"),
        "threads": entries("/proc/self/task"),
        "rss_kib": int(rss.split()[1]),
        "children": children(),
    }


def entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def children() -> int:
    """0 or 1; a zombie is a child too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return 1


def main() -> None:
    payload, count = sys.argv[1], int(sys.argv[2])
    for number in range(min(count, 500)):
        live(FLAGS[number % len(FLAGS)], payload)
    before = held()
    for number in range(count):
        live(FLAGS[number % len(FLAGS)], payload)
    print(json.dumps({"before": before, "after": held()}))


if __name__ == "__main__":
    main()
