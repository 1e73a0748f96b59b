"""The cgroup namespace: where the tree of control groups seems to begin."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import inode, sh, spawn
from nested import inside, mount

import nslab

# The line of the unified hierarchy, cgroup v2, in /proc/PID/cgroup.
UNIFIED = "sed -n s/^0:://p /proc/self/cgroup"


@pytest.mark.unprivileged
def test_cg_01_only_with_the_flag_it_differs_from_the_hosts() -> None:
    script = "stat -L -c %i /proc/self/ns/cgroup"
    assert sh(0, script) == (0, str(inode("cgroup")))
    with spawn("cgroup", ["sh", "-c", script], stdout=nslab.PIPE, text=True) as child:
        seen = int(child.communicate()[0])
    assert seen == child.namespaces["cgroup"].inode
    assert seen != inode("cgroup")


@contextmanager
def new_cgroup(directory: str) -> Iterator[Path]:
    """A control group of our own for a while, in a cgroup2 that only this mount namespace sees mounted."""
    mount("none", directory, "cgroup2")
    cgroup = Path(directory, f"nslab-test-{os.getpid()}")
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        cgroup.rmdir()


def unified() -> str:
    """Return the control group of this process."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def views_from(directory: str) -> tuple[str, tuple[int, str], tuple[int, str]]:
    """Move into a new control group; return its name, and how children without and with the flag see it."""
    before = unified()
    with new_cgroup(directory) as cgroup:
        (cgroup / "cgroup.procs").write_text("0")
        try:
            return f"/{cgroup.name}", sh(0, UNIFIED), sh("cgroup", UNIFIED)
        finally:
            Path(directory + before, "cgroup.procs").write_text("0")


def test_cg_04_the_callers_control_group_becomes_the_root(tmp_path: Path) -> None:
    name, without, with_flag = inside("mnt", views_from, str(tmp_path))
    assert without == (0, name)
    assert with_flag == (0, "/")


def killed_with_its_cgroup(directory: str) -> tuple[int, int] | str:
    """Kill a control group; return the return codes of a child in it and of one that is not."""
    with (
        new_cgroup(directory) as cgroup,
        spawn("cgroup", ["cat"], stdin=nslab.PIPE) as member,
        spawn("cgroup", ["cat"], stdin=nslab.PIPE) as other,
    ):
        (cgroup / "cgroup.procs").write_text(str(member.pid))
        try:
            (cgroup / "cgroup.kill").write_text("1")
        except FileNotFoundError as error:
            return str(error)
        killed = member.wait()
        assert other.stdin
        other.stdin.close()
        return killed, other.wait()


def test_cg_06_cgroup_kill_is_a_sigkill(tmp_path: Path) -> None:
    killed = inside("mnt", killed_with_its_cgroup, str(tmp_path))
    if isinstance(killed, str):
        pytest.skip(f"no cgroup.kill (Linux 5.14): {killed}")
    assert killed == (-signal.SIGKILL, 0)


def test_cg_07_a_process_is_joined_where_it_is_now() -> None:
    # It has left the namespace that it was started in.
    argv = ["unshare", "--cgroup", "sh", "-c", "echo moved; exec cat"]
    with spawn("cgroup", argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "moved\n"
        now = inode("cgroup", child.pid)
        assert sh(0, "stat -L -c %i /proc/self/ns/cgroup", join=child) == (0, str(now))
        assert now not in (child.namespaces["cgroup"].inode, inode("cgroup"))
