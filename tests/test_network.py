"""What `nslab.network` says of a network namespace, held against `ip -j` run inside it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from nested import inside, mount
from networks import ROUTES, at_one_moment, check_links, host, ip, within

import nslab
from nslab._inspect.network import Route

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


def routes(process: nslab.Process, family: str) -> list[dict[str, Any]]:
    return [route_from_ip(row) for row in ip(process, family, "-d", "route", "show", "table", "all")]


@pytest.mark.unprivileged
def test_routes_are_as_ip_has_them() -> None:
    with host(ROUTES) as process:
        network, of_ip = at_one_moment(process, lambda: {"inet": routes(process, "-4"), "inet6": routes(process, "-6")})
        assert {route.family for route in network.routes} == set(of_ip)
        for family, theirs in of_ip.items():
            ours = [route_as_ip(route) for route in network.routes if route.family == family]
            assert sorted(ours, key=str) == sorted(theirs, key=str)
            assert len(ours) > 10
        kinds = {route.type for route in network.routes}
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
