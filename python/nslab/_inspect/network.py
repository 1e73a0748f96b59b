"""`network`: the links, addresses and routes of a network namespace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
class Route(Record):
    """A route, in the words of ``ip -j route``."""

    #: ``"inet"`` or ``"inet6"``.
    family: str
    #: ``"unicast"``, ``"local"``, ``"unreachable"``, …
    type: str
    #: ``"default"`` or ``"10.0.0.0/24"``.
    destination: str
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


@dataclass(frozen=True)
class Network(Record):
    """What is in one network namespace."""

    namespace: NamespaceId
    links: tuple[Link, ...]
    #: Of all tables.
    routes: tuple[Route, ...]
    #: The namespaces behind the numbers in ``Link.peer_netnsid``, as far as they can be told.
    peers: Mapping[int, NamespaceId]
