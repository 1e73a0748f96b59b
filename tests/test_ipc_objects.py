"""What `nslab.ipc` says of an IPC namespace, held against ipcs(1), a mounted mqueue and what the test made."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import seccomp
from conftest import ROOT, inode, sh, spawn
from nested import LIBC, as_nobody, checked, inside, interpreter, mount

import nslab
from nslab._inspect.ipc import MessageQueue, PosixQueue, SemaphoreSet, SharedMemory

IPC_CREAT, IPC_RMID, IPC_SET, IPC_PRIVATE = 0o1000, 0, 1, 0


@contextmanager
def maker(function: Callable[..., object], *args: Any, flags: str = "ipc", **options: Any) -> Iterator[nslab.Process]:
    """A process that has called the function in an IPC namespace of its own."""
    argv = interpreter(until_told, function, *args)
    with spawn(flags, argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True, **options) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process


def until_told(function: Callable[..., object], *args: Any) -> None:
    kept = function(*args)
    print("ready", flush=True)
    input_ends()
    del kept


def input_ends() -> None:
    while os.read(0, 100):
        pass


def within(process: nslab.Process) -> dict[str, Any]:
    """Return the option that joins its IPC namespace, for an ordinary user through its user namespace."""
    return {"join": [process.namespaces["ipc"]] + ([] if ROOT else [process.namespaces["user"]])}


def new_queue(key: int, mode: int, *messages: bytes) -> int:
    queue = int(checked(LIBC.msgget(ctypes.c_int(key), IPC_CREAT | mode)))
    for text in messages:
        message = struct.pack("l", 1) + text
        checked(LIBC.msgsnd(queue, message, ctypes.c_size_t(len(text)), 0))
    return queue


def new_posix_queue(name: str, mode: int, *messages: bytes) -> int:
    attributes = (ctypes.c_long * 8)(0, 10, 100)
    os.umask(0)
    descriptor = int(checked(LIBC.mq_open(name.encode(), os.O_CREAT | os.O_RDWR, mode, attributes)))
    for text in messages:
        checked(LIBC.mq_send(descriptor, text, ctypes.c_size_t(len(text)), 0))
    return descriptor


def attach(segment: int) -> None:
    LIBC.shmat.restype = ctypes.c_void_p
    assert LIBC.shmat(segment, None, 0) != ctypes.c_void_p(-1).value


def one_of_each() -> None:
    new_queue(0x11, 0o640, b"hello", b"you")
    new_queue(IPC_PRIVATE, 0o600)
    new_queue(-2, 0o622)
    checked(LIBC.semget(0x22, 3, IPC_CREAT | 0o660))
    checked(LIBC.semget(0x23, 250, IPC_CREAT | 0o400))
    attach(checked(LIBC.shmget(0x33, ctypes.c_size_t(10_000), IPC_CREAT | 0o604)))
    doomed = checked(LIBC.shmget(0x34, ctypes.c_size_t(4096), IPC_CREAT | 0o600))
    attach(doomed)
    attach(doomed)
    checked(LIBC.shmctl(doomed, IPC_RMID, None))
    new_posix_queue("/jobs", 0o640, b"12345", b"678")
    new_posix_queue("/a b\xe9", 0o600)


@pytest.mark.unprivileged
def test_every_object_with_every_field() -> None:
    uid, gid = os.geteuid(), os.getegid()
    with maker(one_of_each) as process:
        found = nslab.ipc(process)
        assert found.namespace == process.namespaces["ipc"]
        assert found.note is None
        assert found.message_queues == (
            MessageQueue(0, 0x11, uid, gid, 0o640, 2, 8),
            MessageQueue(1, 0, uid, gid, 0o600, 0, 0),
            MessageQueue(2, 0xFFFFFFFE, uid, gid, 0o622, 0, 0),
        )
        assert found.semaphore_sets == (
            SemaphoreSet(0, 0x22, uid, gid, 0o660, 3),
            SemaphoreSet(1, 0x23, uid, gid, 0o400, 250),
        )
        assert found.shared_memory == (
            SharedMemory(0, 0x33, uid, gid, 0o604, 10_000, 1, process.pid),
            # Removed by its key, but still attached.
            SharedMemory(1, 0, uid, gid, 0o600, 4096, 2, process.pid),
        )
        assert found.posix_queues == (
            PosixQueue("/a b\xe9", uid, gid, 0o600, 0),
            PosixQueue("/jobs", uid, gid, 0o640, 8),
        )
        assert found == nslab.ipc(process.pid) == nslab.ipc(process.namespaces["ipc"])
        assert json.loads(json.dumps(found.to_dict()))["posix_queues"][1]["name"] == "/jobs"


def ipcs(process: nslab.Process, switch: str) -> list[list[str]]:
    """Return the rows of ipcs(1), run in its IPC namespace."""
    output = nslab.run(0, ["ipcs", switch], stdout=nslab.PIPE, text=True, check=True, **within(process)).stdout
    return [line.split() for line in output.splitlines() if line.startswith("0x")]


@pytest.mark.unprivileged
def test_it_is_what_ipcs_says() -> None:
    made = "ipcmk -Q -p 0644; ipcmk -Q -p 0600; ipcmk -M 5000 -p 0606; ipcmk -M 1; ipcmk -S 7; ipcmk -S 1 -p 0444"
    script = f"({made}) >/dev/null; echo ready; exec cat"
    with spawn("ipc", ["sh", "-c", script], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        found = nslab.ipc(process)
        head = [[f"{o.key:#010x}", str(o.id), f"{o.mode:o}"] for o in found.message_queues]
        queues = [[*h, str(o.bytes), str(o.messages)] for h, o in zip(head, found.message_queues, strict=True)]
        assert queues == [[row[0], row[1], *row[3:6]] for row in ipcs(process, "-q")]
        sets = [[f"{o.key:#010x}", str(o.id), f"{o.mode:o}", str(o.semaphores)] for o in found.semaphore_sets]
        assert sets == [[row[0], row[1], *row[3:5]] for row in ipcs(process, "-s")]
        segments = [
            [f"{o.key:#010x}", str(o.id), f"{o.mode:o}", str(o.size), str(o.attached)] for o in found.shared_memory
        ]
        assert segments == [[row[0], row[1], *row[3:6]] for row in ipcs(process, "-m")]
        assert (len(queues), len(sets), len(segments)) == (2, 2, 2)


def four_posix_queues() -> list[int]:
    return [new_posix_queue(f"/{name}", mode, b"x" * len(name)) for name, mode in (("a", 0o600), ("bb", 0o622))]


@pytest.mark.unprivileged
def test_queues_are_those_of_a_mounted_mqueue(tmp_path: Path) -> None:
    with maker(four_posix_queues) as process:
        found = nslab.ipc(process).posix_queues
        script = f"mount -t mqueue none {tmp_path} && cd {tmp_path} && stat -c '/%n %a' * && cat *"
        status, output = sh("mnt", script, **within(process)) if ROOT else sh_inside(script, process)
    assert status == 0, output
    assert output.splitlines()[:2] == [f"{queue.name} {queue.mode:o}" for queue in found]
    assert [int(size) for size in re.findall(r"QSIZE:(\d+)", output)] == [queue.bytes for queue in found] == [1, 2]


def sh_inside(script: str, process: nslab.Process) -> tuple[int, str]:
    done = nslab.run("mnt", ["sh", "-c", script], stdout=nslab.PIPE, text=True, **within(process))
    return done.returncode, done.stdout.strip()


@pytest.mark.unprivileged
def test_a_new_namespace_is_empty() -> None:
    with spawn("ipc", ["cat"], stdin=nslab.PIPE) as process:
        found = nslab.ipc(process)
    assert found.namespace == process.namespaces["ipc"]
    assert not (found.message_queues or found.semaphore_sets or found.shared_memory or found.posix_queues)
    assert found.note is None


@pytest.mark.unprivileged
def test_the_callers_own_are_not_those_of_a_child() -> None:
    with maker(one_of_each) as process:
        own = nslab.ipc()
        assert own.namespace.inode == inode("ipc")
        assert own.namespace != nslab.ipc(process).namespace
        keys = {int(line.split()[0]) & 0xFFFFFFFF for line in Path("/proc/sysvipc/msg").read_text().splitlines()[1:]}
        assert {queue.key for queue in own.message_queues} == keys


def owned_by_several() -> None:
    """Give one queue away, and make one of each kind as somebody else."""
    queue = new_queue(1, 0o600)
    status = (ctypes.c_uint32 * 64)()
    checked(LIBC.msgctl(queue, 2, status))
    status[1], status[2] = 5, 6  # the uid and gid in struct ipc_perm
    checked(LIBC.msgctl(queue, IPC_SET, status))
    os.setgid(3)
    os.setuid(2)
    new_queue(2, 0o600)
    new_posix_queue("/of-another", 0o600, b"123")


@pytest.mark.skipif(not ROOT, reason="only root may map several ids")
def test_ids_are_those_of_the_callers_user_namespace() -> None:
    maps: dict[str, Any] = {
        "map_users": [(0, 0, 1), (1, 200_001, 9)],
        "map_groups": [(0, 0, 1), (1, 300_001, 9)],
    }
    with maker(owned_by_several, flags="user ipc", **maps) as process:
        found = nslab.ipc(process)
    assert [(queue.uid, queue.gid) for queue in found.message_queues] == [(200_005, 300_006), (200_002, 300_003)]
    assert [(queue.uid, queue.gid, queue.bytes) for queue in found.posix_queues] == [(200_002, 300_003, 3)]


@pytest.mark.unprivileged
def test_ids_through_two_user_namespaces() -> None:
    deeper = ["unshare", "--user", "--map-user=7", "--map-group=8", "--ipc"]
    argv = [*deeper, "sh", "-c", "ipcmk -Q >/dev/null; echo ready; exec cat"]
    mapped: dict[str, Any] = {"map_users": [(1000, os.geteuid(), 1)], "map_groups": [(1000, os.getegid(), 1)]}
    with nslab.spawn("user", argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True, **mapped) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        found = nslab.ipc(process)
    assert [(queue.uid, queue.gid) for queue in found.message_queues] == [(os.geteuid(), os.getegid())]


def unreadable() -> int:
    return new_posix_queue("/secret", 0, b"123")


@pytest.mark.unprivileged
def test_a_queue_that_its_owner_may_not_read() -> None:
    with maker(unreadable) as process:
        [queue] = nslab.ipc(process).posix_queues
    assert (queue.mode, queue.bytes) == (0, 3 if ROOT else None)


def very_many() -> None:
    for key in range(1500):
        new_queue(key + 1, 0o600)


@pytest.mark.unprivileged
def test_more_than_fits_at_first() -> None:
    with maker(very_many) as process:
        found = nslab.ipc(process)
    assert [queue.key for queue in found.message_queues] == list(range(1, 1501))
    assert found.note is None


def own_note() -> tuple[str | None, bool]:
    found = nslab.ipc()
    return found.note, found.posix_queues == ()


def test_an_ordinary_user_may_not_list_the_hosts_posix_queues() -> None:
    note, none = as_nobody(own_note)
    assert none
    assert note == ("POSIX queues: to list them takes CAP_SYS_ADMIN in the user namespace that owns the IPC namespace")


def without_fsopen() -> tuple[str | None, int, int]:
    seccomp.refuse("fsopen", errno.ENOSYS)
    with maker(one_of_each) as process:
        found = nslab.ipc(process)
    return found.note, len(found.message_queues), len(found.posix_queues)


@pytest.mark.unprivileged
def test_a_kernel_without_fsopen() -> None:
    note, queues, posix = inside("", without_fsopen)
    assert note == "POSIX queues: to list them takes fsopen(2), which Linux 5.2 brought"
    assert (queues, posix) == (3, 0)


def without_sysvipc() -> tuple[str | None, int, int]:
    with maker(one_of_each) as process:
        mount("none", "/proc/sysvipc", "tmpfs")
        found = nslab.ipc(process)
    return found.note, len(found.message_queues), len(found.posix_queues)


@pytest.mark.unprivileged
def test_a_proc_without_sysvipc() -> None:
    note, queues, posix = inside("mnt", without_sysvipc)
    assert note == "System V objects: no /proc/sysvipc (No such file or directory)"
    assert (queues, posix) == (0, 2)


def without_clone3() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    test_every_object_with_every_field()


@pytest.mark.unprivileged
def test_where_clone3_is_refused() -> None:
    inside("", without_clone3)


@pytest.mark.unprivileged
def test_from_threads() -> None:
    with maker(one_of_each) as process:
        expected = nslab.ipc(process)
        results: list[object] = []
        threads = [
            threading.Thread(target=lambda: results.extend(nslab.ipc(process) for _ in range(20))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [expected] * 160


def refusal(pid: int) -> str:
    with pytest.raises(PermissionError) as caught:
        nslab.ipc(pid)
    return str(caught.value)


@pytest.mark.skipif(not ROOT, reason="needs a process of root")
def test_another_users_process() -> None:
    with spawn("ipc", ["cat"], stdin=nslab.PIPE) as process:
        assert "may not be inspected: it belongs to another user (uid 0)" in as_nobody(refusal, process.pid)


@pytest.mark.unprivileged
def test_who_is_gone() -> None:
    with spawn("ipc", ["cat"], stdin=nslab.PIPE) as process:
        pass
    for target in (process, process.pid, process.namespaces["ipc"]):
        with pytest.raises(ProcessLookupError):
            nslab.ipc(target)


@pytest.mark.unprivileged
def test_a_namespace_of_another_type() -> None:
    with pytest.raises(ValueError, match=r"is not a namespace of type ipc"):
        nslab.ipc(nslab.namespaces(os.getpid())["net"])
