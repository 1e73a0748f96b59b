"""The clocks of a process, held against what it reads from them itself."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import spawn
from nested import LIBC, as_nobody, checked, inside, interpreter

import nslab
from nslab._inspect.clocks import Clocks

SECOND = 1_000_000_000


def offsets(clocks: Clocks) -> tuple[int, int]:
    return clocks.monotonic_offset, clocks.boottime_offset


def now() -> tuple[int, int, int]:
    """Return the three clocks of this process."""
    clocks = (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME)
    return tuple(map(time.clock_gettime_ns, clocks))  # type: ignore[return-value]


def values(clocks: Clocks) -> tuple[int, int, int]:
    return clocks.monotonic, clocks.boottime, clocks.realtime


def between(before: tuple[int, ...], middle: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return all(a <= b <= c for a, b, c in zip(before, middle, after, strict=True))


def own_offsets() -> tuple[int, int]:
    """What this process's time namespace has, by hand."""
    rows = [line.split() for line in Path("/proc/self/timens_offsets").read_text().splitlines()]
    found = {name: int(seconds) * SECOND + int(nanoseconds) for name, seconds, nanoseconds in rows}
    return found["monotonic"], found["boottime"]


@pytest.mark.unprivileged
def test_the_clocks_of_the_caller() -> None:
    before, found, after = now(), nslab.clocks(), now()
    assert between(before, values(found), after)
    assert offsets(found) == own_offsets()
    assert found.namespace == nslab.namespaces(os.getpid())["time"]
    assert found.pid == os.getpid()


def tell_the_time() -> None:
    """Print the clocks of this process whenever a line comes."""
    print(flush=True)
    for _ in sys.stdin:
        print(*now(), flush=True)


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    "shift",
    [
        {"monotonic": 1000, "boottime": 2000.25},
        {"monotonic": -0.5},
        {"boottime": 10**9},
        {},
    ],
)
def test_what_the_process_itself_reads(shift: dict[str, Any]) -> None:
    argv = interpreter(tell_the_time)
    with spawn("time", argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True, **shift) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()

        def ask() -> tuple[int, ...]:
            print(file=child.stdin, flush=True)
            assert child.stdout
            return tuple(map(int, child.stdout.readline().split()))

        before, found, after = ask(), nslab.clocks(child), ask()
        assert between(before, values(found), after)
        # A clock that is not shifted stays as it is here.
        mine = dict(zip(("monotonic", "boottime"), own_offsets(), strict=True))
        assert offsets(found) == tuple(int(shift[name] * SECOND) if name in shift else mine[name] for name in mine)
        assert found.namespace == child.namespaces["time"]


def see_others(pid: int) -> tuple[bool, tuple[int, int], tuple[int, int]]:
    """Look out of a shifted time namespace at a process that is not in it."""
    with spawn("time", ["cat"], monotonic=5000, stdin=nslab.PIPE) as below:
        out, own, inner = nslab.clocks(pid), nslab.clocks(), nslab.clocks(below)
    assert abs(own.monotonic - out.monotonic - (own.monotonic_offset - out.monotonic_offset)) < 60 * SECOND
    assert abs(inner.monotonic - out.monotonic - (inner.monotonic_offset - out.monotonic_offset)) < 60 * SECOND
    return out.monotonic <= time.monotonic_ns() - own.monotonic_offset, offsets(out), offsets(inner)


@pytest.mark.unprivileged
def test_from_a_shifted_time_namespace() -> None:
    own = own_offsets()
    with spawn("", ["cat"], stdin=nslab.PIPE) as other:
        before, out, inner = inside("time", see_others, other.pid, monotonic=1000, boottime=2000)
    assert before
    assert out == own
    assert inner == (5000 * SECOND, 2000 * SECOND)


def unshare_time(offset: int) -> None:
    """Make a time namespace for children only, and set it."""
    checked(LIBC.unshare(nslab.CLONE_NEWTIME))
    Path("/proc/self/timens_offsets").write_text(f"monotonic {offset} 0\n")
    with nslab.spawn("", ["cat"], stdin=nslab.PIPE) as child:
        print(child.pid, flush=True)
        sys.stdin.read()


@pytest.mark.unprivileged
def test_a_process_whose_children_have_other_clocks() -> None:
    # timens_offsets of the parent shows what the children have.
    argv = interpreter(unshare_time, 1000)
    with spawn("user", argv, map_root_user=True, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert offsets(nslab.clocks(parent)) == own_offsets()
        assert offsets(nslab.clocks(pid))[0] == 1000 * SECOND
        assert nslab.clocks(parent).namespace == nslab.namespaces(os.getpid())["time"]


@pytest.mark.unprivileged
def test_one_that_is_shifted_and_has_other_children() -> None:
    # Now only another process in the same time namespace shows its offsets.
    argv = interpreter(unshare_time, 7000)
    with spawn("time", ["cat"], stdin=nslab.PIPE, monotonic=1000) as first:
        join = {kind: first.namespaces[kind] for kind in ("user", "time")} if os.geteuid() else first.namespaces["time"]
        with nslab.spawn("", argv, join=join, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as parent:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            assert offsets(nslab.clocks(parent))[0] == 1000 * SECOND
            assert offsets(nslab.clocks(pid))[0] == 7000 * SECOND
            assert nslab.clocks(parent).namespace == first.namespaces["time"]
            first.kill()
            first.wait()
            with pytest.raises(OSError, match="no process shows the clock offsets"):
                nslab.clocks(parent)


def test_of_another_user() -> None:
    before = now()
    found = as_nobody(nslab.clocks, os.getpid())
    assert found.namespace is None
    assert between(before, values(found), now())
    assert offsets(found) == own_offsets()
