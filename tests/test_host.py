"""`Host`: namespaces that stay alive, the programs in them, and their end."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT, assert_unchanged, inode, snapshot, with_user
from nested import fork, inside, interpreter

import nslab

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]


def host(flags: Any, **options: Any) -> nslab.Host:
    """`nslab.Host`, for an ordinary user with the user namespace."""
    bits, options = with_user(flags, options)
    return nslab.Host(bits, **options)


def said(host: nslab.Host, script: str, **options: Any) -> str:
    done = host.run(["sh", "-c", script], stdout=nslab.PIPE, stderr=nslab.STDOUT, text=True, **options)
    assert done.returncode == 0, done.stdout
    return str(done.stdout).strip()


@pytest.mark.unprivileged
@pytest.mark.parametrize("kind", KINDS)
def test_one_of_each_kind(kind: str) -> None:
    with host(kind) as made:
        assert int(said(made, f"stat -L -c %i /proc/self/ns/{kind}")) == made.namespaces[kind].inode != inode(kind)


@pytest.mark.unprivileged
@pytest.mark.parametrize("kinds", ["user uts", "user pid"])
def test_one_that_is_left_to_the_end_of_python(kinds: str) -> None:
    # Something of Python itself has it, and is gone after the modules.
    script = f"import nslab, sys; sys.kept = nslab.Host({kinds!r}, map_root_user=True)"
    script += "; sys.kept.spawn(['sleep', '60']); print(sys.kept.pid)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.exists(f"/proc/{done.stdout.strip()}")


@pytest.mark.unprivileged
def test_all_of_them_and_their_options() -> None:
    options: dict[str, Any] = {"hostname": "web", "mount_proc": True, "loopback": True, "monotonic": 1000}
    with host("all", map_root_user=True, **options) as made:
        found = said(
            made, "echo $(uname -n) $(cat /proc/1/comm) $(id -u); sed -n 's/monotonic//p' /proc/self/timens_offsets"
        )
        assert found.split() == ["web", "nslab-host", "0", "1000", "0"]
        script = f"cd /proc/self/ns && stat -L -c %i {' '.join(KINDS)}"
        assert said(made, script).split() == [str(made.namespaces[kind].inode) for kind in KINDS]


@pytest.mark.unprivileged
def test_programs_meet_in_it() -> None:
    with host("uts ipc net") as made:
        assert said(made, "hostname met && ipcmk -Q >/dev/null && uname -n") == "met"
        assert said(made, "uname -n; ipcs -q | grep -c ^0x") == "met\n1"
    assert os.uname().nodename != "met"


@pytest.mark.unprivileged
def test_spawn_has_the_options_of_spawn() -> None:
    with host("pid uts") as made:
        process = made.spawn(
            ["sh", "-c", "cat; pwd; umask; exit 3"], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True, cwd="/", umask=0o27
        )
        assert process.communicate("in ")[0] == "in /\n0027\n"
        assert process.returncode == 3
        assert type(process) is nslab.Process


@pytest.mark.unprivileged
def test_new_namespaces_on_top() -> None:
    with host("uts", hostname="low") as made:
        assert said(made, "uname -n", flags="uts", hostname="top") == "top"
        assert said(made, "uname -n") == "low"


@pytest.mark.unprivileged
def test_a_host_is_what_join_takes() -> None:
    with host("uts", hostname="web") as made:
        assert nslab.run(0, ["uname", "-n"], join=made, capture_output=True).stdout == b"web\n"
        assert nslab.run(0, ["uname", "-n"], join=[made], capture_output=True).stdout == b"web\n"


@pytest.mark.unprivileged
@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["", "net", "uts ipc", "mnt"])
def test_a_program_says_where_it_is(flags: str) -> None:
    with nslab.Host("all", map_root_user=True) as host, host.spawn(["cat"], flags=flags, stdin=nslab.PIPE) as process:
        # What the kernel shows, and what the process says without having looked.
        seen = nslab.namespaces(process.pid)
        assert dict(process.namespaces) == dict(seen)
        assert {kind for kind, id in seen.items() if host.namespaces[kind] != id} == set(flags.split())
        process.communicate()


def test_a_host_in_joined_namespaces() -> None:
    with host("uts", hostname="low") as low, nslab.Host("ipc", join=low) as high:
        assert said(high, "uname -n") == "low"
        assert high.namespaces["uts"] == low.namespaces["uts"]
        assert high.namespaces["ipc"] != low.namespaces["ipc"]


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["pid uts", "uts"])
def test_its_processes(flags: str) -> None:
    with host(flags) as made:
        assert made.pids() == []
        first = made.spawn(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=nslab.PIPE)
        assert first.stdout
        first.stdout.readline()
        second = made.spawn(["sleep", "600"])
        assert len(made.pids()) == 3
        assert {first.pid, second.pid} < set(made.pids())
    assert made.pids() == []
    assert (first.wait(), second.wait()) == (-9, -9)
    first.stdout.close()


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["pid", "uts"])
def test_nothing_is_left_when_it_is_closed(flags: str) -> None:
    read, write = os.pipe()
    with open(read, "rb") as pipe:
        with host(flags) as made:
            script = "setsid sleep 600 & setsid sleep 601 & echo"
            process = made.spawn(["sh", "-c", script], stdout=write, stderr=write)
            os.close(write)
            assert pipe.read(1) == b"\n"
            assert made.alive
        assert not made.alive
        assert pipe.read() == b""
    assert process.wait() in (0, -9)


@pytest.mark.unprivileged
def test_a_child_that_nobody_waits_for_does_not_hold_it() -> None:
    with host("pid") as made:
        stray = nslab.spawn(0, ["sleep", "600"], join=made)
    # The kernel ends the namespace only when this one has been reaped.
    assert not made.alive
    assert stray.wait() == -9
    while subprocess._active:  # type: ignore[attr-defined]
        subprocess._cleanup()  # type: ignore[attr-defined]


@pytest.mark.unprivileged
def test_a_zombie_that_is_anothers_does_not_hold_it() -> None:
    # It has no namespace any more but its user namespace.
    with host("user uts", map_root_user=True) as made:
        process = nslab.spawn(0, ["true"], join=made)
        select.select([process], [], [])
        assert made.pids() == []
    assert process.wait() == 0


def close_one_above_1023() -> bool:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fds = [os.dup(0) for _ in range(1030)]
    with host("user uts", map_root_user=True) as made:
        made.spawn(["sleep", "600"])
    for fd in fds:
        os.close(fd)
    return made.alive


@pytest.mark.unprivileged
def test_with_more_descriptors_than_select_knows() -> None:
    assert not inside(0, close_one_above_1023)


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["pid", "uts"])
def test_a_host_that_died(flags: str) -> None:
    with host([flags, "net"]) as made:
        os.kill(made.pid, signal.SIGKILL)
        select.select([made], [], [])
        assert not made.alive
        assert "ended" in repr(made)
        for call in (made.spawn, made.run):
            with pytest.raises(ProcessLookupError) as caught:
                call(["true"])
            assert isinstance(caught.value, nslab.SpawnError)
            assert (caught.value.step, caught.value.errno) == ("setns", errno.ESRCH)
            assert "Host" in str(caught.value)
        if ROOT:
            with pytest.raises(ProcessLookupError), made.enter("net"):
                pass
    made.close()


def test_a_stranger_in_a_namespace_with_a_used_number_lives() -> None:
    with host("uts") as made:
        number = made.namespaces["uts"].inode
        os.kill(made.pid, signal.SIGKILL)
        select.select([made], [], [])
        strangers: list[nslab.Process] = []
        # The kernel gives the number to one of the next.
        while not strangers or (strangers[-1].namespaces["uts"].inode != number and len(strangers) < 1000):
            strangers.append(nslab.spawn("uts", ["cat"], stdin=nslab.PIPE))
        assert made.pids() == []
    for stranger in strangers:
        assert stranger.poll() is None
        stranger.communicate()


@pytest.mark.unprivileged
def test_closing_twice_and_using_it_closed() -> None:
    made = host("uts")
    made.close()
    made.close()
    with pytest.raises(ProcessLookupError):
        made.run(["true"])


@pytest.mark.unprivileged
def test_an_unclosed_host_warns_and_ends() -> None:
    made = host("uts")
    pid = made.pid
    with pytest.warns(ResourceWarning, match="unclosed <Host"):
        del made
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.unprivileged
def test_a_fork_does_not_end_it() -> None:
    with host("uts") as made:
        child = fork()
        if child == 0:
            made.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert made.alive
        assert made.run(["true"]).returncode == 0


@pytest.mark.unprivileged
def test_signals_and_the_terminal_do_not_end_it() -> None:
    with host("uts") as made:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            os.kill(made.pid, number)
        assert os.getsid(made.pid) == made.pid
        assert made.run(["true"]).returncode == 0
        assert made.alive


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["all", "uts"])
def test_at_rest_it_takes_less_than_a_mebibyte(flags: str) -> None:
    with host(flags) as made:
        with open(f"/proc/{made.pid}/smaps_rollup") as memory:
            private = sum(int(line.split()[1]) for line in memory if line.startswith("Private"))
        assert private < 64
        # It closes the one by which it has said that it is ready right after that.
        deadline = time.monotonic() + 5
        while os.listdir(f"/proc/{made.pid}/fd") != ["0", "1", "2"] and time.monotonic() < deadline:
            os.sched_yield()
        assert os.listdir(f"/proc/{made.pid}/fd") == ["0", "1", "2"]
        with open(f"/proc/{made.pid}/status") as status:
            assert "Threads:\t1\n" in status.readlines()


@pytest.mark.unprivileged
def test_from_many_threads() -> None:
    with host("pid uts net", hostname="web") as made:
        found: list[str] = []

        def work() -> None:
            found.extend(said(made, "uname -n") for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == ["web"] * 40


def owner(flags: str, options: dict[str, Any]) -> None:
    made = nslab.Host(flags, name="doomed", **options)
    made.spawn(["sh", "-c", "sleep 600 & setsid sleep 601 & echo ready; wait"])
    print(made.pid, flush=True)
    signal.pause()


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["all", "uts net"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_its_owner_is_killed_nothing_is_left(flags: str, number: int) -> None:
    bits, options = with_user(flags, {"map_root_user": True} if flags == "all" else {})
    before = snapshot()
    with subprocess.Popen(interpreter(owner, bits, options), stdout=subprocess.PIPE) as caller:
        assert caller.stdout
        pid = int(min(caller.stdout.readline() for _ in range(2)))
        pidfd = os.pidfd_open(pid)
        assert "doomed" in {found.name for found in nslab.hosts()}
        caller.send_signal(number)
        # The end of the file comes when none of the programs is left, the other when the init has ended.
        assert caller.stdout.read() == b""
        caller.wait()
        select.select([pidfd], [], [])
        os.close(pidfd)
    assert nslab.hosts() == []
    with host("uts", name="doomed") as again:
        assert again.alive
    assert snapshot()["mounts"] == before["mounts"]


@pytest.mark.parametrize(
    ("flags", "options", "error", "words"),
    [
        ("", {}, ValueError, "at least one namespace"),
        ("uts", {"cwd": "/"}, TypeError, "cwd is no option of a host"),
        ("uts", {"kill_child": True}, TypeError, "kill_child is no option of a host"),
        ("uts", {"init": True}, TypeError, "init is no option of a host"),
        ("uts", {"hostnam": "x"}, TypeError, "hostnam is no option"),
        ("net", {"hostname": "x"}, ValueError, "hostname needs the uts namespace"),
        ("uts", {"name": "a b"}, ValueError, "a host's name is"),
        ("uts", {"name": ""}, ValueError, "a host's name is"),
        ("uts", {"name": "x" * 65}, ValueError, "a host's name is"),
        ("uts", {"name": "-v"}, ValueError, "a host's name is"),
        ("pid", {"persist": "/tmp/x"}, ValueError, "ends with its init"),
        ("utc", {}, ValueError, "did you mean"),
    ],
)
def test_what_could_never_work(flags: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    before = snapshot()
    with pytest.raises(error, match=words) as caught:
        nslab.Host(flags, **options)
    assert not isinstance(caught.value, OSError)
    assert_unchanged(before)


@pytest.mark.unprivileged
def test_a_refusal_of_the_kernel_leaves_nothing() -> None:
    before = snapshot()
    with pytest.raises(FileNotFoundError) as caught:
        host("mnt pid", mount_proc="/nonexistent", name="refused")
    assert isinstance(caught.value, nslab.SpawnError)
    assert caught.value.step == "mount_proc"
    assert_unchanged(before)
    assert nslab.hosts() == []


def test_joining_is_not_for_its_programs() -> None:
    with host("uts") as made, pytest.raises(TypeError, match="joins the host"):
        made.spawn(["true"], join="/proc/self/ns/net")


@pytest.mark.unprivileged
@pytest.mark.parametrize("options", [{"map_root_user": True}, {"map_current_user": True}])
def test_a_time_namespace_is_joined_with_the_rights_of_the_program_and_no_more(options: dict[str, Any]) -> None:
    with nslab.Host("user time", boottime=864_000, **options) as made:
        rows = dict(
            line.split(":\t")
            for line in said(made, "cat /proc/self/status; sed 's/e /e:\t/' /proc/self/timens_offsets").splitlines()
            if ":\t" in line
        )
        plain = nslab.run("user time", ["cat", "/proc/self/status"], capture_output=True, text=True, **options).stdout
        capabilities = dict(line.split(":\t") for line in plain.splitlines() if line.startswith("Cap"))
        assert {name: rows[name] for name in capabilities} == capabilities
        assert "864000" in said(made, "cat /proc/self/timens_offsets")
        program: Callable[[], Any] = lambda: made.run(["no-such-program"])  # noqa: E731
        with pytest.raises(FileNotFoundError) as caught:
            program()
        assert caught.value.filename == "no-such-program"
        with pytest.raises(PermissionError):
            made.run(["/etc/passwd"])
        with pytest.raises(OSError, match="Argument list too long"):
            made.run(["true", "x" * 131_072])
