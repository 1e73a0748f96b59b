"""Threads, signals, forks, event loops and interrupts: nothing waits for ever, nothing is lost or mixed up."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nslab

from . import interrupts, storm
from .interrupts import CALLS
from .part import Part, seed
from .watched import CheckError, watched

Found = dict[str, Any]


def prove(short: bool) -> Part:
    part = Part(
        "concurrency",
        "Concurrency",
        "Whatever threads, signal handlers, forks, interpreters and event loops do at the same time: no deadlock, no "
        "status lost, no program with another's hostname, no child that nobody can reach.",
        ["what", "times", "seconds", "statuses lost", "answers wrong", "left behind"],
    )
    start = seed(short)
    with part.timed():
        for what, check, args in _checks(short, start):
            _add(part, what, check, args)
        part.notes += [*_interrupts(part, 25 if short else 500, start), *_interpreters(part)]
    part.notes.append(
        "Each row is a process of its own with a watchdog: one that hangs fails with the stack of every thread. Left "
        "behind are children, descriptors, threads, mounts and named hosts after it. The moments of the interrupts "
        f"come from PROOF_SEED={start}."
    )
    return part


def _checks(short: bool, start: int) -> list[tuple[str, Callable[..., Found], list[Any]]]:
    each = 60 if short else 1000
    return [
        ("16 threads, 1 kHz signals, a thread that allocates", storm.threads, [16, each]),
        ("wait, poll and kill one process from 8 threads", storm.one_process, [100 if short else 1000]),
        ("os.fork and multiprocessing while threads spawn", storm.forks, [20 if short else 300]),
        ("asyncio: aspawn, arun, and run in its thread pool", storm.event_loop, [100 if short else 2000]),
        ("a signal handler that raises", interrupts.raising, [100 if short else 2000, start]),
    ]


def _add(part: Part, what: str, check: Callable[..., Found], args: list[Any]) -> Found:
    began = time.monotonic()
    try:
        # The longest takes some minutes.
        found = watched(check, *args, seconds=900)
    except CheckError as error:
        part.expect(False, f"{what}: {error}")
        return {}
    for kind in ("lost", "wrong", "left"):
        for failure in found[kind]:
            part.expect(False, f"{what}: {kind}: {failure}")
    counts = [len(found[kind]) for kind in ("lost", "wrong", "left")]
    part.row(what, found["times"], f"{time.monotonic() - began:.0f}", *counts)
    part.notes += [f"{what}: {found['note']}"] if "note" in found else []
    return found


def _interrupts(part: Part, count: int, start: int) -> list[str]:
    """Add a row for each call, and compare with `subprocess` what it shares with it: the code that makes pipes."""
    rows = [_add(part, f"KeyboardInterrupt in {name}", interrupts.interrupted, [name, count, start]) for name in CALLS]
    came, pipes = (sum(found.get(key, 0) for found in rows) for key in ("times", "pipes"))
    try:
        theirs = watched(interrupts.interrupted, "subprocess.Popen", count, start, seconds=600)
    except CheckError as error:
        part.expect(False, f"KeyboardInterrupt in subprocess.Popen: {error}")
        return []
    return [
        f"{came} interrupts came while a call ran, {count} were sent in each. What they may cost is a pipe that was "
        f"just made for a stream, for that is code of `subprocess`: {pipes} descriptors of pipes in all, none of "
        f"anything else. Of {theirs['times']} interrupts `subprocess.Popen` itself lost {theirs['pipes']} of those, "
        f"and {len(theirs['left'])} children."
    ]


def _interpreters(part: Part) -> list[str]:
    """Try each Python that is here: what a subinterpreter may import differs from version to version."""
    told, path = [], str(Path(nslab.__file__).parents[1])
    for python in _pythons():
        try:
            version, said = watched(storm.subinterpreter, seconds=60, python=python, path=path)
        except CheckError as error:
            part.expect(False, f"a subinterpreter of {python}: {error}")
            continue
        told.append(f"In a subinterpreter of Python {version} {said}.")
    return told


def _pythons() -> list[str]:
    names = [f"python3.{minor}" for minor in range(11, 16) if minor != sys.version_info.minor]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [shutil.which(name) for name in names]
    found += [next(map(str, versions.glob(f"{name[6:]}*/bin/{name}")), None) for name in names]
    return [sys.executable, *dict.fromkeys(python for python in found if python and "shims" not in python)]
