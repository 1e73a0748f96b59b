"""Every namespace on the machine, held against lsns(8), and those that lsns does not find."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from conftest import ROOT, inode, spawn
from nested import LIBC, as_nobody, checked, inside, interpreter, mount

import nslab
from nslab import Namespace
from nslab._inspect.lsns import NamespaceInfo, NamespaceTable
from nslab._inspect.target import namespaces_of, pinned

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
COLUMNS = "NS,TYPE,PATH,NPROCS,PID,PPID,COMMAND,UID,USER,NETNSID,NSFS,PNS,ONS"

root_only = pytest.mark.skipif(not ROOT, reason="only root sees the namespaces of all")


def lsns() -> dict[tuple[str, int], dict[str, Any]]:
    """Return what lsns(8) finds, by type and inode."""
    command = ["lsns", "--json", "--list", "-o", COLUMNS]
    while (done := subprocess.run(command, stdout=nslab.PIPE, stderr=nslab.DEVNULL)).returncode:
        pass  # It gives up when a process ends while it looks at it.
    rows = json.loads(done.stdout)["namespaces"]
    return {(row["type"], row["ns"]): row for row in rows}


def found(table: NamespaceTable) -> dict[tuple[str, int], NamespaceInfo]:
    """Return what nslab finds, by type and inode."""
    rows = {(row.type, row.namespace.inode): row for row in table}
    assert len(rows) == len(table)
    return rows


def row_of(namespace: nslab.NamespaceId, types: str = "all") -> NamespaceInfo:
    """Return the one row of a namespace."""
    (row,) = (row for row in nslab.lsns(types) if row.namespace == namespace)
    return row


def as_lsns_has_it(row: NamespaceInfo) -> dict[str, Any]:
    """Return the fields of lsns(8), with its words for what is missing."""
    fields = row.to_dict()
    row_of_lsns = {name.lower(): fields[name.lower()] for name in COLUMNS.split(",")}
    row_of_lsns["nsfs"] = "\n".join(fields["nsfs"]) or None
    row_of_lsns["pns"] = fields["pns"] or 0
    row_of_lsns["ons"] = fields["ons"] or 0
    if row.type == "net" and row.netnsid is None:
        row_of_lsns["netnsid"] = "unassigned"
    return row_of_lsns


@pytest.mark.unprivileged
def test_every_namespace_that_lsns_finds() -> None:
    with spawn("all", ["cat"], stdin=nslab.PIPE, **as_root_inside()):
        before, ours, after = lsns(), found(nslab.lsns()), lsns()
        # An inode that is free again may be another namespace's, so the first process has to be the same.
        lasting = {key for key in before.keys() & after.keys() if before[key]["pid"] == after[key]["pid"] is not None}
        assert lasting - ours.keys() == set()


def as_root_inside() -> dict[str, Any]:
    return {"map_root_user": True} if ROOT else {}


@pytest.mark.unprivileged
def test_every_field_that_lsns_has() -> None:
    script = "exec 9>&1; sleep 60 & sleep 60 & echo ready; exec cat"
    with spawn("all", ["sh", "-c", script], stdin=nslab.PIPE, stdout=nslab.PIPE, **as_root_inside()) as first:
        assert first.stdout
        assert first.stdout.readline() == b"ready\n"
        theirs, ours = lsns(), found(nslab.lsns())
        first.kill()
    for kind, namespace in first.namespaces.items():
        key = kind, namespace.inode
        assert as_lsns_has_it(ours[key]) == theirs[key]
        assert ours[key].nprocs == 3
        assert ours[key].namespace == namespace
        assert "process" in ours[key].held_by


@root_only
def test_the_fields_of_the_namespaces_of_the_host() -> None:
    for kind in KINDS:
        row = row_of(nslab.namespaces(os.getpid())[kind], kind)
        assert row.pid
        assert row.path == f"/proc/{row.pid}/ns/{kind}"
        assert inode(kind, row.pid) == inode(kind)
        assert row.nprocs > 1
        assert row.owner_uid == 0


@pytest.mark.unprivileged
def test_the_parent_and_the_owner() -> None:
    with spawn("user pid uts", ["cat"], stdin=nslab.PIPE, map_root_user=True) as child:
        rows = {kind: row_of(child.namespaces[kind]) for kind in ("user", "pid", "uts")}
        own = nslab.namespaces(os.getpid())
        for kind, row in rows.items():
            identity = child.namespaces[kind]
            assert (identity.parent, identity.owner, identity.owner_uid) == (row.parent, row.owner, row.owner_uid)
            assert row.owner_uid == os.geteuid()
        assert rows["user"].parent == rows["user"].owner == own["user"]
        assert rows["pid"].parent == own["pid"]
        assert rows["pid"].owner == rows["uts"].owner == child.namespaces["user"]
        assert rows["uts"].parent is None
    with pytest.raises(ProcessLookupError):
        _ = child.namespaces["uts"].owner


@pytest.mark.unprivileged
def test_what_is_outside_of_the_callers_own_is_not_shown() -> None:
    assert inside("user pid", _relations, map_root_user=True) == {"user": (None, None), "pid": (None, "user")}


def _relations() -> dict[str, tuple[object, object]]:
    own = [row.namespaces[0] for row in nslab.compare(None, None).rows]
    rows = {row.type: row for row in nslab.lsns("user pid") if row.namespace in own}
    assert [row.namespace.parent for row in rows.values()] == [None, None]
    return {kind: (row.parent and row.parent.type, row.owner and row.owner.type) for kind, row in rows.items()}


@pytest.mark.unprivileged
def test_the_order_of_rows() -> None:
    with spawn("uts ipc", ["cat"], stdin=nslab.PIPE):
        rows = [row.namespace for row in nslab.lsns()]
        assert rows == sorted(rows, key=lambda row: (row.type, row.id or row.inode))


@pytest.mark.unprivileged
def test_only_the_types_that_are_asked_for() -> None:
    assert {row.type for row in nslab.lsns("uts,net")} == {"uts", "net"}
    assert {row.type for row in nslab.lsns(Namespace.USER)} == {"user"}
    everything = [row.type for row in nslab.lsns()]
    assert everything == sorted(everything)
    assert set(everything) == set(KINDS)
    for nothing in ("", None, 0):
        with pytest.raises(ValueError, match="types names no namespace"):
            nslab.lsns(nothing)
    with pytest.raises(ValueError, match="did you mean"):
        nslab.lsns("utc")


@pytest.mark.unprivileged
def test_a_row_is_ready_for_json() -> None:
    table = nslab.lsns("uts")
    assert len(json.loads(json.dumps(table.to_dict()))["namespaces"]) == len(table)
    row = table[0].to_dict()
    assert row.keys() >= {"ns", "type", "nprocs", "pid", "ppid", "command", "uid", "user", "path", "netnsid", "nsfs"}


# ------------------------------------------------------------------------------------- what lsns(8) does not find


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


# ------------------------------------------------------------------------------------------ what cannot be looked at


def test_as_an_ordinary_user() -> None:
    unreadable, note, inodes = as_nobody(_as_nobody)
    assert os.getpid() in unreadable
    assert f"{len(unreadable)} processes of other users may not be looked into: root sees more" in note
    assert inodes == {inode("uts")}


def _as_nobody() -> tuple[tuple[int, ...], str, set[int]]:
    table = nslab.lsns("uts")
    own = {row.namespace.inode for row in table if row.pid == min(row.pid for row in table if row.pid)}
    return table.unreadable, table.note or "", own


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


def failure(what: Any, *args: Any) -> OSError | None:
    try:
        what(*args)
    except OSError as error:
        return error
    return None


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
