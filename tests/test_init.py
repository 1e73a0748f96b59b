"""``init=True``: the program is PID 2 below the library's init; status, signals and orphans."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, inode, sh, signal_sets, spawn, with_user
from nested import inside, interpreter

import nslab

Refused = Callable[..., nslab.SpawnError]
USER: dict[str, Any] = {} if ROOT else {"map_root_user": True}
PID = "pid" if ROOT else "user pid"


def status_of(script: str, **options: Any) -> int:
    return spawn("pid", ["sh", "-c", script], init=True, **options).wait()


@pytest.mark.unprivileged
def test_the_program_is_pid_2_and_its_parent_the_init() -> None:
    # The program begins before the init has become one.
    script = "echo $$ $PPID; until grep -q nslab-init /proc/1/comm; do :; done"
    assert sh("pid mnt", script, mount_proc=True, init=True) == (0, "2 1")


@pytest.mark.unprivileged
def test_pid_and_pidfd_are_the_programs_as_the_caller_sees_it() -> None:
    with spawn("pid", ["cat"], init=True, stdin=nslab.PIPE) as process:
        assert os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath("/bin/cat")
        with open(f"/proc/self/fdinfo/{process.pidfd}") as info:
            assert f"Pid:\t{process.pid}\n" in info.readlines()
        assert inode("pid", process.pid) == process.namespaces["pid"].inode != inode("pid")


@pytest.mark.unprivileged
@pytest.mark.parametrize("status", [0, 1, 3, 127, 255])
def test_exit_status(status: int) -> None:
    assert status_of(f"exit {status}") == status


@pytest.mark.unprivileged
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT, signal.SIGUSR1])
def test_the_signal_that_ended_it(number: int) -> None:
    # Not so for a PID 1, which ignores what it sends to itself.
    assert status_of(f"kill -{number} $$") == -number


@pytest.mark.unprivileged
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_from_outside_work_without_a_handler(number: int) -> None:
    with spawn("pid", ["cat"], init=True, stdin=nslab.PIPE) as process:
        process.send_signal(number)
        assert process.wait() == -number


@pytest.mark.unprivileged
def test_terminate_and_stop_need_no_kill() -> None:
    with spawn("pid", ["cat"], init=True, stdin=nslab.PIPE) as process:
        assert process.stop(timeout=60) == -signal.SIGTERM


@pytest.mark.unprivileged
def test_a_stopped_program_goes_on() -> None:
    with spawn("pid", ["cat"], init=True, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as process:
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
        assert process.communicate("through")[0] == "through"
        assert process.returncode == 0


@pytest.mark.unprivileged
def test_orphans_are_reaped() -> None:
    # The subshell ends at once, so its child becomes the init's, and would stay a zombie.
    script = """
    pid=$(sleep 0 >/dev/null & echo $!)
    while [ -e /proc/$pid ]; do :; done; echo gone
    """
    assert sh("pid mnt", script, mount_proc=True, init=True) == (0, "gone")


@pytest.mark.unprivileged
def test_what_is_left_ends_with_the_program() -> None:
    read, write = os.pipe()
    with open(read, "rb") as pipe:
        try:
            assert status_of("sleep 600 & exit 3", pass_fds=[write], stdout=subprocess.DEVNULL) == 3
        finally:
            os.close(write)
        # The end of the file comes when nobody has the pipe open any more.
        assert pipe.read() == b""


def init_of(process: nslab.Process) -> int:
    """Return the pid of the init, once it has become one."""
    with open(f"/proc/{process.pid}/stat") as stat:
        init = int(stat.read().rpartition(")")[2].split()[1])
    while True:
        with open(f"/proc/{init}/comm") as name:
            if name.read() == "nslab-init\n":
                return init


@pytest.mark.unprivileged
def test_the_init_has_nothing_of_the_callers() -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    try:
        with spawn("pid", ["cat"], init=True, stdin=nslab.PIPE, close_fds=False) as process:
            init = init_of(process)
            assert [os.readlink(f"/proc/{init}/fd/{fd}")[:7] for fd in os.listdir(f"/proc/{init}/fd")] == ["socket:"]
            assert os.readlink(f"/proc/{init}/cwd") == "/"
            with open(f"/proc/{init}/environ") as environ:
                assert environ.read() == ""
            with open(f"/proc/{init}/cmdline") as line:
                assert line.read().split("\0")[0] == "nslab-init"
            assert inode("pid", init) == inode("pid", process.pid)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.unprivileged
def test_the_init_takes_no_memory_to_speak_of() -> None:
    with spawn("pid", ["cat"], init=True, stdin=nslab.PIPE) as process:
        memory = Path(f"/proc/{init_of(process)}/smaps_rollup").read_text().splitlines()
        private = [int(line.split()[1]) for line in memory if line.startswith("Private")]
    assert sum(private) < 64


@pytest.mark.unprivileged
def test_waiting_in_every_way() -> None:
    def made() -> nslab.Process:
        return spawn("pid", ["sh", "-c", "read line; exit 3"], init=True, stdin=nslab.PIPE, text=True)

    with made() as process:
        assert process.poll() is None
        with pytest.raises(nslab.TimeoutExpired):
            process.wait(timeout=0.01)
        assert process.communicate("go\n") == (None, None)
        assert (process.poll(), process.wait(), process.wait(timeout=1)) == (3, 3, 3)
    with made() as process:
        assert process.stdin
        process.stdin.close()
        select.select([process.pidfd], [], [])
        assert process.wait(timeout=10) == 3
    with made() as process:
        assert process.stdin
        process.stdin.close()
        assert asyncio.run(process.wait_async()) == 3
    with made() as process:
        assert process.stdin
        process.stdin.close()
        while process.poll() is None:
            os.sched_yield()
        assert process.returncode == 3


@pytest.mark.unprivileged
def test_what_it_used_is_known() -> None:
    process = spawn("pid", [sys.executable, "-c", "sum(range(10**6))"], init=True)
    assert process.rusage is None
    assert process.wait() == 0
    assert process.rusage is not None
    assert process.rusage.ru_utime > 0


def reaped_by_nobody() -> list[int]:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # The kernel reaps the init by itself, so only the socket still knows the program's status.
    flags, options = with_user("pid", {"init": True})
    statuses = [nslab.spawn(flags, ["sh", "-c", script], **options).wait() for script in ("exit 3", "kill -9 $$")]
    seen = nslab.run(flags, ["cat", "/proc/self/status"], capture_output=True, text=True, **options).stdout
    assert signal.SIGCHLD in signal_sets(seen)["SigIgn"]
    return statuses


@pytest.mark.unprivileged
def test_the_status_is_right_where_sigchld_is_ignored() -> None:
    assert inside(0, reaped_by_nobody) == [3, -9]


@pytest.mark.unprivileged
def test_a_program_that_is_missing(refused: Refused) -> None:
    error = refused("execve", errno.ENOENT, PID, ["no-such-program"], init=True, **USER)
    assert error.filename == "no-such-program"


@pytest.mark.unprivileged
def test_a_directory_that_is_missing(refused: Refused) -> None:
    refused("chdir", errno.ENOENT, PID, init=True, cwd="/nonexistent", **USER)


def test_it_needs_a_pid_namespace(invalid: Callable[..., str]) -> None:
    assert invalid("uts", init=True) == 'init needs the pid namespace (add "pid" to the flags)'


@pytest.mark.unprivileged
def test_with_all_namespaces_and_many_options() -> None:
    script = "echo $(uname -n) $$ $(id -u) $(umask) $(pwd) $(grep -c lo: /proc/net/dev)"
    options: dict[str, Any] = {"hostname": "lab", "mount_proc": True, "loopback": True, "monotonic": 100}
    options |= {"umask": 0o27, "cwd": "/", "start_new_session": True, "kill_child": True, "map_root_user": True}
    assert sh("all", script, init=True, **options) == (0, "lab 2 0 0027 / 1")


def test_maps_that_another_process_writes() -> None:
    if not ROOT:
        pytest.skip("needs root")
    maps = [(0, 0, 1), (1, 1000, 9)]
    assert sh("user pid", "echo $(cat /proc/self/uid_map) $$", init=True, map_users=maps, map_groups=maps)[1].endswith(
        " 1 1000 9 2"
    )


def test_another_user_below_it() -> None:
    if not ROOT:
        pytest.skip("needs root")
    assert sh("pid", "id -u", init=True, user=65534, group=65534) == (0, "65534")


@pytest.mark.unprivileged
def test_the_program_has_the_callers_signals_and_no_more() -> None:
    status, output = sh("pid", "cat /proc/self/status", init=True)
    assert status == 0
    plain = signal_sets(sh("pid", "cat /proc/self/status")[1])
    assert signal_sets(output) == plain


@pytest.mark.unprivileged
def test_joined_namespaces_and_an_init() -> None:
    with spawn("uts", ["cat"], hostname="joined", stdin=nslab.PIPE) as other:
        done = nslab.run(
            "pid", ["sh", "-c", "uname -n; echo $$"], join=other, init=True, capture_output=True, text=True
        )
    assert done.stdout.split() == ["joined", "2"]


@pytest.mark.unprivileged
def test_a_plan_says_who_does_what() -> None:
    steps = nslab.plan("pid uts", ["true"], hostname="lab", init=True).steps
    assert [(step.name, step.side) for step in steps if step.name in ("sethostname", "execve", "init")] == [
        ("sethostname", "init"),
        ("execve", "child"),
        ("init", "init"),
    ]
    assert "init: left out" in nslab.plan("pid", ["true"], init=True).c_source()
    assert "# init: left out" in nslab.plan("pid", ["true"], init=True).unshare_command()


def owner(flags: str, options: dict[str, Any]) -> None:
    process = nslab.spawn(flags, ["sh", "-c", "sleep 600 & echo ready; wait"], init=True, kill_child=True, **options)
    print(process.pid, flush=True)
    signal.pause()


@pytest.mark.unprivileged
def test_kill_child_takes_the_whole_namespace() -> None:
    with subprocess.Popen(interpreter(owner, PID, USER), stdout=subprocess.PIPE) as caller:
        assert caller.stdout
        assert sorted(caller.stdout.readline() for _ in range(2))[1] == b"ready\n"
        caller.kill()
        # The programs have the pipe too.
        assert caller.stdout.read() == b""


def test_another_signal_would_never_come() -> None:
    with pytest.raises(ValueError, match="kill_child=15 is not for a program below an init"):
        nslab.spawn(PID, ["true"], init=True, kill_child=signal.SIGTERM, **USER)


def without_memfd_exec() -> tuple[int, str]:
    """What spawn does where no file in memory may be executed."""
    with open("/proc/sys/vm/memfd_noexec", "w") as switch:
        switch.write("2")
    status = nslab.spawn("pid", ["sh", "-c", "exit 3"], init=True).wait()
    # The package may be in one of the directories that are covered now.
    import_module("nslab._hints")
    os.environ["TMPDIR"] = "/nonexistent"
    for directory in ("/dev/shm", "/tmp", "/var/tmp"):
        os.makedirs(directory, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", directory], check=True)
    try:
        nslab.spawn("pid", ["true"], init=True)
    except PermissionError as error:
        assert isinstance(error, nslab.SpawnError)
        return status, f"{error.step}: {error.hint}"
    return status, ""


@pytest.mark.skipif(not os.path.exists("/proc/sys/vm/memfd_noexec"), reason="Linux 6.3 brought vm.memfd_noexec")
def test_where_files_in_memory_may_not_be_executed() -> None:
    # The switch is of the pid namespace.
    status, text = inside("pid mnt", without_memfd_exec, mount_proc=True)
    assert status == 3
    assert text.startswith("init: vm.memfd_noexec is 2")
