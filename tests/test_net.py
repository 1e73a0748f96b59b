"""The net namespace: its devices, and the loopback."""

from __future__ import annotations

import ctypes
import errno
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import sh
from nested import LIBC, as_nobody, checked, inside, mount, refusal

import nslab


def interfaces() -> list[str]:
    """Return the names of this namespace's network devices, read from /proc."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sorted(line.split(":")[0].strip() for line in lines)


@pytest.mark.unprivileged
def test_net_01_exactly_one_device_lo() -> None:
    status, output = sh("net", "cat /proc/net/dev")
    assert status == 0
    assert [line.split(":")[0].strip() for line in output.splitlines()[2:]] == ["lo"]


def errno_of_connecting() -> str:
    """Return why 127.0.0.1 cannot be reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        try:
            # For a datagram socket this only looks for a route.
            udp.connect(("127.0.0.1", 9))
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "connected"


@pytest.mark.unprivileged
def test_net_02_lo_is_down_at_first() -> None:
    status, output = sh("net", "ip -o link")
    assert status == 0
    assert output.startswith("1: lo: <LOOPBACK> ")
    assert " state DOWN " in output
    assert inside("net", errno_of_connecting) == "ENETUNREACH"


def talk(family: int, address: str) -> bytes:
    """Send something to ourselves over TCP."""
    with (
        socket.create_server((address, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
        server.accept()[0] as connection,
    ):
        client.sendall(b"hello")
        return connection.recv(5)


@pytest.mark.unprivileged
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_net_03_loopback(family: int, address: str) -> None:
    assert inside("net", talk, family, address, loopback=True) == b"hello"


@pytest.mark.unprivileged
def test_net_03_loopback_changes_nothing_but_the_flag() -> None:
    status, output = sh("net", "ip -o link; ip -o addr", loopback=True)
    assert status == 0
    link, *addresses = output.splitlines()
    assert link.startswith("1: lo: <LOOPBACK,UP,LOWER_UP> ")
    assert [line.split()[1:4] for line in addresses] == [["lo", "inet", "127.0.0.1/8"], ["lo", "inet6", "::1/128"]]


@pytest.mark.unprivileged
def test_net_04_loopback_needs_the_namespace(invalid: Callable[..., str]) -> None:
    assert invalid(0, loopback=True) == 'loopback needs the net namespace (add "net" to the flags)'
    assert 'add "net"' in invalid("user uts", loopback=True)


def test_net_06_a_device_made_inside_is_not_seen_outside() -> None:
    before = interfaces()
    assert "inside0" not in before
    # Not of type dummy, which some kernels do not have.
    status, output = sh("net", "ip link add inside0 type veth peer name inside1; cat /proc/net/dev")
    assert status == 0, output
    assert "inside0:" in output
    assert interfaces() == before


@pytest.mark.unprivileged
def test_net_08_without_privilege_the_clone_is_refused() -> None:
    error = as_nobody(refusal, "net", {"loopback": True})
    assert (error.step, error.errno) == ("clone", errno.EPERM)
    assert "user" in (error.hint or "")


CAP_NET_ADMIN = 12
VERSION_3 = 0x20080522


def give_up(capability: int) -> None:
    """Drop one capability, see capset(2)."""
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    words = (ctypes.c_uint32 * 6)()
    for index, field in enumerate(["CapEff", "CapPrm", "CapInh"]):
        mask = int(status[field], 16) & ~(1 << capability)
        words[index], words[3 + index] = mask & 0xFFFFFFFF, mask >> 32
    checked(LIBC.capset(header, words))


def refused_under_ubuntus_switch(value: str) -> nslab.SpawnError:
    """Be refused what AppArmor refuses there, on a host whose sysctl has this value."""
    kernel = Path("/proc/sys/kernel")
    files = {name: (kernel / name).read_text() for name in ("hostname", "domainname")}
    mount("none", kernel, "tmpfs")
    for name, text in {**files, "apparmor_restrict_unprivileged_userns": f"{value}\n"}.items():
        (kernel / name).write_text(text)
    give_up(CAP_NET_ADMIN)
    return refusal("net", {"loopback": True})


@pytest.mark.parametrize(("value", "named"), [("1", True), ("0", False)])
def test_net_11_the_hint_names_ubuntus_switch_where_it_is_on(value: str, named: bool) -> None:
    error = inside("mnt", refused_under_ubuntus_switch, value)
    assert (error.step, error.errno) == ("loopback", errno.EPERM)
    assert ("apparmor_restrict_unprivileged_userns" in (error.hint or "")) is named


def at_the_limit() -> tuple[nslab.SpawnError, nslab.Probe]:
    """Allow no net namespace in this user namespace."""
    Path("/proc/sys/user/max_net_namespaces").write_text("0")
    return refusal("net"), nslab.probe("net")["net"]


@pytest.mark.unprivileged
def test_net_12_the_limit_is_named() -> None:
    before = Path("/proc/sys/user/max_net_namespaces").read_text()
    error, probe = inside("user", at_the_limit, map_root_user=True)
    assert (error.step, error.errno) == ("clone", errno.ENOSPC)
    assert "user.max_net_namespaces" in (error.hint or "")
    assert (probe.ok, probe.step, probe.errno) == (False, "clone", errno.ENOSPC)
    assert "user.max_net_namespaces" in (probe.reason or "")
    assert Path("/proc/sys/user/max_net_namespaces").read_text() == before
