"""The tree of processes, held against /proc read by hand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, inode, spawn
from kernel import needs_kernel_threads
from nested import as_nobody, inside, interpreter

import nslab
from nslab._inspect.processes import ProcessInfo, ProcessTree

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]


def everyone(tree: ProcessTree) -> Iterator[ProcessInfo]:
    """All processes of a tree, by level."""
    level = list(tree.roots)
    while level:
        yield from level
        level = [child for process in level for child in process.children]


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status by hand."""
    text = Path(f"/proc/{pid}/status").read_text(errors="surrogateescape")
    return dict(re.findall(r"^(\w+):\t(.*)$", text, re.MULTILINE))


def other(function: Callable[..., None], *args: Any, flags: str = "") -> nslab.Process:
    """Start a fresh Python that calls the function and waits; return once that is done."""
    options = {"map_root_user": True} if "user" in flags else {}
    argv = interpreter(told, function, *args)
    process = spawn(flags, argv, stdin=nslab.PIPE, stdout=nslab.PIPE, **options)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def told(function: Callable[..., None], *args: Any) -> None:
    function(*args)
    print("ready", flush=True)
    sys.stdin.read()


def wait_for_end() -> nslab.Process:
    """Start a program that ends when its parent does."""
    return nslab.spawn("", ["cat"], stdin=nslab.PIPE)


CHILDREN: list[nslab.Process] = []


def have_children() -> None:
    CHILDREN.extend(wait_for_end() for _ in range(3))


def have_levels(levels: int) -> None:
    if levels:
        CHILDREN.append(other(have_levels, levels - 1, flags="pid"))
    else:
        have_children()


@pytest.mark.unprivileged
def test_every_field_is_what_proc_says() -> None:
    with other(have_children, flags="user pid uts") as top:
        tree = nslab.processes(top)
        found = list(everyone(tree))
        assert [process.pid for process in tree.roots] == [top.pid]
        assert [process.command for process in found[1:]] == ["cat"] * 3
        for process in found:
            by_hand = status(process.pid)
            assert process.ppid == int(by_hand["PPid"])
            assert process.pids == tuple(map(int, by_hand["NSpid"].split()))
            assert process.name == by_hand["Name"]
            assert process.state in "RS"
            assert process.uid == int(by_hand["Uid"].split()[1])
            assert process.note is None
            cmdline = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
            assert process.command == " ".join(cmdline[:-1])
            assert {kind: namespace.inode for kind, namespace in process.namespaces.items()} == {
                kind: inode(kind, process.pid) for kind in KINDS
            }
            assert process.namespaces == nslab.namespaces(process.pid)


@pytest.mark.unprivileged
def test_a_stopped_process() -> None:
    with spawn("", ["cat"], stdin=nslab.PIPE) as child:
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PIDFD, child.pidfd, os.WSTOPPED | os.WNOWAIT)
        assert nslab.processes(child).roots[0].state == "T"
        child.send_signal(signal.SIGCONT)


@pytest.mark.unprivileged
def test_the_pid_on_every_level() -> None:
    with other(have_levels, 2, flags="user pid") as top:
        levels = [process.pids for process in everyone(nslab.processes(top))]
        # Counted from the outermost; the three at the end are in the innermost, beside its first.
        assert [len(pids) for pids in levels] == [2, 3, 4, 4, 4, 4]
        assert [pids[-1] for pids in levels] == [1, 1, 1, 2, 3, 4]
        assert all(pids[0] == int(status(pids[0])["Pid"]) for pids in levels)


@pytest.mark.unprivileged
def test_all_processes() -> None:
    tree = nslab.processes()
    processes = list(everyone(tree))
    pids = [process.pid for process in processes]
    assert len(pids) == len(set(pids))
    own = next(process for process in processes if process.pid == os.getpid())
    assert own.ppid == os.getppid()
    for process in processes:
        assert all(child.ppid == process.pid for child in process.children)
    assert list(tree.roots) == sorted(tree.roots, key=lambda process: process.pid)
    listed = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    found = {process.pid for process in everyone(nslab.processes())}
    assert [pid for pid in listed - found if Path(f"/proc/{pid}/stat").exists()] == []


@pytest.mark.unprivileged
def test_the_tree_is_that_of_ps() -> None:
    with other(have_children) as top:
        text = subprocess.run(["ps", "-eo", "pid=,ppid="], stdout=nslab.PIPE, text=True, check=True).stdout
        theirs = {int(pid): int(ppid) for pid, ppid in map(str.split, text.splitlines())}
        found = list(everyone(nslab.processes(top.pid)))
        assert len(found) == 4
        assert all(theirs[process.pid] == process.ppid for process in found)


def leave_a_zombie() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.unprivileged
def test_a_zombie() -> None:
    with other(leave_a_zombie, flags="user") as top:
        (child,) = nslab.processes(top).roots[0].children
        assert (child.state, child.children) == ("Z", ())
        assert child.command == f"[{child.name}]"
        assert child.note == "it has ended, and its parent has not waited for it yet"
        assert child.namespaces["user"] == top.namespaces["user"]
        assert "uts" not in child.namespaces


NAME = b"a) Z\n\\b\xff"


@pytest.mark.unprivileged
def test_a_name_of_any_bytes() -> None:
    with other(rename) as child:
        (process,) = nslab.processes(child).roots
        assert os.fsencode(process.name) == NAME == Path(f"/proc/{child.pid}/comm").read_bytes()[:-1]
        assert process.state in "SR"
    with spawn("", ["sh", "-c", "read line", b"\xff\xfe \n"], stdin=nslab.PIPE) as child:
        (process,) = nslab.processes(child).roots
        assert os.fsencode(process.command) == b"sh -c read line \xff\xfe \n"


def rename() -> None:
    Path("/proc/self/comm").write_bytes(NAME)


@pytest.mark.unprivileged
def test_the_command_of_who_has_just_been_spawned() -> None:
    # spawn returns as soon as execve has taken the memory over; the arguments come after that.
    for _ in range(100):
        with spawn("", ["cat", "-"], stdin=nslab.PIPE) as child:
            assert nslab.processes(child).roots[0].command == "cat -"


@pytest.mark.skipif(not ROOT, reason="the kernel's own threads belong to root")
@needs_kernel_threads
def test_kernel_threads() -> None:
    tree = nslab.processes(2)
    threads = list(everyone(tree))
    assert threads[0].command == "[kthreadd]"
    assert len(threads) > 1
    assert all(thread.ppid == 2 for thread in threads[1:])
    assert all(thread.command.startswith("[") for thread in threads)
    assert threads[0].namespaces["net"].inode == os.stat("/proc/2/ns/net").st_ino


def test_processes_of_other_users() -> None:
    process, note = as_nobody(_of_another, os.getpid())
    assert (process.pid, process.ppid) == (os.getpid(), os.getppid())
    assert process.command.startswith(sys.executable) or process.command
    assert process.namespaces == {}
    assert process.note == "it may not be looked into"
    assert "processes of other users may not be looked into: root sees more" in note


def _of_another(pid: int) -> tuple[ProcessInfo, str]:
    tree = nslab.processes()
    found = next(process for process in everyone(tree) if process.pid == pid)
    plain = {field: getattr(found, field) for field in found.__dataclass_fields__}
    # What `pickle` cannot do is a read-only mapping.
    plain |= {"namespaces": dict(found.namespaces), "children": ()}
    return ProcessInfo(**plain), tree.note or ""


@pytest.mark.unprivileged
def test_inside_a_pid_namespace() -> None:
    pids, ppids = inside("user pid mnt", _inside, map_root_user=True, mount_proc=True)
    assert (pids, ppids) == ([(1,)], [0])


def _inside() -> tuple[list[tuple[int, ...]], list[int]]:
    found = list(everyone(nslab.processes()))
    return [process.pids for process in found], [process.ppid for process in found]


@pytest.mark.unprivileged
def test_a_long_chain() -> None:
    script = 'n=$0; [ $n = 0 ] && { echo ready; read line; exit; }; sh -c "$1" $((n - 1)) "$1"; true'
    with spawn("", ["sh", "-c", script, "60", script], stdin=nslab.PIPE, stdout=nslab.PIPE) as top:
        assert top.stdout
        top.stdout.readline()
        tree = nslab.processes(top)
        assert len(list(everyone(tree))) == 61
        assert tree.to_dict()["roots"][0]["pid"] == top.pid
