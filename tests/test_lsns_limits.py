"""`nslab.lsns` where not everything can be looked at, and while things change."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

import pytest
from conftest import inode, spawn
from listing import failure
from nested import LIBC, as_nobody, checked, inside, mount

import nslab
from nslab._inspect.target import namespaces_of, pinned

# ------------------------------------------------------------------------------------------ what cannot be looked at


def test_as_an_ordinary_user() -> None:
    unreadable, note, inodes = as_nobody(_as_nobody)
    assert os.getpid() in unreadable
    assert f"{len(unreadable)} processes of other users may not be looked into: root sees more" in note
    assert inode("uts") in inodes


def _as_nobody() -> tuple[tuple[int, ...], str, set[int]]:
    table = nslab.lsns("uts")
    return table.unreadable, table.note or "", {row.namespace.inode for row in table}


@pytest.mark.unprivileged
def test_inside_a_pid_namespace() -> None:
    # With the /proc of the outer one, and with its own.
    outer = inside("user pid", _note, map_root_user=True)
    assert "/proc is that of another pid namespace, and so are the pids" in outer
    own = inside("user pid mnt", _note, map_root_user=True, mount_proc=True)
    assert own == "processes outside of this pid namespace are not visible"


def _note() -> str:
    return nslab.lsns("uts").note or ""


@pytest.mark.parametrize("hidepid", [0, 1, 2, 4])
def test_a_proc_that_hides_others(hidepid: int) -> None:
    # By an ordinary user: from root's group nothing is hidden.
    listed, unreadable, notes, error = as_nobody(_nested_hidden, hidepid)
    assert listed == (hidepid == 0)
    assert unreadable == (hidepid < 2)
    for note in notes:
        assert ("1 process may not be looked into" in note) == (hidepid < 2)
        assert ("/proc hides the processes of other users (hidepid=" in note) == (hidepid >= 2)
    assert isinstance(error, PermissionError)
    reason = "hidepid, see proc(5)" if hidepid else "it has more privileges than the caller, or protects itself"
    assert str(error).endswith(reason)


Hidden = tuple[bool, bool, list[str], OSError | None]


def _nested_hidden(hidepid: int) -> Hidden:
    return inside("user pid mnt", _hidden, hidepid, map_root_user=True)


def _hidden(hidepid: int) -> Hidden:
    checked(LIBC.mount(b"proc", b"/proc", b"proc", 0, f"hidepid={hidepid}".encode()))
    with nslab.spawn("uts", ["cat"], stdin=nslab.PIPE) as child:
        # Now one that has them is as good as another user.
        drop_capabilities()
        tree, table = nslab.processes(), nslab.lsns("uts")
        error = None
        try:
            with pinned(child) as process:
                namespaces_of(process)
        except OSError as caught:
            error = caught
        listed = child.pid in [process.pid for root in tree.roots for process in (root, *root.children)]
        return listed, child.pid in table.unreadable, [tree.note or "", table.note or ""], error


def drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(LIBC.capset(header, (ctypes.c_uint32 * 6)()))


@pytest.mark.unprivileged
@pytest.mark.parametrize("what", [nslab.lsns, nslab.processes, nslab.mounts, nslab.clocks])
def test_without_proc(what: Any) -> None:
    error = inside("user mnt", _without_proc, what, map_root_user=True)
    assert isinstance(error, FileNotFoundError)
    assert (error.strerror, error.filename) == ("/proc is not mounted, or not for this pid namespace", "/proc")


def _without_proc(what: Any) -> OSError | None:
    mount("none", "/proc", "tmpfs")
    return failure(what)


@pytest.mark.unprivileged
def test_without_a_descriptor_left() -> None:
    error = inside(0, _without_descriptors)
    assert error
    assert error.errno == errno.EMFILE


def _without_descriptors() -> OSError | None:
    nslab.lsns("uts")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    while not failure(os.dup, 0):
        pass
    # Enough to open /proc, too few for what is there.
    os.closerange(61, 64)
    return failure(nslab.lsns, "uts")


# ----------------------------------------------------------------------------------------------- while things change


@pytest.mark.unprivileged
def test_what_vanishes_while_it_is_read() -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            with spawn("uts ipc pid", ["true"]):
                pass

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            for row in nslab.lsns("uts ipc pid"):
                assert row.held_by
                assert (row.nprocs > 0) == (row.pid is not None)
                assert row.command or row.pid is None
    finally:
        stop.set()
        thread.join()


@pytest.mark.unprivileged
def test_how_far_it_is() -> None:
    calls: list[tuple[int, int]] = []
    nslab.lsns(progress=lambda done, of: calls.append((done, of)))
    done, of = zip(*calls, strict=True)
    assert sorted(done) == list(done)
    assert done[0] == 0
    assert {*of} == {done[-1]}
    assert of[0] > 1


@pytest.mark.unprivileged
def test_it_can_be_interrupted() -> None:
    def interrupt(done: int, of: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        nslab.lsns(progress=interrupt)

    def give_up(done: int, of: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        nslab.lsns(progress=give_up)


@pytest.mark.unprivileged
def test_other_threads_run_meanwhile() -> None:
    seen: list[int] = []
    running = threading.Event()
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            seen.append(len(seen))
            running.set()
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    running.wait()
    try:
        # Nobody is made to let the other go on.
        sys.setswitchinterval(60)
        before = len(seen)
        assert any(len(seen) > before for _ in range(500) if nslab.lsns("uts"))
    finally:
        sys.setswitchinterval(0.005)
        stop.set()
        thread.join()
