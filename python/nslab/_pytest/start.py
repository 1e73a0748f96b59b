"""Starts the child of one test: forks pytest, and makes the namespaces while the fork gets ready for them."""

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

from .._keeper import keep
from .._namespace import names
from .child import Child
from .inside import Inside
from .mark import Request
from .plugin import ENDING, THREADS

#: Below that many tests huge pages cost more than they save.
_MANY = 30


_PREPARED = pytest.StashKey[bool]()


def _prepare(session: pytest.Session) -> None:
    """Make the forks of a long run cheaper, once."""
    if _PREPARED in session.stash:
        return
    session.stash[_PREPARED] = True
    if sum(item.get_closest_marker("namespaces") is not None for item in session.items) >= _MANY:
        _core.collapse_memory()


def start(item: pytest.Item, request: Request) -> Child | None:
    """Fork and make the namespaces; return the child, or None inside it.

    Raises `nslab.SpawnError` for what the kernel refuses.
    """
    _prepare(item.session)
    for earlier in ENDING.copy():
        earlier.finish(wait=False)
    threads = [thread.name for thread in threading.enumerate() if thread not in THREADS]
    handshake = _core.Handshake()
    with contextlib.ExitStack() as undo:
        read, write = os.pipe()
        faults = os.memfd_create("nslab")
        parent = os.pidfd_open(os.getpid())
        for fd in (read, write, faults, parent):
            undo.callback(os.close, fd)
        # Timers do not survive a fork, and whoever has set an alarm around the test has meant the test.
        alarm = signal.setitimer(signal.ITIMER_REAL, 0)
        undo.callback(signal.setitimer, signal.ITIMER_REAL, *alarm)
        pid = _fork(item)
        undo.pop_all()
    if pid == 0:
        os.close(read)
        Inside(item, request, write, faults, threads).enter(parent, handshake, alarm)
        return None
    os.close(write)
    os.close(parent)
    child = Child(pid, handshake, request, read, faults, alarm, threads)
    try:
        child.let_in(_hold(request))
    except BaseException:
        child.__exit__()
        raise
    return child


def _hold(request: Request) -> nslab.Process:
    """Make the namespaces, set up, and what keeps them as long as this process lives; all but a new pid namespace.

    In that one the test itself is the first process, as it would be with `nslab.spawn`.
    """
    flags = request.flags & ~nslab.Namespace.PID
    options = {name: value for name, value in request.options.items() if name != "mount_proc"}
    holder = keep(flags, None, names(flags), options)
    holder._known = True
    return holder


def _fork(item: pytest.Item) -> int:
    # What is in a buffer would be written twice.
    reporter = item.config.pluginmanager.getplugin("terminalreporter")
    for stream in (getattr(reporter, "_tw", None), sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with contextlib.suppress(ValueError):  # it is closed
                stream.flush()
    with warnings.catch_warnings():
        # A worker of xdist has threads; the child goes on without them, and needs none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
