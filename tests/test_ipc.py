"""The ipc namespace: System V objects and POSIX message queues."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import inode, sh, spawn
from nested import LIBC, checked, inside, mount

import nslab

KEY = 0xEAEAEA
IPC_CREAT, IPC_EXCL = 0o1000, 0o2000
SHMMNI = Path("/proc/sys/kernel/shmmni")


def found_or_errno(call: Callable[[], int]) -> str:
    """Return "found", or the name of the errno."""
    try:
        checked(call())
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "found"


def system_v(flags: int) -> list[str]:
    """Open (or with ``IPC_CREAT``, make) shared memory, a semaphore and a message queue, all under one key."""
    return [
        found_or_errno(lambda: LIBC.shmget(KEY, ctypes.c_size_t(4096 if flags else 0), flags)),
        found_or_errno(lambda: LIBC.semget(KEY, 1 if flags else 0, flags)),
        found_or_errno(lambda: LIBC.msgget(KEY, flags)),
    ]


def posix_queue(flags: int) -> str:
    """Open (or with ``O_CREAT``, make) the message queue ``/q``."""
    return found_or_errno(lambda: LIBC.mq_open(b"/q", os.O_RDWR | flags, 0o600, None))


def made_here_looked_up_there(flags: str) -> tuple[list[str], str]:
    """Make one of each here, and see which of them a child finds."""
    made = system_v(IPC_CREAT | IPC_EXCL | 0o600)
    assert made == ["found"] * 3, made
    assert posix_queue(os.O_CREAT | os.O_EXCL) == "found"
    return inside(flags, system_v, 0), inside(flags, posix_queue, 0)


def test_ipc_01_ipc_04_a_plain_child_finds_the_parents_objects() -> None:
    assert inside("ipc", made_here_looked_up_there, "") == (["found"] * 3, "found")


@pytest.mark.unprivileged
def test_ipc_02_ipc_04_a_new_namespace_has_none_of_them() -> None:
    assert inside("ipc", made_here_looked_up_there, "ipc") == (["ENOENT"] * 3, "ENOENT")


def queues(directory: str) -> list[str]:
    """Return the names of this namespace's message queues."""
    mount("mqueue", directory, "mqueue")
    return os.listdir(directory)


def test_ipc_05_queues_of_a_mounted_mqueue_are_the_namespaces(tmp_path: Path) -> None:
    script = f"mount -t mqueue none {tmp_path} && touch {tmp_path}/only-here && ls {tmp_path} && cat"
    with spawn("ipc mnt", ["sh", "-c", script], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "only-here\n"
        assert "only-here" not in inside("mnt", queues, str(tmp_path))
        ipc = child.namespaces["ipc"]
        assert inside("mnt", queues, str(tmp_path), join=[ipc]) == ["only-here"]
    with pytest.raises(ProcessLookupError):
        ipc.open()
    assert "only-here" not in inside("mnt", queues, str(tmp_path))


@pytest.mark.parametrize(("flags", "expected"), [("user mnt", errno.EPERM), ("user mnt ipc", None)])
def test_ipc_06_mqueue_may_be_mounted_by_the_owner_of_the_ipc_namespace(
    flags: str, expected: int | None, tmp_path: Path
) -> None:
    if expected is None:
        assert inside(flags, queues, str(tmp_path), map_root_user=True) == []
    else:
        with pytest.raises(PermissionError) as caught:
            inside(flags, queues, str(tmp_path), map_root_user=True)
        assert caught.value.errno == expected


@pytest.mark.unprivileged
def test_ipc_07_only_with_the_flag_it_differs_from_the_hosts() -> None:
    script = "stat -L -c %i /proc/self/ns/ipc"
    assert sh(0, script) == (0, str(inode("ipc")))
    with spawn("ipc", ["sh", "-c", script], stdout=nslab.PIPE, text=True) as child:
        seen = int(child.communicate()[0])
    assert seen == child.namespaces["ipc"].inode
    assert seen != inode("ipc")


def joined_by_path(path: str) -> tuple[int, int]:
    """Return the inode of our ipc namespace, and of that of a child that joins another."""
    status, output = sh(0, "stat -L -c %i /proc/self/ns/ipc", join=[path])
    assert status == 0, output
    return inode("ipc"), int(output)


def test_ipc_08_join_by_path() -> None:
    ours, joined = inside("ipc", joined_by_path, f"/proc/{os.getpid()}/ns/ipc")
    assert joined == inode("ipc")
    assert joined != ours


def test_ipc_08_join_by_a_path_that_does_not_exist(refused: Callable[..., nslab.SpawnError]) -> None:
    error = refused("open_ns", errno.ENOENT, 0, join=["/proc/1/ns/ipcc"])
    assert isinstance(error, FileNotFoundError)
    assert error.filename == "/proc/1/ns/ipcc"


def test_ipc_10_many_in_a_row() -> None:
    # The kernel frees them later and all at once, by a work queue; before that they count against the limit.
    inodes = set()
    for _ in range(200):
        with spawn("ipc", ["true"]) as child:
            inodes.add(child.namespaces["ipc"].inode)
        assert child.returncode == 0
    assert inode("ipc") not in inodes


def test_ipc_11_the_limits_are_the_namespaces_own() -> None:
    before = SHMMNI.read_text()
    assert before != "10\n"
    assert sh("ipc", f"echo 10 > {SHMMNI}; cat {SHMMNI}") == (0, "10")
    assert SHMMNI.read_text() == before
