"""Starts the child of one test: makes the namespaces, then forks pytest."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings

import pytest

import nslab
from nslab import _core

from .child import Child, release
from .inside import Inside
from .mark import Request
from .plugin import ENDING, THREADS


def start(item: pytest.Item, request: Request) -> Child | None:
    """Make the namespaces and fork; return the child, or None inside it.

    Raises `nslab.SpawnError` for what the kernel refuses.
    """
    for earlier in ENDING.copy():
        earlier.finish(wait=False)
    threads = [thread.name for thread in threading.enumerate() if thread not in THREADS]
    with contextlib.ExitStack() as undo:
        holder = _hold(request)
        undo.callback(release, holder)
        read, write = os.pipe()
        faults = os.memfd_create("nslab")
        parent = os.pidfd_open(os.getpid())
        for fd in (read, write, faults, parent):
            undo.callback(os.close, fd)
        # Timers do not survive a fork, and whoever has set an alarm around the test has meant the test.
        alarm = signal.setitimer(signal.ITIMER_REAL, 0)
        undo.callback(signal.setitimer, signal.ITIMER_REAL, *alarm)
        pid, is_first = _fork(item, request)
        undo.pop_all()
    if pid == 0:
        os.close(read)
        Inside(item, request, write, faults, threads).enter(holder, parent, is_first, alarm)
        return None
    os.close(write)
    os.close(parent)
    return Child(pid, request, holder, read, faults, alarm, threads)


def _hold(request: Request) -> nslab.Process:
    """Make the namespaces, set up, with a process in them that does nothing; all but a new pid namespace.

    In that one the test itself is the first process, as it would be with `nslab.spawn`.
    """
    options = {name: value for name, value in request.options.items() if name != "mount_proc"}
    # It ends with this process, when nobody holds the other end of its standard input any more.
    return nslab.spawn(
        request.flags & ~nslab.Namespace.PID,
        ["/bin/sh", "-c", "read _"],
        stdin=nslab.PIPE,
        stdout=nslab.DEVNULL,
        stderr=nslab.DEVNULL,
        env={},
        start_new_session=True,
        **options,
    )


def _fork(item: pytest.Item, request: Request) -> tuple[int, bool]:
    """Fork, where that is possible into the new pid namespace; return the pid, and whether it was."""
    # What is in a buffer would be written twice.
    reporter = item.config.pluginmanager.getplugin("terminalreporter")
    for stream in (getattr(reporter, "_tw", None), sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with contextlib.suppress(ValueError):  # it is closed
                stream.flush()
    # A pid namespace that is to belong to the new user namespace can be made only from there.
    own = request.flags & nslab.Namespace.PID and not request.flags & nslab.Namespace.USER
    is_first = bool(own) and "join" not in request.options and _core.unshare_pid()
    try:
        with warnings.catch_warnings():
            # A worker of xdist has threads; the child goes on without them, and needs none of their locks.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    finally:
        if is_first and os.getpid() != 1:
            _core.rejoin_pid()
    return pid, is_first
