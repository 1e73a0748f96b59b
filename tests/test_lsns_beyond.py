"""Namespaces that lsns(8) does not find, or not everywhere: held by threads, descriptors, children and mounts."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from conftest import ROOT, inode, spawn
from listing import failure, found, lsns, row_of
from nested import LIBC, checked, inside, interpreter, mount

import nslab
from nslab import Namespace


def other(function: Any, *args: Any, flags: str = "") -> nslab.Process:
    """Start a fresh Python that calls the function, prints what it returns and waits until its stdin is closed.

    The function has the privileges to make namespaces.
    """
    flags = flags if ROOT else f"user {flags}"
    options = {"map_root_user": True} if "user" in flags else {}
    argv = interpreter(said, function, *args)
    return spawn(flags, argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True, **options)


def said(function: Any, *args: Any) -> None:
    print(function(*args), flush=True)
    sys.stdin.read()


def answer(process: nslab.Process) -> str:
    assert process.stdout
    return str(process.stdout.readline().strip())


def move_a_thread(flag: int) -> int:
    """Move one thread to another namespace, or its children, and leave it there; return its number."""
    moved: SimpleQueue[OSError | None] = SimpleQueue()

    def move() -> None:
        moved.put(failure(lambda: checked(LIBC.unshare(flag))))
        threading.Event().wait()

    thread = threading.Thread(target=move, daemon=True)
    thread.start()
    if error := moved.get():
        raise error
    assert thread.native_id
    return thread.native_id


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", ["cgroup", "ipc", "mnt", "net", "uts", "time_for_children"])
def test_a_thread_that_is_elsewhere(name: str) -> None:
    kind = name.removesuffix("_for_children")
    with other(move_a_thread, int(Namespace[kind.upper()])) as child:
        thread = int(answer(child))
        path = f"/proc/{child.pid}/task/{thread}/ns/{name}"
        assert os.stat(path).st_ino != inode(name, child.pid)
        row = found(nslab.lsns())[kind, os.stat(path).st_ino]
        assert (row.held_by, row.path, row.nprocs, row.pid, row.command) == (("thread",), path, 0, None, None)
        assert "process" in row_of(child.namespaces[kind]).held_by


@pytest.mark.parametrize("kind", ["user", "time"])
def test_a_thread_cannot_be_elsewhere(kind: str) -> None:
    # Which spares a look at these links of every thread.
    with nslab.spawn(kind, ["cat"], stdin=nslab.PIPE) as child:
        fd = child.namespaces[kind].open()
    try:
        assert inside(0, _join_in_a_thread, fd, pass_fds=[fd]) in (errno.EINVAL, errno.EUSERS)
    finally:
        os.close(fd)


def _join_in_a_thread(fd: int) -> int | None:
    errors: list[OSError | None] = []
    thread = threading.Thread(target=lambda: errors.append(failure(lambda: checked(LIBC.setns(fd, 0)))))
    thread.start()
    thread.join()
    return errors[0].errno if errors[0] else None


def unshare_time() -> None:
    checked(LIBC.unshare(nslab.CLONE_NEWTIME))


@pytest.mark.unprivileged
def test_a_namespace_that_only_children_will_be_in() -> None:
    with other(unshare_time) as child:
        answer(child)
        path = f"/proc/{child.pid}/ns/time_for_children"
        row = found(nslab.lsns("time"))["time", os.stat(path).st_ino]
        assert (row.held_by, row.path, row.nprocs, row.pid) == (("process",), path, 0, None)


@pytest.mark.unprivileged
@pytest.mark.parametrize("kind", ["uts", "net", "user"])
def test_a_namespace_that_only_a_descriptor_holds(kind: str) -> None:
    with spawn(kind, ["cat"], stdin=nslab.PIPE) as child:
        fd = child.namespaces[kind].open()
    try:
        namespace = child.namespaces[kind]
        row = found(nslab.lsns())[kind, namespace.inode]
        assert row.namespace == namespace
        assert (row.held_by, row.path, row.nprocs, row.pid) == (("fd",), f"/proc/{os.getpid()}/fd/{fd}", 0, None)
        assert row.owner_uid == os.geteuid()
    finally:
        os.close(fd)
    assert namespace not in [row.namespace for row in nslab.lsns()]


def unshare_user() -> None:
    checked(LIBC.unshare(nslab.CLONE_NEWUSER))


@pytest.mark.unprivileged
def test_a_namespace_that_only_a_child_holds() -> None:
    with other(unshare_user, flags="user") as child:
        answer(child)
        # The one that it was started in is empty now.
        between, now = child.namespaces["user"], nslab.namespaces(child.pid)["user"]
        rows = {row.namespace: row for row in nslab.lsns("user")}
        assert (rows[between].held_by, rows[between].nprocs, rows[between].path) == (("child",), 0, None)
        assert rows[now].parent == between
        assert rows[between].parent == nslab.namespaces(os.getpid())["user"]


@pytest.mark.unprivileged
def test_a_namespace_that_only_a_mount_holds(tmp_path: Path) -> None:
    inside("mnt", _bound, str(tmp_path / "a b"))


def _bound(path: str) -> None:
    Path(path).touch()
    user = nslab.namespaces(os.getpid())["user"]
    with spawn("uts", ["cat"], stdin=nslab.PIPE) as child:
        mount(f"/proc/{child.pid}/ns/uts", path, flags=4096)
        assert row_of(child.namespaces["uts"]).held_by == ("process", "mount")
        mount("none", Path(path).parent, "tmpfs")
        row = row_of(child.namespaces["uts"])
        assert (row.held_by, row.nsfs, row.owner) == (("process", "mount"), (path,), user)
        checked(LIBC.umount(os.fsencode(Path(path).parent)))
    row = row_of(child.namespaces["uts"])
    assert (row.held_by, row.path, row.nsfs, row.nprocs) == (("mount",), path, (path,), 0)
    assert row.owner == user
    # Covered by something else, it is still there, but nobody can ask it.
    mount("none", Path(path).parent, "tmpfs")
    row = found(nslab.lsns())["uts", child.namespaces["uts"].inode]
    assert (row.held_by, row.path, row.nsfs, row.owner) == (("mount",), path, (path,), None)


def bind_a_namespace(path: str) -> str:
    """Keep a uts namespace by a mount, in a mount namespace of its own; return its inode."""
    Path(path).touch()
    with nslab.spawn("uts", ["cat"], stdin=nslab.PIPE) as child:
        mount(f"/proc/{child.pid}/ns/uts", path, flags=4096)
        return str(child.namespaces["uts"].inode)


@pytest.mark.unprivileged
def test_a_mount_in_another_mount_namespace(tmp_path: Path) -> None:
    path = str(tmp_path / "kept")
    with other(bind_a_namespace, path, flags="mnt") as child:
        key = "uts", int(answer(child))
        row = found(nslab.lsns())[key]
        assert (row.held_by, row.nsfs, row.nprocs) == (("mount",), (path,), 0)
        assert row.path == f"/proc/{child.pid}/root{path}"
        assert os.stat(row.path).st_ino == key[1]
        # What is bound is found by the mount namespace, whichever types are asked for.
        assert key in found(nslab.lsns("uts"))


@pytest.mark.unprivileged
def test_the_number_of_another_network_namespace() -> None:
    inside("net", _numbered)


def _numbered() -> None:
    with nslab.spawn("net", ["cat"], stdin=nslab.PIPE) as child:
        namespace = child.namespaces["net"]
        assert row_of(namespace).netnsid is None
        command = f"ip link add va type veth peer name vb netns {child.pid}; ip -j link show va"
        text = subprocess.run(["sh", "-c", command], stdout=nslab.PIPE, check=True).stdout
        assert row_of(namespace).netnsid == json.loads(text)[0]["link_netnsid"]
        assert lsns()["net", namespace.inode]["netnsid"] == str(row_of(namespace).netnsid)
    assert row_of(nslab.namespaces(os.getpid())["net"]).netnsid is None


def leave_a_zombie() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


@pytest.mark.unprivileged
def test_a_zombie_is_counted_where_the_kernel_shows_it() -> None:
    with other(leave_a_zombie, flags="user uts") as child:
        answer(child)
        theirs, ours = lsns(), found(nslab.lsns())
        keys = [(kind, child.namespaces[kind].inode) for kind in ("user", "uts")]
        assert [ours[key].nprocs for key in keys] == [theirs[key]["nprocs"] for key in keys] == [2, 1]
