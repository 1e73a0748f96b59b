"""Hosts, ports and the wires between them, drawn without text over text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pictures_apart import apart
from pictures_check import NASTY, check, expected, host, new_session, other

from nslab import pictures
from nslab._inspect.ids import NamespaceId
from nslab._inspect.network import Address, Link, Network, Route

pytestmark = pytest.mark.unprivileged


@pytest.fixture(autouse=True)
def stable() -> Iterator[None]:
    with new_session(stable=True):
        yield


def link(index: int, name: str, *addresses: str, kind: str | None = None, up: bool = True, **given: Any) -> Link:
    parts = (address.split("/") for address in addresses)
    held = tuple(Address("inet6" if ":" in one else "inet", one, int(length), "global") for one, length in parts)
    flags = ("UP", "LOWER_UP") if up else ()
    usual = Link(index, name, kind, "ether", flags, "UP" if up else "DOWN", 1500, None, None, None, None, held, 0, 0)
    return dataclasses.replace(usual, **given)


def lo(up: bool = True) -> Link:
    return link(1, "lo", *(["127.0.0.1/8"] if up else []), up=up, type="loopback", operstate="UNKNOWN")


def net(
    namespace: NamespaceId, *links: Link, default: str | None = None, peers: dict[int, NamespaceId] | None = None
) -> Network:
    route = Route("inet", "unicast", "default", default, links[-1].name, None, None, 254, "static", "global") \
        if default else None  # fmt: skip
    return Network(namespace, links, (route,) if route else (), peers or {})


def lab() -> list[Network]:
    """Return a host with a bridge and two children on it, of which one is not switched on, and one that is alone."""
    top, one, two, alone = host("net"), other("net", 1), other("net", 2), other("net", 3)
    return [
        net(
            top, lo(), link(2, "br0", "10.0.0.1/24", kind="bridge"),
            link(5, "va", kind="veth", peer=2, peer_netnsid=0, master=2),
            link(6, "vb", kind="veth", peer=2, peer_netnsid=1, master=2, operstate="LOWERLAYERDOWN"),
            link(8, "vlan5", kind="vlan", peer=7), link(7, "eth0", "192.168.1.7/24"),
            default="192.168.1.1", peers={0: one, 1: two},
        ),
        net(one, lo(), link(2, "eth0", "10.0.0.2/24", kind="veth", peer=5, peer_netnsid=0), default="10.0.0.1",
            peers={0: top}),
        net(two, lo(up=False), link(2, "eth0", kind="veth", up=False, peer=6, peer_netnsid=0), peers={0: top}),
        net(alone, lo(up=False)),
    ]  # fmt: skip


def test_a_bridge_with_children() -> None:
    picture = pictures.network(*lab(), names=["router", "a", "b"])
    check(picture)
    apart(picture)
    expected(picture, "network")
    lines = picture.text.splitlines()
    port = next(line for line in lines if "va" in line)
    assert "▲ UP" in port and "⟷ eth0 in net:new①" in port and port.startswith("  │  ├─ va")
    assert "△ UP, no carrier" in next(line for line in lines if "vb" in line)
    assert "has only lo: nothing can reach it" in lines[1]
    assert str(picture.mermaid).count("---") == 2 and str(picture.mermaid).count("-.-") == 1


def test_wires_end_at_their_ports() -> None:
    """Each line in the drawing starts and ends where a plug is."""
    svg = pictures.network(*lab()).svg
    paths = re.findall(r'd="M([\d.]+),([\d.]+) H[\d.]+ V([\d.]+) H([\d.]+)" fill="none" stroke="#1a1a1a"', svg)
    plugs = {(float(x) + 5, float(y) + 5) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="10"', svg)}
    ends = [(float(x), float(y)) for x1, y1, y2, x2 in paths for x, y in ((x1, y1), (x2, y2))]
    assert len(paths) == 3
    assert len(plugs) == 5
    for x, y in plugs:
        assert sum(abs(x - to_x) < 0.1 and abs(y - to_y) < 0.1 for to_x, to_y in ends) == 1


def test_the_other_end_is_not_in_the_picture() -> None:
    alone = net(
        host("net"), link(2, "a", kind="veth", peer=9, peer_netnsid=4),
        link(3, "b", kind="veth", peer=9, peer_netnsid=5), link(4, "c", kind="veth", peer=77),
        link(5, "d", kind="veth", peer=5), peers={4: other("net")},
    )  # fmt: skip
    picture = pictures.network(alone)
    check(picture)
    apart(picture)
    for words in ("⟷ a port in net:new①", "⟷ a namespace that is not known", "⟷ a link that is not listed"):
        assert words in picture.text


def test_both_ends_in_one_namespace() -> None:
    pair = net(host("net"), link(2, "a", kind="veth", peer=3), link(3, "b", kind="veth", peer=2))
    picture = pictures.network(pair, pair)
    check(picture)
    assert "1 network namespace; 1 pair of ports joined" in picture.text


def test_a_link_local_address_is_shown_only_where_there_is_no_other() -> None:
    local = Address("inet6", "fe80::42:1", 64, "link")
    one = link(2, "a", "10.0.0.1/24")
    both = dataclasses.replace(one, addresses=(*one.addresses, local))
    text = pictures.network(net(host("net"), both, link(3, "b", addresses=(local,)))).text
    assert text.count("address①/64") == 1
    assert "fe80" not in text


def test_two_hundred_children() -> None:
    top, peers = host("net"), {at: other("net", at + 1) for at in range(199)}
    ports = [link(10 + at, f"v{at}", kind="veth", peer=2, peer_netnsid=at, master=2) for at in range(199)]
    children = [
        net(each, lo(), link(2, "eth0", f"10.0.0.{at}/24", kind="veth", peer=10 + at, peer_netnsid=0), peers={0: top})
        for at, each in peers.items()
    ]
    picture = pictures.network(net(top, lo(), link(2, "br0", kind="bridge"), *ports, peers=peers), *children)
    check(picture)
    apart(picture)
    assert "… and 196 more network namespaces like net:new①" in picture.text
    assert len(picture.text.splitlines()) < 40


def test_two_hundred_in_a_row() -> None:
    """Each is connected with the next, so none is like another."""
    ids = [host("net"), *(other("net", at) for at in range(1, 200))]
    chain = []
    for at, each in enumerate(ids):
        peers = {0: ids[at - 1], 1: ids[(at + 1) % 200]}
        ends = (
            link(2, "west", kind="veth", peer=3, peer_netnsid=0),
            link(3, "east", kind="veth", peer=2, peer_netnsid=1),
        )
        chain.append(net(each, *ends, peers=peers))
    picture = pictures.network(*chain)
    check(picture)
    apart(picture)
    assert "… and 176 more network namespaces" in picture.text


def test_nothing_and_nonsense() -> None:
    circle = net(host("net"), link(2, "a", master=3), link(3, "b", master=2), link(4, "c", master=4))
    twice = net(other("net"), link(2, "a"), link(2, "a"))
    for shown in ((), (net(host("net")),), (circle, twice)):
        picture = pictures.network(*shown)
        check(picture)
        apart(picture)


def test_any_bytes() -> None:
    odd = Address("inet", NASTY, 0, NASTY)
    one = link(2, NASTY, kind=NASTY, peer=2, peer_netnsid=0, operstate=NASTY, addresses=(odd, odd, odd))
    route = Route("inet", "unicast", "default", NASTY, NASTY, None, None, 254, "", "")
    shown = Network(host("net"), (one, dataclasses.replace(one, index=3)), (route,) * 5, {0: other("net")})
    picture = pictures.network(shown, net(other("net"), one), names=[NASTY * 3])
    check(picture)
    apart(picture)
