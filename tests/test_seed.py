"""The experiments of the classroom document that this library began with, one after the other, on the running kernel.

Its C programs differ in the flags of their clone call, which are here as they are there, and in what is typed into the
bash that they execute.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import inode, spawn
from nested import MS_REC, MS_SHARED, inside, mount

import nslab

BASH = "/bin/bash"
NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]


def typed(flags: int, commands: str, **options: Any) -> list[str]:
    """Execute a bash as the document does, type commands into it, and return what it printed."""
    with spawn(flags, [BASH], stdin=nslab.PIPE, stdout=nslab.PIPE, stderr=nslab.STDOUT, text=True, **options) as child:
        output, _ = child.communicate(commands)
    assert child.returncode == 0, output
    return str(output).splitlines()


@pytest.mark.unprivileged
def test_seed_clone_exec_wait() -> None:
    script = "echo Enter child.; echo $$ $PPID; stat -L -c %i " + " ".join(f"/proc/self/ns/{n}" for n in NAMESPACES)
    child = nslab.spawn(signal.SIGCHLD, [BASH], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True)
    assert child.poll() is None
    output, _ = child.communicate(f"{script}\nexit 3\n")
    entered, pids, *inodes = output.splitlines()
    assert entered == "Enter child."
    assert pids.split() == [str(child.pid), str(os.getpid())]
    # Without a flag it is in all the namespaces of its parent.
    assert list(map(int, inodes)) == [inode(name) for name in NAMESPACES]
    assert child.wait() == 3
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)


@pytest.mark.unprivileged
def test_seed_uts_a_hostname_set_by_hand() -> None:
    before = os.uname().nodename
    assert before != "container"
    commands = "hostname\nhostname container\nhostname\n"
    assert typed(nslab.CLONE_NEWUTS | signal.SIGCHLD, commands) == [before, "container"]
    assert os.uname().nodename == before


@pytest.mark.unprivileged
def test_seed_uts_a_hostname_set_by_the_program() -> None:
    before = os.uname().nodename
    assert typed(nslab.CLONE_NEWUTS | signal.SIGCHLD, "hostname\n", hostname="container") == ["container"]
    assert os.uname().nodename == before


def queues(output: list[str]) -> list[str]:
    """Return the keys that ipcs(1) lists."""
    return [line.split()[0] for line in output if line.startswith("0x")]


@pytest.mark.unprivileged
def test_seed_ipc_a_queue_made_inside() -> None:
    ipcs = ["ipcs", "-q"]
    before = subprocess.run(ipcs, capture_output=True, text=True, check=True).stdout.splitlines()
    flags = nslab.CLONE_NEWIPC | nslab.CLONE_NEWUTS | signal.SIGCHLD
    made, *listed = typed(flags, "ipcmk -Q\nipcs -q\n", hostname="container")
    assert made == "Message queue id: 0"
    assert len(queues(listed)) == 1
    after = subprocess.run(ipcs, capture_output=True, text=True, check=True).stdout.splitlines()
    assert queues(after) == queues(before)
    assert queues(listed)[0] not in queues(after)


@pytest.mark.unprivileged
def test_seed_pid_the_bash_is_process_1_without_a_parent() -> None:
    flags = nslab.CLONE_NEWPID | nslab.CLONE_NEWIPC | nslab.CLONE_NEWUTS | signal.SIGCHLD
    assert typed(flags, "echo $$\necho $PPID\n", hostname="container") == ["1", "0"]


MOUNT_FLAGS = nslab.CLONE_NEWPID | nslab.CLONE_NEWNS | nslab.CLONE_NEWUTS | signal.SIGCHLD
PS = "ps -e -o pid=,comm="


def ps() -> tuple[int, str]:
    """Run ps(1) on the host."""
    done = subprocess.run(PS.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def remounted_by_hand(propagation: str | None) -> tuple[list[str], tuple[int, str]]:
    """On a host where `/` is shared, as systemd makes it: mount /proc in the bash, and see what the host has then."""
    mount("none", "/", flags=MS_REC | MS_SHARED)
    seen = typed(MOUNT_FLAGS, f"mount -t proc none /proc\n{PS}\n", hostname="container", propagation=propagation)
    return seen, ps()


def processes(lines: list[str]) -> dict[int, str]:
    """Return what ps(1) printed; a name may have words, as `<defunct>`."""
    return {int(pid): comm for pid, comm in (line.split(None, 1) for line in lines)}


@pytest.mark.unprivileged
def test_seed_mount_the_open_problem_the_hosts_proc_is_gone() -> None:
    # What the bare clone of the document does.
    seen, (status, message) = inside("mnt", remounted_by_hand, "unchanged")
    assert processes(seen)[1] == "bash"
    assert len(processes(seen)) == 2
    assert status != 0
    assert "mount -t proc proc /proc" in message


@pytest.mark.unprivileged
def test_seed_mount_the_cure_is_the_default() -> None:
    seen, (status, output) = inside("mnt", remounted_by_hand, None)
    assert processes(seen)[1] == "bash"
    assert len(processes(seen)) == 2
    assert status == 0
    assert os.getpid() in processes(output.splitlines())


def remounted_by_nslab(propagation: str | None) -> tuple[list[str], tuple[int, str]]:
    """The same with the option."""
    mount("none", "/", flags=MS_REC | MS_SHARED)
    return typed(MOUNT_FLAGS, f"{PS}\n", hostname="container", mount_proc=True, propagation=propagation), ps()


@pytest.mark.unprivileged
@pytest.mark.parametrize("propagation", [None, "private", "slave", "shared", "unchanged"])
def test_seed_mount_a_fresh_proc_never_reaches_the_host(propagation: str | None) -> None:
    seen, (status, output) = inside("mnt", remounted_by_nslab, propagation)
    assert processes(seen)[1] == "bash"
    assert len(processes(seen)) == 2
    assert status == 0
    assert os.getpid() in processes(output.splitlines())


@pytest.mark.unprivileged
def test_seed_net_a_loopback_that_is_down_and_nothing_else() -> None:
    flags = nslab.CLONE_NEWNET | nslab.CLONE_NEWUTS | signal.SIGCHLD
    before = Path("/proc/net/dev").read_text().count(":")
    link, address = typed(flags, "ip link\n", hostname="container")
    assert re.match(r"1: lo: <LOOPBACK> mtu 65536 .* state DOWN ", link)
    assert address.split()[:2] == ["link/loopback", "00:00:00:00:00:00"]
    assert Path("/proc/net/dev").read_text().count(":") == before
