"""The time namespace: clocks with offsets."""

from __future__ import annotations

import ctypes
import datetime
import errno
import os
import re
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import inode, sh, spawn
from nested import LIBC, checked, inside

import nslab

DAY = 86_400
# Between reading a clock outside and inside a machine may be slow; the offsets are far greater.
SLACK = 60


def clocks() -> tuple[float, float]:
    """Return what CLOCK_MONOTONIC and CLOCK_BOOTTIME show."""
    return time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)


def offsets(text: str) -> dict[str, tuple[int, int]]:
    """Return what /proc/PID/timens_offsets says: seconds and nanoseconds by clock."""
    rows = [line.split() for line in text.splitlines()]
    return {name: (int(seconds), int(nanoseconds)) for name, seconds, nanoseconds in rows}


@pytest.mark.unprivileged
def test_tim_01_both_clocks_are_shifted_and_the_hosts_are_not() -> None:
    before = clocks()
    seen = inside("time", clocks, monotonic=1000, boottime=datetime.timedelta(seconds=2000, microseconds=5))
    after = clocks()
    for then, shifted, now, offset in zip(before, seen, after, (1000, 2000.000005), strict=True):
        assert then + offset <= shifted <= now + offset
        assert now - then < SLACK


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"monotonic": 1000, "boottime": 2000.25}, {"monotonic": (1000, 0), "boottime": (2000, 250_000_000)}),
        ({"monotonic": 1.2, "boottime": 3.4}, {"monotonic": (1, 200_000_000), "boottime": (3, 400_000_000)}),
        ({"boottime": -0.5}, {"monotonic": (0, 0), "boottime": (-1, 500_000_000)}),
        (
            {"monotonic": datetime.timedelta(days=1, microseconds=1)},
            {"monotonic": (DAY, 1000), "boottime": (0, 0)},
        ),
    ],
)
def test_tim_01_the_kernel_has_the_very_offsets(options: dict[str, Any], expected: dict[str, tuple[int, int]]) -> None:
    status, output = sh("time", "cat /proc/self/timens_offsets", **options)
    assert (status, offsets(output)) == (0, expected)


@pytest.mark.unprivileged
def test_tim_02_the_program_itself_is_in_the_namespace() -> None:
    script = "stat -L -c %i /proc/self/ns/time /proc/self/ns/time_for_children; echo $$"
    with spawn("time", ["sh", "-c", script], stdout=nslab.PIPE, text=True) as child:
        own, for_children, pid = map(int, child.communicate()[0].split())
    assert own == for_children == child.namespaces["time"].inode
    assert own != inode("time")
    # And it is our child: no other process is in between.
    assert pid == child.pid


@pytest.mark.unprivileged
def test_tim_03_without_offsets_nothing_is_shifted() -> None:
    status, output = sh("time", "cat /proc/self/timens_offsets")
    # Relative to the initial namespace; ours may have offsets already.
    assert (status, offsets(output)) == (0, offsets(Path("/proc/self/timens_offsets").read_text()))
    before = clocks()
    seen = inside("time", clocks)
    assert all(then <= now < then + SLACK for then, now in zip(before, seen, strict=True))


@pytest.mark.unprivileged
@pytest.mark.parametrize("option", ["monotonic", "boottime"])
def test_tim_04_an_offset_needs_the_namespace(option: str, invalid: Callable[..., str]) -> None:
    assert invalid(0, **{option: 1}) == f'{option} needs the time namespace (add "time" to the flags)'
    # To shift nothing is no exception.
    assert invalid("uts", **{option: 0}) == f'{option} needs the time namespace (add "time" to the flags)'


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("value", "words"),
    [
        *((value, "an int, a float or a timedelta") for value in ("garbage", "1 10", b"1", (1, 10), True)),
        *((value, "finite") for value in (float("nan"), float("inf"), -float("inf"))),
        *((value, "negative") for value in (-1e9, -(10**9), datetime.timedelta(days=-(10**6)))),
        *((value, "beyond") for value in (9_223_372_036, 2**63, 1e300)),
    ],
)
@pytest.mark.parametrize("option", ["monotonic", "boottime"])
def test_tim_06_no_offset_that_the_kernel_refuses(
    option: str, value: Any, words: str, invalid: Callable[..., str]
) -> None:
    assert words in invalid("time", **{option: value})


@pytest.mark.unprivileged
def test_tim_06_a_clock_may_go_back_almost_to_zero_and_forward_for_146_years() -> None:
    # Relative to the initial namespace, where the machine's own uptime counts.
    uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
    for offset in (1 - uptime, 4_611_686_018 - uptime - SLACK):
        status, output = sh("time", "cat /proc/self/timens_offsets", boottime=offset)
        assert (status, offsets(output)["boottime"]) == (0, (offset, 0))


def uptime_and_boot() -> tuple[float, int]:
    """Return the seconds since the boot, and when that was."""
    boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    assert boot
    return float(Path("/proc/uptime").read_text().split()[0]), int(boot[1])


@pytest.mark.unprivileged
def test_tim_08_proc_shows_the_shifted_boot() -> None:
    uptime, boot = uptime_and_boot()
    shifted_uptime, shifted_boot = inside("time", uptime_and_boot, boottime=10 * DAY)
    assert uptime + 10 * DAY <= shifted_uptime < uptime + 10 * DAY + SLACK
    # It is computed anew each time, and rounded.
    assert abs(shifted_boot - (boot - 10 * DAY)) <= 1
    now, still = uptime_and_boot()
    assert uptime <= now < uptime + SLACK
    assert abs(still - boot) <= 1


class TimeSpec(ctypes.Structure):
    """struct timespec, see timespec(3type)."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    @classmethod
    def after(cls, seconds: float) -> TimeSpec:
        """The time on CLOCK_MONOTONIC after so many seconds."""
        return cls(*divmod(time.monotonic_ns() + int(seconds * 1e9), 1_000_000_000))


TIMER_ABSTIME = TFD_TIMER_ABSTIME = 1
SHORT = 0.05


def absolute_sleep() -> float:
    """Sleep until a moment of the shifted clock; return how long that took."""
    began = time.monotonic()
    until = TimeSpec.after(SHORT)
    assert LIBC.clock_nanosleep(time.CLOCK_MONOTONIC, TIMER_ABSTIME, ctypes.byref(until), None) == 0
    return time.monotonic() - began


def absolute_timer() -> float:
    """The same with timerfd_create(2)."""
    began = time.monotonic()
    timer = checked(LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC))
    setting = (TimeSpec * 2)(TimeSpec(0, 0), TimeSpec.after(SHORT))
    checked(LIBC.timerfd_settime(timer, TFD_TIMER_ABSTIME, setting, None))
    select.select([timer], [], [])
    return time.monotonic() - began


def timed_lock() -> float:
    """The same with a futex, on which Python's locks wait until a moment of the monotonic clock."""
    began = time.monotonic()
    lock = threading.Lock()
    assert lock.acquire(timeout=SHORT)
    assert not lock.acquire(timeout=SHORT)
    return time.monotonic() - began


@pytest.mark.unprivileged
@pytest.mark.parametrize("function", [absolute_sleep, absolute_timer, timed_lock])
@pytest.mark.parametrize("sign", [1, -1])
def test_tim_09_what_waits_for_a_moment_wakes_up_on_time(function: Callable[[], float], sign: int) -> None:
    # Unshifted, it would return at once, or sleep for the offset. Half of it: so that the clock stays positive.
    offset = sign * time.monotonic() / 2
    assert SHORT <= inside("time", function, monotonic=offset) < min(SLACK, abs(offset))


def joined_from_a_thread(fd: int) -> tuple[int, str]:
    """Enter a time namespace, by a child of one thread of several."""
    found = []
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    joining = threading.Thread(target=lambda: found.append(sh(0, "cat /proc/self/timens_offsets", join=[fd])))
    joining.start()
    joining.join()
    stop.set()
    other.join()
    return found[0]


def test_tim_12_one_thread_of_several_can_join() -> None:
    # setns(2) itself would fail with EUSERS, in the caller as in a child that shares its memory.
    with spawn("time", ["cat"], monotonic=1000, stdin=nslab.PIPE) as child:
        fd = child.namespaces["time"].open()
    try:
        status, output = joined_from_a_thread(fd)
        own = offsets(Path("/proc/self/timens_offsets").read_text())
        assert (status, offsets(output)) == (0, {**own, "monotonic": (1000, 0)})
        before = time.monotonic()
        seen, _ = inside(0, clocks, join=[fd])
        assert before + 1000 <= seen < before + 1000 + SLACK
    finally:
        os.close(fd)


def setns_in_a_thread(fd: int) -> str:
    """What the library spares its caller."""
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        checked(LIBC.setns(fd, nslab.CLONE_NEWTIME))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        stop.set()
        other.join()
    return "entered"


def test_tim_12_which_setns_in_the_caller_could_not() -> None:
    with spawn("time", ["cat"], stdin=nslab.PIPE) as child:
        fd = child.namespaces["time"].open()
    try:
        assert inside(0, setns_in_a_thread, fd, pass_fds=[fd]) == "EUSERS"
    finally:
        os.close(fd)
