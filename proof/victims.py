"""What is killed: each function runs in a fork, makes what depends on it, and tells what is to live on."""

from __future__ import annotations

import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nslab

from . import sets

# Tells the killer of a program that must live on.
Tell = Callable[[int], object]
_SLEEP = ["sleep", "600"]


def kill_child(moments: random.Random, tell: Tell) -> None:
    kinds = sets.every_set()
    kept: list[nslab.Process] = []
    tell(0)
    for _ in range(40):
        flags = moments.choice(kinds)
        options: dict[str, Any] = {"init": True} if "pid" in flags and moments.random() < 0.5 else {}
        kept.append(nslab.spawn(flags, _SLEEP, kill_child=True, **sets.options_of(flags), **options))
    signal.pause()


def plain(moments: random.Random, tell: Tell) -> None:
    kinds = sets.every_set()
    kept: list[nslab.Process] = []
    tell(0)
    for _ in range(20):
        flags = moments.choice(kinds)
        kept.append(nslab.spawn(flags, _SLEEP, **sets.options_of(flags)))
        tell(kept[-1].pid)
    signal.pause()


def owner(moments: random.Random, tell: Tell) -> None:
    kinds = [flags for flags in sets.every_set() if flags]
    kept: list[object] = []
    tell(0)
    for number in range(6):
        flags = moments.choice(kinds)
        name = f"{prefix(os.getppid())}{number}" if number % 2 else None
        host = nslab.Host(flags, name=name, **sets.options_of(flags))
        # What runs in it, with a child of its own, was not asked to die with us.
        kept += [host, host.spawn(["sh", "-c", "sleep 600 & setsid sleep 600"]), host.spawn(_SLEEP)]
    signal.pause()


def pool(moments: random.Random, tell: Tell) -> None:
    size = moments.randint(1, 4)
    tell(0)
    with nslab.Pool("user net ipc", size=size, map_root_user=True, loopback=True) as made:
        kept = [made.spawn(_SLEEP, kill_child=True) for _ in range(12)]
        signal.pause()
        del kept


def caller(moments: random.Random, tell: Tell) -> None:
    tell(0)
    # They start a program each, which nobody asked to die.
    with nslab.Executor("uts pid", max_workers=2) as executor:
        tasks = [executor.submit(os.system, "sleep 600") for _ in range(2)]
        nslab.call("ipc pid", os.system, "sleep 600", timeout=600)
        for task in tasks:
            task.result()


def shell(moments: random.Random, tell: Tell) -> None:
    with nslab.Shell("uts") as made:
        made.run("(setsid sleep 600 &) ; sleep 600 &")
        tell(0)
        for _ in itertools.repeat(None, 100):
            made.run("(setsid sleep 600 </dev/null >/dev/null 2>&1 &)")
        signal.pause()


def prefix(killer: int) -> str:
    """Return what the names of hosts begin with for this killer and those that it forks."""
    return f"proof-{killer}-"


def remnants() -> dict[str, Any]:
    """Return what a death could leave in this machine, or in the process that has killed."""
    ours, names = prefix(os.getpid()), Path("/proc/net/unix").read_text()
    return {
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "links": sorted(os.listdir("/sys/class/net")),
        "hosts": [host for host in nslab.hosts() if host.name.startswith(ours)],
        "names": [line.split()[-1] for line in names.splitlines() if f"/{ours}" in line],
        "files": sorted(os.listdir(tempfile.gettempdir())),
        "fds": len(os.listdir("/proc/self/fd")),
    }


def left(before: dict[str, Any], patience: float = 30.0) -> list[str]:
    """Say what there is more than before."""
    deadline = time.monotonic() + patience
    while (after := remnants()) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    return [f"{what}: {after[what]} instead of {before[what]}" for what in before if after[what] != before[what]]
