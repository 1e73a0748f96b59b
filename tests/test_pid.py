"""The pid namespace: who is PID 1, who sees whom, which signals arrive."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
from pathlib import Path

import pytest
from conftest import inode, sh, spawn
from nested import LIBC, checked, depth, inside

import nslab
from nslab._keeper import has_ended

# linux/proc_ns.h: the inode of the namespace that has no parent.
INITIAL = 0xEFFFFFFC


@pytest.mark.unprivileged
def test_pid_01_the_program_is_pid_1_without_a_parent() -> None:
    argv = ["sh", "-c", "echo $$ $PPID; read line"]
    with spawn("pid", argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "1 0\n"
        status = Path(f"/proc/{child.pid}/status").read_text()
    assert child.pid != 1
    assert f"\nPPid:\t{os.getpid()}\n" in status
    assert f"\nNSpid:\t{child.pid}\t1\n" in status


@pytest.mark.unprivileged
def test_pid_03_a_fresh_proc_shows_the_program_as_pid_1() -> None:
    assert sh("pid mnt", "exec readlink /proc/self", mount_proc=True) == (0, "1")
    status, output = sh("pid mnt", "cat /proc/1/comm; cd /proc; echo [0-9]*", mount_proc=True)
    # The shell and nothing else: `echo` is no process of its own.
    assert (status, output) == (0, "sh\n1")


def processes_in(pid_namespace: int) -> set[int]:
    """Return who is in this pid namespace, as the host counts."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if inode("pid", entry) == pid_namespace:
                    found.add(int(entry))
            except OSError:
                continue  # gone meanwhile, or not ours to look at
    return found


def test_pid_06_the_end_of_pid_1_is_the_end_of_all() -> None:
    script = "sh -c 'sh -c \"sleep 20 & echo ready; wait\" & wait' & sleep 20 & wait"
    with spawn("pid", ["sh", "-c", script], stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        # By pidfd: the inode may be another namespace's afterwards.
        others = [os.pidfd_open(pid) for pid in processes_in(child.namespaces["pid"].inode) - {child.pid}]
        assert len(others) >= 3
        child.kill()
        assert child.wait() == -signal.SIGKILL
        for pidfd in others:
            assert has_ended(pidfd, 0)
            os.close(pidfd)


def test_pid_13_thirty_two_levels() -> None:
    levels, step, number = depth("pid")
    # EINVAL until Linux 4.10.
    assert (step, number) == ("clone", errno.ENOSPC)
    assert levels == 32 if inode("pid") == INITIAL else levels < 32


def forks() -> int:
    """Fork, and return the exit status."""
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forks_after_unshare() -> list[int]:
    """What a library must not do to its caller."""
    checked(LIBC.unshare(nslab.CLONE_NEWPID))
    return [forks(), forks()]


def forks_after_spawn() -> list[int]:
    """Spawn, then use this process as before."""
    assert nslab.run("pid", ["true"]).returncode == 0
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return [forks(), forks()]


def test_pid_15_the_caller_can_still_fork() -> None:
    assert inside(0, forks_after_spawn) == [7, 7]


def test_pid_15_as_after_unshare_it_could_not() -> None:
    with pytest.raises(OSError) as caught:
        inside(0, forks_after_unshare)
    assert caught.value.errno == errno.ENOMEM


PID_MAX = Path("/proc/sys/kernel/pid_max")


@pytest.mark.unprivileged
def test_pid_16_pid_max_is_the_namespaces_own() -> None:
    before = PID_MAX.read_text()
    assert int(before) > 512
    script = f"echo 512 > {PID_MAX} || exit 9; n=0; while [ $n -lt 600 ]; do : & echo $!; wait; n=$((n + 1)); done"
    # With a user namespace, so that older kernels, where the file is the host's, refuse the write.
    status, output = sh("user pid mnt", script, map_root_user=True, mount_proc=True)
    if status == 9:
        pytest.skip(f"no pid_max per pid namespace (Linux 6.14): {output}")
    assert status == 0
    assert max(map(int, output.split())) == 511
    assert PID_MAX.read_text() == before


@pytest.mark.unprivileged
def test_pid_18_without_the_flag_it_is_the_hosts() -> None:
    assert sh("uts", "readlink /proc/self/ns/pid") == (0, f"pid:[{inode('pid')}]")


def test_pid_19_a_joined_process_sees_its_peers_and_dies_with_their_pid_1() -> None:
    with spawn("pid", ["cat"], stdin=nslab.PIPE) as init:
        fd = init.namespaces["pid"].open()
        script = "kill -0 1 && echo $$ $PPID; exec cat"
        argv = ["sh", "-c", script]
        with spawn(0, argv, join=[fd], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as joined:
            os.close(fd)
            assert joined.stdout
            pid, parent = joined.stdout.readline().split()
            assert int(pid) > 1
            assert parent == "0"
            assert joined.namespaces["pid"] == init.namespaces["pid"]
            init.kill()
            assert joined.wait() == -signal.SIGKILL
        assert init.wait() == -signal.SIGKILL


@pytest.mark.unprivileged
@pytest.mark.parametrize(("flags", "echoed"), [("", "hello\n"), ("pid", "")])
def test_pid_20_without_the_namespace_the_others_outlive_the_first(flags: str, echoed: str) -> None:
    # A shell gives its background jobs no standard input, hence the second descriptor.
    argv = ["sh", "-c", "exec 3<&0; { echo ready; exec cat <&3; } & wait"]
    with spawn(flags, argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL
        try:
            child.stdin.write("hello\n")
            child.stdin.close()
        except BrokenPipeError:
            assert flags == "pid"
        # Read to the end: then the second process is gone as well.
        assert child.stdout.read() == echoed


FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE = 5, 6


def call(number: int, *args: int | bytes | None) -> int:
    """Make a system call that libc may not have."""
    longs = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return checked(LIBC.syscall(ctypes.c_long(number), *longs))


def test_pid_25_a_proc_for_the_childs_namespace_made_outside(request: pytest.FixtureRequest) -> None:
    def closed_later(fd: int) -> int:
        request.addfinalizer(lambda: os.close(fd))
        return fd

    argv = ["sh", "-c", "exec 3<&0; cat <&3 & echo ready; wait"]
    with spawn("pid", argv, stdin=nslab.PIPE, stdout=nslab.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        namespace = closed_later(child.namespaces["pid"].open())
        context = closed_later(call(FSOPEN, b"proc", 0))
        try:
            call(FSCONFIG, context, FSCONFIG_SET_FD, b"pidns", None, namespace)
        except OSError as error:
            pytest.skip(f"no pidns option of proc (Linux 6.18): fsconfig(FSCONFIG_SET_FD, pidns) fails with {error}")
        call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        mounted = closed_later(call(FSMOUNT, context, 0, 0))
        assert Path(f"/proc/self/fd/{mounted}/1/comm").read_text() == "sh\n"
        seen = {entry for entry in os.listdir(f"/proc/self/fd/{mounted}") if entry.isdigit()}
    assert seen == {"1", "2"}
