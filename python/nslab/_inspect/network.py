"""`network`: the links, addresses and routes of a network namespace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .. import _core
from .entered import Place, entered
from .ids import NamespaceId
from .record import Record


@dataclass(frozen=True)
class Address(Record):
    """An address of a link, in the words of ``ip -j address``."""

    #: ``"inet"`` or ``"inet6"``.
    family: str
    #: ``"127.0.0.1"``.
    local: str
    #: The length of the prefix.
    prefixlen: int
    #: ``"global"``, ``"link"``, ``"host"``, …
    scope: str


@dataclass(frozen=True)
class Link(Record):
    """A network device, in the words of ``ip -j link``."""

    #: Its index.
    index: int
    #: Its name.
    name: str
    #: ``"veth"``, ``"bridge"``, ``"dummy"``, …; None for a device that no one made by a kind.
    kind: str | None
    #: ``"loopback"``, ``"ether"``, …
    type: str
    #: ``("LOOPBACK", "UP", "LOWER_UP")``.
    flags: tuple[str, ...]
    #: The operational state: ``"UP"``, ``"DOWN"``, ``"UNKNOWN"``, ``"LOWERLAYERDOWN"``, …
    operstate: str
    mtu: int
    #: The hardware address, or None.
    mac: str | None
    #: The index of the other end (veth) or the device below (vlan), or None.
    peer: int | None
    #: The number that this namespace has for the one the other end is in; None if that is this one.
    peer_netnsid: int | None
    #: The index of the bridge or bond it belongs to, or None.
    master: int | None
    addresses: tuple[Address, ...]
    received_bytes: int
    sent_bytes: int

    @property
    def up(self) -> bool:
        """Whether it was switched on."""
        return "UP" in self.flags


@dataclass(frozen=True)
class NextHop(Record):
    """One of several ways of a route."""

    gateway: str | None
    device: str | None
    #: Its share of the packets.
    weight: int


@dataclass(frozen=True)
class Route(Record):
    """A route, in the words of ``ip -j route``."""

    #: ``"inet"`` or ``"inet6"``.
    family: str
    #: ``"unicast"``, ``"local"``, ``"unreachable"``, …
    type: str
    #: ``"default"`` or ``"10.0.0.0/24"``.
    destination: str
    #: The next host, or None.
    gateway: str | None
    #: The name of the link, or None.
    device: str | None
    source: str | None
    metric: int | None
    #: 254 is ``main``, 255 ``local``.
    table: int
    #: Who made it: ``"kernel"``, ``"boot"``, ``"static"``, …
    protocol: str
    scope: str
    #: The ways of a multipath route, which has no gateway and device of its own; else empty.
    nexthops: tuple[NextHop, ...] = ()


@dataclass(frozen=True)
class Network(Record):
    """What is in one network namespace."""

    namespace: NamespaceId
    links: tuple[Link, ...]
    #: Of all tables.
    routes: tuple[Route, ...]
    #: The namespaces behind the numbers in ``Link.peer_netnsid``, as far as they can be told.
    peers: Mapping[int, NamespaceId]


def network(target: Place = None) -> Network:
    """Read the links, addresses and routes of a network namespace, through a child that enters it.

    ``target`` is a pid, an object that has one, a `NamespaceId` of type net, or None for the calling process. Raises
    `ProcessLookupError` when it is gone, `PermissionError` when it may not be inspected or entered. See rtnetlink(7).

    >>> [link.name for link in nslab.network().links][0]
    'lo'
    """
    with entered(target, "net") as (namespace, fd):
        links, routes, peers = _core.network(fd)
    found = {number: NamespaceId(kind, inode, dev, id, pid) for number, (kind, dev, inode, id), pid in peers}
    return Network(namespace, tuple(map(_link, links)), tuple(map(_route, routes)), MappingProxyType(found))


def _link(row: dict[str, Any]) -> Link:
    addresses = tuple(Address(**address) for address in row.pop("addresses"))
    return Link(flags=tuple(row.pop("flags")), addresses=addresses, **row)


def _route(row: dict[str, Any]) -> Route:
    hops = row.pop("hops")
    if len(hops) == 1:
        [(gateway, device, _)] = hops
        return Route(gateway=gateway, device=device, **row)
    return Route(gateway=None, device=None, nexthops=tuple(NextHop(*hop) for hop in hops), **row)
