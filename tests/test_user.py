"""The user namespace: id maps, capabilities, groups, and who owns what."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import inode, sh, spawn
from nested import depth, inside, refusal

import nslab

# linux/proc_ns.h: the inode of the namespace that has no parent.
INITIAL = 0xEFFFFFFD
# Whom every id without a mapping is shown as.
NOBODY = Path("/proc/sys/kernel/overflowuid").read_text().strip()
ALL_CAPABILITIES = f"{(2 << int(Path('/proc/sys/kernel/cap_last_cap').read_text())) - 1:016x}"
IDS = "id -u; id -g; sed -n 's/^CapEff:.//p' /proc/self/status"

NS_GET_PARENT, NS_GET_OWNER_UID = 0xB702, 0xB704


@pytest.mark.unprivileged
def test_usr_01_without_a_map_the_program_is_nobody() -> None:
    assert sh("user", IDS) == (0, f"{NOBODY}\n{NOBODY}\n{'0' * 16}")


@pytest.mark.unprivileged
def test_usr_01_but_before_the_execve_it_may_do_everything() -> None:
    assert sh("user uts", "uname -n", hostname="lab") == (0, "lab")


@pytest.mark.unprivileged
def test_usr_02_root_inside_has_every_capability() -> None:
    assert sh("user", IDS, map_root_user=True) == (0, f"0\n0\n{ALL_CAPABILITIES}")
    status, output = sh("user", "cat /proc/self/uid_map /proc/self/gid_map", map_root_user=True)
    assert (status, output.split()) == (0, ["0", str(os.geteuid()), "1", "0", str(os.getegid()), "1"])


def test_usr_03_setgroups_stays_allowed_if_asked_for() -> None:
    script = "cat /proc/self/setgroups /proc/self/gid_map"
    status, output = sh("user", script, map_root_user=True, setgroups="allow")
    assert (status, output.split()) == (0, ["allow", "0", "0", "1"])
    status, output = sh("user", script, map_root_user=True)
    assert (status, output.split()) == (0, ["deny", "0", "0", "1"])


def refused_join(fd: int) -> nslab.SpawnError:
    """Join what is not below us."""
    return refusal(0, {"join": [fd]})


def test_usr_06_no_way_into_a_sibling() -> None:
    with spawn("user", ["cat"], map_root_user=True, stdin=nslab.PIPE) as sibling:
        fd = sibling.namespaces["user"].open()
        try:
            error = inside("user", refused_join, fd, map_root_user=True, pass_fds=[fd])
            # A parent may.
            status, output = sh(0, "stat -L -c %i /proc/self/ns/user", join=[fd])
        finally:
            os.close(fd)
    assert (error.step, error.errno) == ("setns", errno.EPERM)
    assert (status, int(output)) == (0, sibling.namespaces["user"].inode)


@pytest.mark.unprivileged
def test_usr_07_every_one_is_another() -> None:
    with spawn("user", ["cat"], stdin=nslab.PIPE) as first, spawn("user", ["cat"], stdin=nslab.PIPE) as second:
        seen = {inode("user"), inode("user", first.pid), inode("user", second.pid)}
        assert seen == {child.namespaces["user"].inode for child in (first, second)} | {inode("user")}
        assert len(seen) == 3
    with spawn(0, ["true"]) as plain:
        assert plain.namespaces["user"].inode == inode("user")


def test_usr_09_thirty_three_levels() -> None:
    levels, step, number = depth("user")
    assert (step, number) == ("clone", errno.ENOSPC)
    assert levels == 33 if inode("user") == INITIAL else levels < 33


@pytest.mark.unprivileged
def test_usr_17_no_extra_groups_where_setgroups_is_denied() -> None:
    script = "cat /proc/self/setgroups; id -u; id -G"
    assert sh("user", script, map_root_user=True, group=0, extra_groups=[]) == (0, "deny\n0\n0")


def test_usr_17_no_extra_groups_where_it_is_allowed() -> None:
    script = "cat /proc/self/setgroups; sed -n 's/^Groups:.//p' /proc/self/status"
    options: dict[str, Any] = {"map_root_user": True, "setgroups": "allow"}
    assert sh("user", script, group=0, extra_groups=[], **options) == (0, "allow")
    assert sh("user", script, group=0, extra_groups=[0], **options) == (0, "allow\n0")


def test_usr_17_groups_that_cannot_be_dropped_are_an_error() -> None:
    flags, options = "user", {"map_root_user": True, "extra_groups": []}
    error = inside(0, refusal, flags, options, extra_groups=[7, 8])
    assert (error.step, error.errno) == ("extra_groups", errno.EPERM)
    assert 'setgroups="allow"' in (error.hint or "")


def test_usr_20_extra_groups() -> None:
    script = "sed -n 's/^Groups:.//p' /proc/self/status"
    assert sh(0, script, extra_groups=[7, 8]) == (0, "7 8")
    assert sh("uts", script, group=5, extra_groups=[8, 7]) == (0, "7 8")
    assert sh("uts", script, extra_groups=[]) == (0, "")
    assert sh("uts", script) == (0, " ".join(map(str, sorted(os.getgroups()))))


@pytest.mark.unprivileged
def test_usr_21_its_owner_is_who_made_it() -> None:
    owner = bytearray(4)
    with spawn("user uts", ["cat"], map_root_user=True, stdin=nslab.PIPE) as child:
        user, uts = (child.namespaces[name].open() for name in ("user", "uts"))
    try:
        fcntl.ioctl(user, NS_GET_OWNER_UID, owner)
        assert struct.unpack("I", owner) == (os.geteuid(),)
        with pytest.raises(OSError) as caught:
            fcntl.ioctl(uts, NS_GET_OWNER_UID, owner)
        assert caught.value.errno == errno.EINVAL
    finally:
        os.close(user)
        os.close(uts)


def parent_of(fd: int) -> int | str:
    """Return the inode of a namespace's parent, or why there is none, and close it."""
    try:
        parent = fcntl.ioctl(fd, NS_GET_PARENT)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        os.close(fd)
    try:
        return os.fstat(parent).st_ino
    finally:
        os.close(parent)


@pytest.mark.unprivileged
def test_usr_22_its_parent_is_ours() -> None:
    with spawn("user pid uts", ["cat"], stdin=nslab.PIPE) as child:
        parents = {name: parent_of(child.namespaces[name].open()) for name in ("user", "pid", "uts")}
    assert parents == {"user": inode("user"), "pid": inode("pid"), "uts": "EINVAL"}
    # Of our own, what is above is not shown, or there is nothing.
    assert parent_of(os.open("/proc/self/ns/user", os.O_RDONLY)) == "EPERM"


@pytest.mark.unprivileged
def test_usr_24_only_root_inside_keeps_capabilities_over_the_execve() -> None:
    options: dict[str, Any] = {"map_users": [(1000, os.geteuid(), 1)], "map_groups": [(1000, os.getegid(), 1)]}
    assert sh("user", IDS, **options) == (0, f"1000\n1000\n{'0' * 16}")
    itself = ALL_CAPABILITIES if os.geteuid() == 0 else "0" * 16
    assert sh("user", IDS, map_current_user=True) == (0, f"{os.geteuid()}\n{os.getegid()}\n{itself}")


def refused_and_probed() -> tuple[nslab.SpawnError, nslab.Probe]:
    """Ask for a user namespace, and whether one can be had."""
    return refusal("user", {"map_root_user": True}), nslab.probe("user")["user"]


def where_none_is_allowed() -> tuple[nslab.SpawnError, nslab.Probe]:
    """The same on a host whose sysctl is 0."""
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    return refused_and_probed()


@pytest.mark.unprivileged
def test_usr_26_a_host_without_user_namespaces_says_which_switch_it_is() -> None:
    before = Path("/proc/sys/user/max_user_namespaces").read_text()
    error, probe = inside("user", where_none_is_allowed, map_root_user=True)
    assert (error.step, error.errno) == ("clone", errno.ENOSPC)
    assert "user.max_user_namespaces is 0" in (error.hint or "")
    assert (probe.ok, probe.step, probe.errno) == (False, "clone", errno.ENOSPC)
    assert "user.max_user_namespaces is 0" in (probe.reason or "")
    assert "user.max_user_namespaces" in (probe.fix or "")
    assert Path("/proc/sys/user/max_user_namespaces").read_text() == before


@pytest.mark.unprivileged
def test_usr_26_a_caller_without_an_id_gets_none() -> None:
    error, probe = inside("user", refused_and_probed)
    assert (error.step, error.errno) == ("clone", errno.EPERM)
    assert "mapping" in (error.hint or "")
    assert (probe.ok, probe.step, probe.errno) == (False, "clone", errno.EPERM)
    assert probe.reason
    assert probe.fix


@pytest.mark.unprivileged
def test_usr_27_without_a_pid_namespace_the_status_is_the_programs() -> None:
    with spawn("user", ["sh", "-c", "exit 7"]) as child:
        assert child.wait() == 7
    assert child.namespaces["pid"].inode == inode("pid")
    assert sh("user", "kill -TERM $$")[0] == -signal.SIGTERM


def write_setgroups(word: str) -> None:
    """Write to /proc/self/setgroups."""
    Path("/proc/self/setgroups").write_text(word)


@pytest.mark.unprivileged
@pytest.mark.parametrize("word", ["allow", "deny"])
def test_usr_29_denied_once_is_denied_for_good(word: str) -> None:
    # CVE-2014-8989: who could drop a group by setgroups(2) got what that group is kept from.
    with pytest.raises(PermissionError) as caught:
        inside("user", write_setgroups, word, map_root_user=True)
    assert caught.value.errno == errno.EPERM


def test_usr_29_once_groups_are_mapped_it_cannot_be_denied() -> None:
    with pytest.raises(PermissionError) as caught:
        inside("user", write_setgroups, "deny", map_root_user=True, setgroups="allow")
    assert caught.value.errno == errno.EPERM
    assert inside("user", write_setgroups, "allow", map_root_user=True, setgroups="allow") is None
