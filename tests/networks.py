"""Processes in network namespaces of their own, and links as ip(8) and `nslab.network` have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from conftest import ROOT, spawn

import nslab
from nslab._inspect.network import Link, Network


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


T = TypeVar("T")


def at_one_moment(process: nslab.Process, as_ip_says: Callable[[], T]) -> tuple[Network, T]:
    """Return the network and what ip(8) said of it both before and after.

    The kernel tells of a carrier a little later, has an address of its own after a second, and greets the neighbours
    when it likes.
    """
    while True:
        before, found, after = as_ip_says(), nslab.network(process), as_ip_says()
        if before == after:
            return found, after


def addresses_from_ip(process: nslab.Process) -> dict[str, list[tuple[Any, ...]]]:
    return {
        row["ifname"]: [(a["family"], a["local"], a["prefixlen"], a["scope"]) for a in row["addr_info"]]
        for row in ip(process, "address")
    }


def check_links(process: nslab.Process) -> Network:
    """Hold every field of every link and address against ip(8)."""
    found, (links, addresses) = at_one_moment(
        process,
        lambda: ([from_ip(row) for row in ip(process, "-d", "-s", "link")], addresses_from_ip(process)),
    )
    names = {link.index: link.name for link in found.links}
    assert [as_ip(link, names) for link in found.links] == links
    ours = {link.name: [(a.family, a.local, a.prefixlen, a.scope) for a in link.addresses] for link in found.links}
    assert ours == addresses
    assert [link.up for link in found.links] == ["UP" in row["flags"] for row in ip(process, "link")]
    assert found.namespace == process.namespaces["net"]
    return found


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
