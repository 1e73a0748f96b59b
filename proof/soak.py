"""Spawn, open and close very often in one process, and count what is left."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nslab

from . import sets
from .held import Progress, held, left, net_namespaces, net_uncertainty, settled
from .part import Part
from .watched import CheckError, watched

COLUMNS = ["what", "times", "seconds", "fds", "threads", "RSS", "children", "mounts", "hosts", "network namespaces"]
# Before the first count: what is made once per process, and what allocators keep.
WARM_UP = 512
# Network namespaces, of our own and dead ones included, that may exist where the limit is tried.
LIMIT = 4


def prove(short: bool) -> Part:
    part = Part(
        "soak",
        "Soak and leak",
        "A process that spawns for days holds what it held at first: descriptors, threads, memory (less than 1 MiB "
        "more), children, mounts; and the kernel gets every network namespace back.",
        COLUMNS,
    )
    runs: list[tuple[str, Callable[[int], dict[str, Any]], int]] = [
        (f"spawns over all {len(sets.every_set())} sets of namespaces", spawns, 2_560 if short else 100_000),
        ("hosts opened, used and closed", hosts, 30 if short else 1_000),
        ("network namespaces in a row", nets, 100 if short else 300),
    ]
    with part.timed():
        for what, run, count in runs:
            _add(part, what, run, count)
        _add_limit(part, 60 if short else 300)
    part.notes.append(
        "Each row is a process of its own, counted after a warm-up and at the end. Descriptors, threads, children, "
        "mounts and named hosts must be what they were; the network namespaces are those of the whole machine "
        "(`net_namespace` in /proc/slabinfo), which the kernel frees some time after their end, and of which it may "
        f"count {net_uncertainty()} too many here: a slab that a CPU has at hand counts as full."
    )
    return part


def _add(part: Part, what: str, run: Callable[[int], dict[str, Any]], count: int) -> None:
    try:
        found = watched(run, count, seconds=120 + count / 10)
    except CheckError as error:
        part.expect(False, f"{what}: {error}")
        return
    before, after = found["before"], found["after"]
    for kept in left(before, after):
        part.expect(False, f"{what}: {kept}")
    same = [f"{before[key]} → {after[key]}" for key in ("fds", "threads")]
    more = [f"{before[key]} → {after[key]}" for key in ("children", "mounts", "hosts")]
    net = f"{before['net']} → {after['net']}" if after["net"] >= 0 else "not shown by this kernel"
    if "most" in found:
        net += f", at most {found['most']}"
    part.row(what, count, f"{found['seconds']:.0f}", *same, f"{after['rss_kib'] - before['rss_kib']:+} KiB", *more, net)


def _add_limit(part: Part, count: int) -> None:
    """Add what `Pool` and `spawn` do at a limit against which dead namespaces count."""
    try:
        found = watched(under_a_limit, count, seconds=120)
    except CheckError as error:
        part.expect(False, f"with a limit: {error}")
        return
    part.expect(found["pooled"] == count, f"Pool with a limit: {found['pooled']} of {count} ran")
    part.expect(found["returns"], "spawn never succeeded again after ENOSPC")
    part.notes.append(
        f"With `user.max_net_namespaces = {LIMIT}` in a user namespace of its own, where the kernel counts a dead "
        f"network namespace until it has cleaned up: {found['pooled']} of {count} runs of a `Pool` in a row worked, "
        f"for it waits (up to 10 s) and tries again. `spawn` does not: of {count} in a row {found['refused']} were "
        "refused with ENOSPC and the name of the limit, at once and with nothing left; each worked a moment later "
        f"(after {1000 * found['longest']:.0f} ms at most). In the end the kernel counted none of them."
    )


# ------------------------------------------------------------------------------------ each in a process of its own


def counted(run: Callable[[int], object], count: int, warm_up: int) -> dict[str, Any]:
    """Return what this process held before and after; ``run`` gets the number of the turn."""
    # Before the warm-up, whose dead ones the kernel may still count after it.
    net = net_namespaces()
    for number in range(warm_up):
        run(number)
    before = {**held(), "net": net}
    began = time.monotonic()
    with Progress(run.__name__.strip("_"), count) as progress:
        for number in range(count):
            run(number)
            progress.step()
    seconds = time.monotonic() - began
    return {"before": before, "after": settled(before), "seconds": seconds}


def spawns(count: int) -> dict[str, Any]:
    requests = [(kinds, sets.options_of(kinds)) for kinds in sets.every_set()]

    def one(number: int) -> None:
        kinds, options = requests[number % len(requests)]
        # The further ways of a spawn: from the thread that outlives this one, with an init, with pipes.
        way = number // len(requests) % 4
        if way == 1:
            options = {**options, "kill_child": True}
        elif way == 2 and "pid" in kinds:
            options = {**options, "init": True}
        elif way == 3:
            assert nslab.run(kinds, ["true"], capture_output=True, **options).returncode == 0
            return
        assert nslab.spawn(kinds, ["true"], **options).wait() == 0

    return counted(one, count, 2 * WARM_UP)


def hosts(count: int) -> dict[str, Any]:
    kinds = [kinds for kinds in sets.every_set() if kinds]
    random.Random(count).shuffle(kinds)

    def one(number: int) -> None:
        flags = kinds[number % len(kinds)]
        name = f"proof-{os.getpid()}" if number % 2 else None
        with nslab.Host(flags, name=name, **sets.options_of(flags)) as host:
            assert host.run(["true"]).returncode == 0
            # Not waited for: the host ends it.
            host.spawn(["sleep", "600"])

    return counted(one, count, 32)


def nets(count: int) -> dict[str, Any]:
    most = 0

    def one(_: int) -> None:
        nonlocal most
        assert nslab.spawn("net", ["true"], loopback=True).wait() == 0
        most = max(most, net_namespaces())

    found = counted(one, count, 16)
    return {**found, "most": most}


def under_a_limit(count: int) -> dict[str, Any]:
    return nslab.call("user", _under_a_limit, count, map_root_user=True, timeout=100)


def _under_a_limit(count: int) -> dict[str, Any]:
    limit = Path("/proc/sys/user/max_net_namespaces")
    limit.write_text(str(LIMIT))
    with nslab.Pool("net", size=2) as pool:
        pooled = sum(pool.run(["true"]).returncode == 0 for _ in range(count))
    refused, longest = 0, 0.0
    for _ in range(count):
        began = time.monotonic()
        tries = _tries()
        refused += tries > 1
        if tries > 1:
            longest = max(longest, time.monotonic() - began)
    # One, and dead ones are counted: it can be made only when there is none any more.
    limit.write_text("1")
    _tries()
    return {"pooled": pooled, "refused": refused, "longest": longest, "returns": True}


def _tries() -> int:
    """Spawn until it works; return how often that was tried."""
    before, tries = held(), 1
    deadline = time.monotonic() + 30
    while True:
        try:
            return tries if nslab.spawn("net", ["true"]).wait() == 0 else 0
        except nslab.SpawnError as error:
            assert (error.step, error.errno) == ("clone", errno.ENOSPC), error
            assert "user.max_net_namespaces" in (error.hint or ""), error.hint
            assert not left({**before, "net": held()["net"]}, held())
            assert time.monotonic() < deadline, "the kernel never took the old ones away"
        tries += 1
        time.sleep(0.002)
