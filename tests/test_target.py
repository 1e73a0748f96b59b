"""The process that a question is about: found, pinned, or refused in one clear sentence."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from conftest import inode, spawn
from kernel import needs_kernel_threads
from nested import as_nobody, inside, mount

import nslab
from nslab._inspect.target import Target, namespaces_of, pinned


def read(target: Target) -> tuple[int, int]:
    """Return its pid, and the inode of its uts namespace."""
    with pinned(target) as process:
        return process.pid, namespaces_of(process)["uts"].inode


def refusal(target: Any) -> OSError:
    """Return why it cannot be read."""
    with pytest.raises(OSError) as caught:
        read(target)
    return caught.value


@pytest.mark.unprivileged
def test_every_form_is_the_same_process() -> None:
    with spawn("uts", ["cat"], stdin=nslab.PIPE) as child:
        expected = child.pid, inode("uts", child.pid)
        assert read(child) == read(child.pid) == expected
    assert read(None) == read(os.getpid()) == (os.getpid(), inode("uts"))


@pytest.mark.unprivileged
@pytest.mark.parametrize("wrong", ["1", 1.5, True, [1], b"1"])
def test_what_is_no_process(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a process is given by its pid"):
        read(wrong)


@pytest.mark.unprivileged
@pytest.mark.parametrize("wrong", [0, -1, 2**31, 2**70])
def test_what_is_no_pid(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"^{wrong} is no pid$"):
        read(wrong)


@pytest.mark.unprivileged
def test_a_process_that_has_ended() -> None:
    child = spawn("uts", ["true"])
    with child:
        pass
    error = refusal(child)
    assert isinstance(error, ProcessLookupError)
    assert error.strerror == f"process {child.pid} has ended"
    error = refusal(child.pid)
    assert isinstance(error, ProcessLookupError)
    assert error.strerror == f"there is no process {child.pid}"


@pytest.mark.unprivileged
def test_a_process_that_has_ended_and_was_not_waited_for() -> None:
    child = spawn("uts", ["cat"], stdin=nslab.PIPE)
    with pinned(child) as process:
        assert process.runs()
        assert child.stdin
        child.stdin.close()
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
        assert not process.runs()
    for target in (child, child.pid):
        error = refusal(target)
        assert isinstance(error, ProcessLookupError)
        assert error.strerror == f"process {child.pid} has ended"
    child.wait()


@pytest.mark.unprivileged
def test_a_process_that_ends_while_it_is_read() -> None:
    child = spawn("uts", ["cat"], stdin=nslab.PIPE)
    with pytest.raises(ProcessLookupError, match=f"process {child.pid} has ended"), pinned(child) as process:
        child.kill()
        child.wait()
        process.read("status")
    child.communicate()


@pytest.mark.unprivileged
def test_an_exception_that_is_kept_holds_no_descriptor() -> None:
    with spawn("uts", ["cat"], stdin=nslab.PIPE) as child:
        before = os.listdir("/proc/self/fd")
        kept = refused_in_a_block(child)
        assert kept.__traceback__
        assert os.listdir("/proc/self/fd") == before


def refused_in_a_block(target: Target) -> OSError:
    with pytest.raises(FileNotFoundError) as caught, pinned(target) as process:
        process.read("missing")
    with pytest.raises(ValueError, match="the target is closed"):
        process.read("status")
    return caught.value


@pytest.mark.unprivileged
def test_a_thread_is_no_process() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        error = refusal(thread.native_id)
    finally:
        stop.set()
        thread.join()
    assert isinstance(error, ProcessLookupError)


def test_a_process_of_another_user() -> None:
    error = as_nobody(refused, os.getpid())
    assert isinstance(error, PermissionError)
    assert error.strerror == (
        f"process {os.getpid()} may not be inspected: it belongs to another user (uid {os.geteuid()})"
    )


@needs_kernel_threads
def test_a_kernel_thread() -> None:
    error = as_nobody(refused, 2)
    assert isinstance(error, PermissionError)
    assert error.strerror == "process 2 may not be inspected: it is a kernel thread"


def refused(target: Any) -> OSError | None:
    """`refusal`, where there is no pytest."""
    try:
        read(target)
    except OSError as error:
        return error
    return None


@pytest.mark.unprivileged
def test_a_proc_of_another_pid_namespace() -> None:
    # Inside the child is 1, and 1 of this /proc is somebody else.
    pid, uts, own, error = inside("user pid", read_below, map_root_user=True)
    assert (pid, uts) == (1, own)
    assert isinstance(error, ProcessLookupError)


def read_below() -> tuple[int, int, int, OSError | None]:
    pid, uts = read(1)
    return pid, uts, inode("uts"), refused(os.getpid() + 1)


@pytest.mark.unprivileged
def test_without_proc() -> None:
    error = inside("user mnt", read_without_proc, map_root_user=True)
    assert isinstance(error, FileNotFoundError)
    assert error.strerror == "/proc is not mounted, or not for this pid namespace"


def read_without_proc() -> OSError | None:
    mount("none", "/proc", "tmpfs")
    return refused(os.getpid())
