"""What `nslab.network` says of a network namespace, held against `ip -j` run inside it."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import seccomp
from conftest import ROOT, inode, spawn
from nested import as_nobody, inside, mount

import nslab
from nslab._inspect.network import Link, Network, Route


@contextmanager
def host(script: str = "", flags: str = "net", **options: Any) -> Iterator[nslab.Process]:
    """A process in a network namespace of its own, in which a shell script has run."""
    argv = ["/bin/sh", "-c", f"set -e\n{script}\necho ready; exec cat"]
    with spawn(flags, argv, stdin=nslab.PIPE, stdout=nslab.PIPE, stderr=nslab.PIPE, text=True, **options) as process:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            assert process.stderr
            complaint = process.stderr.read()
            if "Unknown device type" in complaint:
                pytest.skip(f"this kernel cannot: {script}")
            pytest.fail(complaint)
        yield process


def within(process: nslab.Process) -> dict[str, Any]:
    """Return the option that joins its network namespace, for an ordinary user through its user namespace."""
    return {"join": [process.namespaces["net"]] + ([] if ROOT else [process.namespaces["user"]])}


def ip(process: nslab.Process, *args: str) -> list[dict[str, Any]]:
    """Return what ip(8) says in its network namespace."""
    done = nslab.run(0, ["ip", "-j", *args], stdout=nslab.PIPE, text=True, check=True, **within(process))
    return [row for row in json.loads(done.stdout or "[]") if row]


def as_ip(link: Link, names: dict[int, str]) -> dict[str, Any]:
    """Return a link as ``ip -j -d -s link`` prints it, as far as both know it."""
    row = {
        "ifindex": link.index,
        "ifname": link.name,
        "flags": list(link.flags),
        "mtu": link.mtu,
        "operstate": link.operstate,
        "link_type": link.type,
        "address": link.mac,
        "kind": link.kind,
        "master": names[link.master] if link.master else None,
        "link_netnsid": link.peer_netnsid,
        "received": link.received_bytes,
        "sent": link.sent_bytes,
        "link": None,
        "link_index": None,
    }
    if link.peer_netnsid is not None:
        row["link_index"] = link.peer
    elif link.peer is not None:
        row["link"] = names[link.peer]
    return row


def from_ip(row: dict[str, Any]) -> dict[str, Any]:
    keys = ["ifindex", "ifname", "flags", "mtu", "operstate", "link_type", "address", "master"]
    keys += ["link_netnsid", "link", "link_index"]
    counts = row["stats64"]
    more = {"received": counts["rx"]["bytes"], "sent": counts["tx"]["bytes"]}
    return {**{key: row.get(key) for key in keys}, **more, "kind": row.get("linkinfo", {}).get("info_kind")}


def check_links(process: nslab.Process) -> Network:
    """Hold every field of every link and address against ip(8)."""
    # The kernel tells of a carrier a little later, and greets the neighbours when it likes: look again until ip(8) says
    # the same before and after.
    before: list[dict[str, Any]] | None = None
    after: list[dict[str, Any]] = []
    while before != after:
        before = [from_ip(row) for row in ip(process, "-d", "-s", "link")]
        found = nslab.network(process)
        after = [from_ip(row) for row in ip(process, "-d", "-s", "link")]
    names = {link.index: link.name for link in found.links}
    assert [as_ip(link, names) for link in found.links] == after
    addresses = {
        row["ifname"]: [(a["family"], a["local"], a["prefixlen"], a["scope"]) for a in row["addr_info"]]
        for row in ip(process, "address")
    }
    ours = {link.name: [(a.family, a.local, a.prefixlen, a.scope) for a in link.addresses] for link in found.links}
    assert ours == addresses
    assert [link.up for link in found.links] == ["UP" in row["flags"] for row in ip(process, "link")]
    assert found.namespace == process.namespaces["net"]
    return found


SCRIPTS = {
    "fresh": "",
    "loopback": "ip link set lo up",
    "veth": "ip link add left0 type veth peer name right0",
    "veth, half up": "ip link add left0 type veth peer name right0; ip link set left0 up",
    "veth, up": "ip link add left0 type veth peer name right0; ip link set left0 up; ip link set right0 up",
    "bridge with ports": """
        ip link add bridge0 type bridge; ip link set bridge0 up mtu 1400
        for i in 1 2 3; do
            ip link add port$i type veth peer name end$i; ip link set port$i master bridge0; ip link set port$i up
        done
        ip link set end2 up""",
    "addresses": """
        ip link add left0 type veth peer name right0; ip link set left0 up; ip link set right0 up
        ip address add 10.0.0.1/24 dev left0; ip address add 10.0.0.2/24 dev left0
        ip address add 10.9.0.1 peer 10.9.0.2/32 dev left0
        ip address add fd00::1/64 dev left0 nodad; ip address add 169.254.3.4/16 scope link dev right0""",
    "a name of 15 bytes": "ip link add abcdefghijklmno type veth peer name right0",
    "no hardware address": "ip tuntap add tun0 mode tun",
    "flags": """
        ip link add left0 type veth peer name right0
        ip link set left0 promisc on; ip link set left0 allmulticast on; ip link set right0 arp off multicast off""",
    "hardware address": "ip link add left0 address 02:00:00:00:be:ef type veth peer name right0",
    "dummy": "ip link add dummy0 type dummy",
    "vlan": "ip link add left0 type veth peer name right0; ip link add link left0 name left0.5 type vlan id 5",
    "macvlan": "ip link add left0 type veth peer name right0; ip link add link left0 name mac0 type macvlan",
    "vxlan": "ip link add vxlan0 type vxlan id 5 dstport 4789",
    "ifb": "ip link add ifb9 type ifb",
    "bond": "ip link add bond0 type bond",
    "gre": "ip link add gre9 type gre remote 10.0.0.1 local 10.0.0.2",
    "sit": "ip link add sit9 type sit remote 10.0.0.1",
    "ip6tnl": "ip link add tnl9 type ip6tnl remote fd00::1",
}


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", SCRIPTS)
def test_links_and_addresses_are_as_ip_has_them(name: str) -> None:
    if name == "no hardware address" and not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("no /dev/net/tun")
    with host(SCRIPTS[name]) as process:
        found = check_links(process)
        assert dict(found.peers) == {}


@pytest.mark.unprivileged
def test_bytes_are_counted() -> None:
    with host("ip link set lo up") as process:
        before = nslab.network(process).links[0]
        script = "import socket; socket.socket(2, 2).sendto(b'x' * 1000, ('127.0.0.1', 9))"
        nslab.run(0, ["python3", "-c", script], check=True, **within(process))
        after = check_links(process).links[0]
    assert (before.received_bytes, before.sent_bytes) == (0, 0)
    # The answer, that nobody listens, carries the beginning of it back.
    assert after.sent_bytes == after.received_bytes >= 1028


@pytest.mark.unprivileged
def test_a_pair_between_two_namespaces() -> None:
    with host() as a:
        options: dict[str, Any] = {} if ROOT else {"join": a.namespaces["user"]}
        with nslab.spawn("net", ["cat"], stdin=nslab.PIPE, **options) as b:
            make = f"ip link add here0 type veth peer name there0 netns {b.pid}; ip link set here0 up"
            nslab.run(0, ["sh", "-e", "-c", make], check=True, **within(a))
            ours, theirs = check_links(a), check_links(b)
            here = next(link for link in ours.links if link.name == "here0")
            there = next(link for link in theirs.links if link.name == "there0")
            assert (here.peer, there.peer) == (there.index, here.index)
            assert here.peer_netnsid is not None
            assert there.peer_netnsid is not None
            assert dict(ours.peers) == {here.peer_netnsid: b.namespaces["net"]}
            assert dict(theirs.peers) == {there.peer_netnsid: a.namespaces["net"]}
            # The namespace can be entered by what was found of it.
            assert nslab.network(ours.peers[here.peer_netnsid]) == theirs
            assert (here.up, there.up) == (True, False)


@pytest.mark.unprivileged
def test_numbers_of_namespaces_are_those_of_ip() -> None:
    with host() as a:
        options: dict[str, Any] = {} if ROOT else {"join": a.namespaces["user"]}
        with nslab.spawn("net", ["cat"], stdin=nslab.PIPE, **options) as b:
            lines = "\n".join(f"ip link add a{i} type veth peer name b{i} netns {b.pid}" for i in range(3))
            nslab.run(0, ["sh", "-e", "-c", f"{lines}\nip link add a9 type veth peer name b9"], check=True, **within(a))
            found = nslab.network(a)
            listed = {row["nsid"] for row in ip(a, "netns", "list-id")}
            assert set(found.peers) == listed == {link.peer_netnsid for link in found.links} - {None}


@pytest.mark.unprivileged
def test_a_peer_that_only_a_descriptor_holds() -> None:
    with host() as a:
        options: dict[str, Any] = {} if ROOT else {"join": a.namespaces["user"]}
        with nslab.spawn("net", ["cat"], stdin=nslab.PIPE, **options) as b:
            make = f"ip link add here0 type veth peer name there0 netns {b.pid}"
            nslab.run(0, ["sh", "-e", "-c", make], check=True, **within(a))
            kept = b.namespaces["net"].open()
        try:
            assert list(nslab.network(a).peers.values()) == [b.namespaces["net"]]
        finally:
            os.close(kept)


def peer_in_a_file(path: str) -> tuple[nslab.NamespaceId, list[nslab.NamespaceId]]:
    Path(path).touch()
    with host() as a:
        with nslab.spawn("net", ["cat"], stdin=nslab.PIPE) as b:
            make = f"ip link add here0 type veth peer name there0 netns {b.pid}"
            nslab.run(0, ["sh", "-e", "-c", make], check=True, **within(a))
            mount(f"/proc/{b.pid}/ns/net", path, flags=4096)
        return b.namespaces["net"], list(nslab.network(a).peers.values())


@pytest.mark.skipif(not ROOT, reason="needs mounts of one user namespace")
def test_a_peer_that_only_a_mount_holds(tmp_path: Path) -> None:
    peer, found = inside("mnt", peer_in_a_file, str(tmp_path / "kept"))
    assert found == [peer]


ROUTES = """
    ip link set lo up
    ip link add left0 type veth peer name right0; ip link set left0 up; ip link set right0 up
    ip address add 10.0.0.1/24 dev left0; ip address add 10.1.0.1/24 dev right0
    ip address add fd00::1/64 dev left0 nodad
    ip route add default via 10.0.0.2
    ip route add default via 10.1.0.2 metric 77
    ip route add 10.5.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.1.0.2
    ip route add 10.6.7.8 dev left0 src 10.0.0.1 proto static scope link
    ip route add 10.9.0.0/16 via 10.0.0.7 table 1234 proto bird
    ip route add unreachable 10.7.0.0/16
    ip route add blackhole 10.8.0.0/16 metric 3
    ip route add prohibit 10.10.0.0/16
    ip route add throw 10.11.0.0/16 table 9 proto 77
    ip route add default via fd00::2
    ip route add fd01::/48 via fd00::3 metric 5
    ip route add unreachable fd02::/48
    ip route add fd03::/48 nexthop via fd00::4 nexthop via fd00::5 weight 2
    ip route add 10.12.0.0/16 via inet6 fe80::1 dev left0
"""
TABLES = {"main": 254, "local": 255, "default": 253}


def route_as_ip(route: Route) -> dict[str, Any]:
    return {
        "type": route.type,
        "dst": route.destination,
        "gateway": route.gateway,
        "dev": route.device,
        "prefsrc": route.source,
        "metric": route.metric,
        "table": route.table,
        "protocol": route.protocol,
        "scope": route.scope,
        "nexthops": [(hop.gateway, hop.device, hop.weight) for hop in route.nexthops],
    }


def route_from_ip(row: dict[str, Any]) -> dict[str, Any]:
    table = row.get("table", "main")
    hops = [(hop.get("gateway"), hop.get("dev"), hop["weight"]) for hop in row.get("nexthops", [])]
    found = {key: row.get(key) for key in ("type", "dst", "gateway", "dev", "prefsrc", "metric", "protocol", "scope")}
    found["gateway"] = found["gateway"] or row.get("via", {}).get("host")
    return {**found, "table": TABLES.get(table) or int(table), "nexthops": hops}


@pytest.mark.unprivileged
def test_routes_are_as_ip_has_them() -> None:
    with host(ROUTES) as process:
        found = nslab.network(process).routes
        for family, option in (("inet", "-4"), ("inet6", "-6")):
            ours = [route_as_ip(route) for route in found if route.family == family]
            theirs = [route_from_ip(row) for row in ip(process, option, "-d", "route", "show", "table", "all")]
            assert sorted(ours, key=str) == sorted(theirs, key=str)
            assert len(ours) > 10
        assert {route.family for route in found} == {"inet", "inet6"}
        kinds = {route.type for route in found}
        assert kinds >= {"unicast", "local", "broadcast", "unreachable", "blackhole", "prohibit", "throw", "multicast"}


@pytest.mark.unprivileged
def test_many_links_take_several_messages() -> None:
    script = "for i in $(seq 60); do ip link add left$i type veth peer name right$i; done"
    with host(script) as process:
        assert len(check_links(process).links) == 121


def changing(stop: threading.Event, argv: list[str], options: dict[str, Any]) -> None:
    while not stop.is_set():
        nslab.run(0, argv, check=True, **options)


@pytest.mark.unprivileged
def test_a_list_that_changes_while_it_is_read_is_of_one_moment() -> None:
    script = "for i in $(seq 40); do ip link add left$i type veth peer name right$i; done"
    with host(script) as process:
        stop = threading.Event()
        change = "for i in $(seq 20); do ip link del left$i; ip link add left$i type veth peer name right$i; done"
        thread = threading.Thread(target=changing, args=(stop, ["sh", "-c", change], within(process)))
        thread.start()
        try:
            for _ in range(200):
                links = nslab.network(process).links
                indices = [link.index for link in links]
                assert len(set(indices)) == len(indices)
                # Ends come and go together.
                assert len(links) % 2 == 1
        finally:
            stop.set()
            thread.join()


@pytest.mark.unprivileged
def test_a_pid_an_object_a_namespace_or_nobody() -> None:
    with host("ip link set lo up") as process:
        found = nslab.network(process)
        assert nslab.network(process.pid) == nslab.network(process.namespaces["net"]) == found
    own = nslab.network()
    assert own.namespace.inode == inode("net")
    assert [(link.index, link.name) for link in own.links] == socket.if_nameindex()
    assert nslab.network(os.getpid()).namespace == own.namespace


@pytest.mark.unprivileged
def test_to_dict_is_json() -> None:
    with host(ROUTES) as process:
        found = json.loads(json.dumps(nslab.network(process).to_dict()))
    assert found["links"][0]["name"] == "lo"
    assert found["links"][0]["addresses"][0]["local"] == "127.0.0.1"
    assert any(route["nexthops"] for route in found["routes"])


@pytest.mark.unprivileged
def test_from_a_thread_while_others_do_the_same() -> None:
    with host("ip link set lo up") as process:
        expected = nslab.network(process)
        results: list[object] = []

        def work() -> None:
            before = {kind: os.readlink(f"/proc/thread-self/ns/{kind}") for kind in os.listdir("/proc/thread-self/ns")}
            for _ in range(50):
                results.append(nslab.network(process))  # noqa: PERF401
            after = {kind: os.readlink(f"/proc/thread-self/ns/{kind}") for kind in os.listdir("/proc/thread-self/ns")}
            results.append(expected if before == after else "moved")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [expected] * (8 * 51)


@pytest.mark.unprivileged
def test_where_clone3_is_refused() -> None:
    inside("", _without_clone3)


def _without_clone3() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    with host("ip link add left0 type veth peer name right0") as process:
        check_links(process)


def setns_refused() -> PermissionError:
    with host() as process:
        seccomp.refuse("setns", errno.EPERM)
        with pytest.raises(PermissionError) as caught:
            nslab.network(process)
        return caught.value


@pytest.mark.unprivileged
def test_what_may_not_be_entered_is_a_permission_error() -> None:
    error = inside("", setns_refused)
    assert error.errno == errno.EPERM
    assert "net:[" in str(error)
    assert "CAP_SYS_ADMIN in the user namespace that owns it" in str(error)


def setns_kills() -> int | None:
    with host() as process:
        seccomp.kill("setns")
        with pytest.raises(OSError, match="ancel") as caught:
            nslab.network(process)
        return caught.value.errno


def test_a_child_that_is_killed_on_its_way() -> None:
    assert inside("", setns_kills) == errno.ECANCELED


def refusal(target: Any) -> str:
    with pytest.raises(PermissionError) as caught:
        nslab.network(target)
    assert caught.value.errno == errno.EPERM
    return str(caught.value)


@pytest.mark.skipif(not ROOT, reason="needs a process of root")
def test_another_users_process() -> None:
    with host() as process:
        assert f"process {process.pid} may not be inspected: it belongs to another user (uid 0)" in as_nobody(
            refusal, process.pid
        )


@pytest.mark.skipif(not ROOT, reason="the pids of kernel threads are not known inside of a pid namespace")
def test_a_kernel_thread() -> None:
    if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":
        pytest.skip("kernel threads are in the initial pid namespace only")
    assert "process 2 may not be inspected: it is a kernel thread" in as_nobody(refusal, 2)
    # Root may: it is in the initial namespace.
    assert nslab.network(2).namespace.type == "net"


@pytest.mark.unprivileged
def test_who_is_gone() -> None:
    with host() as process:
        namespace = process.namespaces["net"]
    for target in (process, process.pid):
        with pytest.raises(ProcessLookupError, match=str(process.pid)):
            nslab.network(target)
    with pytest.raises(ProcessLookupError, match=r"in net:\["):
        nslab.network(namespace)


@pytest.mark.unprivileged
def test_a_zombie_has_ended() -> None:
    with spawn("net", ["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError, match="has ended"):
            nslab.network(process.pid)


@pytest.mark.unprivileged
@pytest.mark.parametrize(("target", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_what_is_no_target(target: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        nslab.network(target)


@pytest.mark.unprivileged
def test_a_namespace_of_another_type() -> None:
    with pytest.raises(ValueError, match=r"uts:\[\d+\] is not a namespace of type net"):
        nslab.network(nslab.namespaces(os.getpid())["uts"])
