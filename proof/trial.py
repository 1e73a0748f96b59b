"""One request, tried: what happens must be what was predicted, and nothing may be left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import nslab

from .model import Accepted, Invalid, Refused, Request, predict
from .values import KINDS
from .world import REPORT, Seen, World, read_report

# What `subprocess` raises for values that are none: KeyError, OverflowError for an id of nobody.
INVALID = (ValueError, TypeError, KeyError, AttributeError, OverflowError, subprocess.SubprocessError)
# Seconds in which a program of a millisecond has ended.
PATIENCE = 30


class DifferenceError(AssertionError):
    """What happened is not what was predicted."""


def attempt(world: World, request: Request) -> str:
    """Try it; return how it went in a word, or raise `DifferenceError`."""
    predicted = predict(world, request)
    before = held()
    try:
        happened = _run(request)
    finally:
        after = held()
    if changed := {name for name in before if before[name] != after[name]}:
        raise DifferenceError(f"changed: {', '.join(f'{name}: {before[name]} → {after[name]}' for name in changed)}")
    _compare(world, request, predicted, happened)
    return type(predicted).__name__.lower()


Happened = BaseException | tuple[int, Seen | None, Any, Any]


def _run(request: Request) -> Happened:
    REPORT.write_bytes(b"")
    with warnings.catch_warnings():
        # pass_fds overriding close_fds, line buffering: as subprocess has it.
        warnings.simplefilter("ignore")
        try:
            with nslab.spawn(request.flags, request.argv, **request.options) as process:
                try:
                    out, err = process.communicate(timeout=PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise DifferenceError("it did not end") from None
        except (nslab.SpawnError, *INVALID) as error:
            return error
    return process.returncode, read_report() if REPORT.stat().st_size else None, out, err


def _compare(world: World, request: Request, predicted: Invalid | Refused | Accepted, happened: Happened) -> None:
    match predicted:
        case Invalid(why):
            # A path to join is opened while the request is still being read.
            is_open_ns = isinstance(happened, nslab.SpawnError) and happened.step == "open_ns"
            if not isinstance(happened, INVALID) and not (is_open_ns and request.unjoinable):
                raise DifferenceError(f"it should be refused before ({why}), but {_told(happened)}")
        case Refused(steps):
            if not isinstance(happened, nslab.SpawnError) or (happened.step, happened.errno) not in steps:
                raise DifferenceError(f"one of {steps} should fail, but {_told(happened)}")
        case Accepted(returncode, expected):
            if isinstance(happened, BaseException):
                raise DifferenceError(f"it should run, but {_told(happened)}")
            if happened[0] != returncode:
                raise DifferenceError(f"returncode {happened[0]} instead of {returncode}")
            if happened[1] is None:
                raise DifferenceError("nothing was reported")
            _see(world, expected, happened[1])
            _hear(request, expected, *happened[2:])


def _told(happened: Happened) -> str:
    if isinstance(happened, BaseException):
        return f"{type(happened).__name__}: {happened}"
    return f"it ran and ended with {happened[0]}"


def facts(world: World, seen: Seen) -> dict[str, Any]:
    """Return what a program sees, without what differs from one run to the next."""
    as_they_are = (
        "uids",
        "gids",
        "lo",
        "hostname",
        "domainname",
        "cwd",
        "leads session",
        "leads group",
        "death signal",
    )
    return {
        "namespaces": {kind: _place(world, seen, kind) for kind in KINDS},
        "groups": sorted(seen["groups"]),
        "uid_map": seen.ranges("uid_map"),
        "gid_map": seen.ranges("gid_map"),
        "setgroups": str(seen["setgroups"]).strip(),
        "capable": seen.capable,
        "offsets": seen.offsets,
        "mounts": seen.mounts,
        "umask": seen.umask,
        "ignored": seen.ignored,
        "environment": seen.environment,
        "argv": [seen[f"argv {place}"] for place in range(seen["argc"])],
        "fds": sorted(int(fd) for fd in seen["fds"] if int(fd) > 2),
        **{name: _stream(seen, fd) for fd, name in enumerate(("stdin", "stdout", "stderr"))},
        **{name: seen[name] for name in as_they_are},
    }


def _see(world: World, expected: dict[str, Any], seen: Seen) -> None:
    actual = facts(world, seen)
    for name, value in expected.items():
        found = actual[name] if name in actual else seen[name]
        if found != value:
            raise DifferenceError(f"{name}: the program sees {found}, predicted was {value}")
    for name, clock in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME)):
        seconds, nanoseconds = expected["offsets"][name]
        behind = time.clock_gettime_ns(clock) + seconds * 10**9 + nanoseconds - seen[name]
        if not 0 <= behind < PATIENCE * 10**9:
            raise DifferenceError(f"{name}: {behind} ns from what was predicted")


def _place(world: World, seen: Seen, kind: str) -> str:
    mine = seen.namespace(kind)
    if not re.fullmatch(rf"{kind}:\[\d+\]", mine):
        return mine
    return {world.plain.namespace(kind): "own", world.joinable.namespace(kind): "joined"}.get(mine, "new")


def _stream(seen: Seen, fd: int) -> list[Any] | None:
    kind, inode = seen["fds"].get(str(fd), [None, None])
    return [kind, inode if kind == "file" else None]


def _hear(request: Request, expected: dict[str, Any], out: Any, err: Any) -> None:
    """Compare what came through the pipes."""
    options = request.options
    both = options.get("stderr") == subprocess.STDOUT and options.get("stdout") == subprocess.PIPE
    is_text = any(options.get(name) for name in ("text", "universal_newlines", "encoding", "errors"))
    wanted: list[Any] = [
        ("out\nerr\n" if both else "out\n") if options.get("stdout") == subprocess.PIPE else None,
        "err\n" if options.get("stderr") == subprocess.PIPE else None,
    ]
    if not is_text:
        wanted = [text and text.encode() for text in wanted]
    if [out, err] != wanted:
        raise DifferenceError(f"the pipes carried {[out, err]}, predicted was {wanted}")


def held() -> dict[str, Any]:
    """Return what a call must leave as it was."""
    deadline = time.monotonic() + 5
    while len(threads := os.listdir("/proc/self/task")) > threading.active_count() + 1 and time.monotonic() < deadline:
        os.sched_yield()
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
    return {
        "fds": fds,
        "threads": sorted(threads),
        "children": sorted(
            child for thread in threads for child in Path(f"/proc/self/task/{thread}/children").read_text().split()
        ),
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "hostname": os.uname().nodename,
        "domainname": Path("/proc/sys/kernel/domainname").read_text(),
        "umask": next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask")),
        "namespaces": sorted(os.readlink(entry.path) for entry in os.scandir("/proc/self/ns")),
        "directory": os.getcwd(),
        "ids": (os.getresuid(), os.getresgid(), os.getgroups()),
    }
