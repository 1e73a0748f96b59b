"""``pytest --nslab=…``: the whole run inside, by executing pytest anew there before it has done anything."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest

from nslab import Namespace

from .._inspect.ids import current
from .._namespace import names, parse_flags
from . import options
from .mark import impossible, needs_user
from .plugin import REFUSED

# Says whether pytest still has to go in: "wanted:" and "inside:" are followed by flags and inodes.
_VARIABLE = "NSLAB_PYTEST"


def enter(config: pytest.Config, text: str) -> None:
    """Execute this run again in new namespaces, unless it is there already; does not return then.

    Raises `pytest.UsageError` for flags that make no sense.
    """
    try:
        flags = parse_flags(text)
    except ValueError as error:
        raise pytest.UsageError(f"--nslab: {error}") from None
    if not flags or _is_inside(flags):
        return
    if needs_user(flags):
        flags |= Namespace.USER
    if reason := impossible(flags):
        if options.missing(config) == "fail":
            raise pytest.UsageError(f"--nslab: {reason}")
        # Never less isolated than asked: no test runs.
        config.stash[REFUSED] = reason
        return
    os.environ[_VARIABLE] = f"wanted:{_here(flags)}"
    # As the foreground of the terminal, with the exit status of pytest, and no longer alive than this process.
    run = [sys.executable, "-P", "-m", "nslab", "run", "--kill-child", *_switches(flags)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*run, "--", sys.executable, *sys.orig_argv[1:]])


def _switches(flags: int) -> list[str]:
    """Name the namespaces, and what makes them a place where tests run as they do outside."""
    chosen = ["--mount" if name == "mnt" else f"--{name}" for name in names(flags)]
    if flags & Namespace.USER:
        chosen.append("--map-root-user")
    if flags & Namespace.MNT and flags & Namespace.PID:
        chosen.append("--mount-proc")
    if flags & Namespace.NET:
        chosen.append("--loopback")
    return chosen


def _here(flags: int) -> str:
    found = current()
    return ",".join(str(found[name]) for name in names(flags))


def _is_inside(wanted: int) -> bool:
    """Return whether this process was executed inside, or comes from one that was, as a worker of xdist does."""
    state, _, there = os.environ.get(_VARIABLE, "").partition(":")
    entries = there.split(",") if there else []
    flags = parse_flags(entry.partition(":")[0] for entry in entries)
    if wanted & ~flags:
        return False
    here = _here(flags)
    if state == "inside":
        return here == there
    if set(entries) & set(here.split(",")):
        raise pytest.UsageError(f"--nslab: the run was to be in new namespaces, but is still in {there}")
    os.environ[_VARIABLE] = f"inside:{here}"
    if os.getpid() == 1:
        _end_as_others_do()
    return True


def _end_as_others_do() -> None:
    """For a PID 1 the kernel discards the signals that end every other process, unless it has a handler."""
    handler: Callable[..., object] = lambda number, _: os._exit(128 + number)  # noqa: E731
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, handler)
