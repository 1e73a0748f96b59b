"""The uts namespace."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import inode, sh, spawn
from nested import as_nobody, inside, refusal

import nslab

NS_GET_USERNS = 0xB701


def test_uts_01_a_plain_child_has_the_hosts_name() -> None:
    assert sh(0, "uname -n") == (0, os.uname().nodename)


@pytest.mark.unprivileged
def test_uts_02_a_new_namespace_copies_the_name() -> None:
    with spawn("uts", ["uname", "-n"], stdout=nslab.PIPE, text=True) as child:
        assert child.communicate()[0].strip() == os.uname().nodename
    assert child.namespaces["uts"].inode != inode("uts")


@pytest.mark.unprivileged
def test_uts_03_hostname() -> None:
    before = os.uname().nodename
    assert before != "lab"
    assert sh("uts", "uname -n", hostname="lab") == (0, "lab")
    assert os.uname().nodename == before


@pytest.mark.unprivileged
def test_uts_04_without_privilege_the_clone_is_refused() -> None:
    error = as_nobody(refusal, "uts")
    assert (error.step, error.errno) == ("clone", errno.EPERM)
    assert isinstance(error, PermissionError)


def test_uts_05_hostname_needs_the_namespace(invalid: Callable[..., str]) -> None:
    assert invalid(0, hostname="x") == 'hostname needs the uts namespace (add "uts" to the flags)'
    assert 'add "uts"' in invalid("ipc pid", hostname="x")


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", ["x" * 64, "", "x", b"\xff\xfe"], ids=["64 bytes", "empty", "one byte", "no text"])
def test_uts_06_a_name_of_any_length_the_kernel_takes_reads_back(name: str | bytes) -> None:
    # Not as text: to the kernel a name is bytes.
    with spawn("uts", ["cat", "/proc/sys/kernel/hostname"], hostname=name, stdout=nslab.PIPE) as child:
        assert child.communicate()[0] == os.fsencode(name) + b"\n"
    assert child.returncode == 0


@pytest.mark.unprivileged
@pytest.mark.parametrize("size", [65, 200])
def test_uts_07_a_name_too_long(size: int, invalid: Callable[..., str]) -> None:
    assert "64" in invalid("uts", hostname="x" * size)


@pytest.mark.unprivileged
@pytest.mark.parametrize("option", ["hostname", "domainname"])
@pytest.mark.parametrize("name", ["a\0b", "\0", b"a\0"])
def test_uts_09_a_nul_is_not_cut_off_in_silence(option: str, name: str | bytes, invalid: Callable[..., str]) -> None:
    assert "NUL" in invalid("uts", **{option: name})


@pytest.mark.unprivileged
def test_uts_11_domainname() -> None:
    before = Path("/proc/sys/kernel/domainname").read_text()
    assert before != "d\n"
    assert sh("uts", "cat /proc/sys/kernel/domainname", domainname="d") == (0, "d")
    assert sh("uts", "cat /proc/sys/kernel/domainname", domainname="x" * 64) == (0, "x" * 64)
    assert Path("/proc/sys/kernel/domainname").read_text() == before


@pytest.mark.unprivileged
def test_uts_11_a_domainname_is_refused_as_a_hostname_is(invalid: Callable[..., str]) -> None:
    assert "64" in invalid("uts", domainname="x" * 65)
    assert invalid(0, domainname="d") == 'domainname needs the uts namespace (add "uts" to the flags)'
    error = as_nobody(refusal, "uts", {"domainname": "d"})
    assert (error.step, error.errno) == ("clone", errno.EPERM)


@pytest.mark.unprivileged
def test_uts_11_host_and_domain_name_are_two_names() -> None:
    script = "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname"
    assert sh("uts", script, hostname="h", domainname="d") == (0, "h\nd")


@pytest.mark.unprivileged
def test_uts_12_root_in_a_user_namespace_does_not_own_the_hosts_name() -> None:
    before = os.uname().nodename
    with pytest.raises(PermissionError) as caught:
        inside("user", socket.sethostname, "x", map_root_user=True)
    assert caught.value.errno == errno.EPERM
    assert os.uname().nodename == before


@pytest.mark.unprivileged
def test_uts_12_the_owner_of_both_namespaces_may_set_it_by_hand() -> None:
    assert sh("user uts", "hostname x; uname -n", map_root_user=True) == (0, "x")


def test_uts_15_an_open_namespace_outlives_its_processes() -> None:
    with spawn("uts", ["cat"], hostname="lab", stdin=nslab.PIPE) as child:
        fd = child.namespaces["uts"].open()
    try:
        assert child.returncode == 0
        assert sh(0, "uname -n", join=[fd]) == (0, "lab")
    finally:
        os.close(fd)
    with pytest.raises(ProcessLookupError):
        child.namespaces["uts"].open()


@pytest.mark.unprivileged
def test_uts_16_the_user_namespace_of_the_same_clone_owns_it() -> None:
    with spawn("user uts", ["cat"], map_root_user=True, stdin=nslab.PIPE) as child:
        uts = child.namespaces["uts"].open()
        owner = fcntl.ioctl(uts, NS_GET_USERNS)
        try:
            found = os.fstat(owner).st_ino
        finally:
            os.close(owner)
            os.close(uts)
    assert found == child.namespaces["user"].inode
    assert found != inode("user")
