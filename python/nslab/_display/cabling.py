"""Which port of a network namespace is connected with which of another; the many that are alike are folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .._inspect.ids import NamespaceId
from .._inspect.network import Link, Network, Route
from .labels import stand_in
from .palette import Look, look
from .text import clean, several, shorten

# As many namespaces that are alike are drawn, and of all together; as many ports of one.
_ALIKE = 3
_HOSTS = 24
_PORTS = 24
_MAIN_TABLE = 254


class Port(NamedTuple):
    """A link of a host, both by their place."""

    host: int
    link: int


class Wire(NamedTuple):
    """Two ports that are joined: the ends of a veth pair, or (``below``) a device and the one it is on."""

    start: Port
    end: Port
    up: bool
    below: bool


class Row(NamedTuple):
    """A line in the box of a host."""

    depth: int
    #: None for what stands for several links.
    link: Link | None
    name: str
    kind: str = ""
    state: str = ""
    addresses: str = ""
    #: What is at the other end, and whether that is in the picture.
    far: str = ""
    wired: bool = False


class Host(NamedTuple):
    """A network namespace."""

    name: str
    look: Look
    rows: tuple[Row, ...]
    #: By the index of the link: the place of its row.
    places: dict[int, int]
    #: Its default routes, or that it has none.
    routes: tuple[str, ...]


class Cabling(NamedTuple):
    """What the picture shows."""

    hosts: tuple[Host, ...]
    wires: tuple[Wire, ...]
    #: Sentences about what is left out.
    rest: tuple[str, ...]


def cabling(networks: Sequence[Network], names: Sequence[str]) -> Cabling:
    """Find the wires and fold what is alike."""
    called = {network.namespace: names[at] for at, network in reversed(list(enumerate(networks))) if at < len(names)}
    known = list({network.namespace: network for network in networks}.values())
    shown, rest = _folded(known)
    where = {network.namespace: at for at, network in enumerate(shown)}
    wires = {Port(at, link.index): port for at, one in enumerate(shown) for link in one.links
             if (port := _other_end(one, link, where)) and _has(shown[port.host], port.link)}  # fmt: skip
    hosts = [_host(at, network, wires, shown, called) for at, network in enumerate(shown)]
    return Cabling(tuple(hosts), tuple(_wires(wires, shown, hosts)), tuple(rest))


def _folded(networks: list[Network]) -> tuple[list[Network], list[str]]:
    kinds: dict[object, list[Network]] = {}
    for at, network in enumerate(networks):
        links = frozenset(Counter((link.kind or link.type, link.up, bool(link.peer)) for link in network.links).items())
        # The first is what the others are connected with.
        kind = (at == 0, links, frozenset(network.peers.values()), bool(_defaults(network)))
        kinds.setdefault(kind, []).append(network)
    hidden, rest = set(), []
    for alike in kinds.values():
        if len(alike) > _ALIKE + 1:
            first = look(alike[0].namespace).text
            rest.append(f"… and {len(alike) - _ALIKE} more network namespaces like {first}")
            hidden |= {network.namespace for network in alike[_ALIKE:]}
    shown = [network for network in networks if network.namespace not in hidden]
    if shown[_HOSTS:]:
        rest.append(f"… and {len(shown) - _HOSTS} more network namespaces")
    return shown[:_HOSTS], rest


def _other_end(network: Network, link: Link, where: dict[NamespaceId, int]) -> Port | None:
    namespace = _far_namespace(network, link)
    if link.peer is None or namespace not in where or (namespace == network.namespace and link.peer == link.index):
        return None
    return Port(where[namespace], link.peer)


def _far_namespace(network: Network, link: Link) -> NamespaceId | None:
    return network.namespace if link.peer_netnsid is None else network.peers.get(link.peer_netnsid)


def _has(network: Network, index: int) -> bool:
    return any(link.index == index for link in network.links)


def _wires(ends: dict[Port, Port], shown: list[Network], hosts: list[Host]) -> Iterator[Wire]:
    links = [{link.index: link for link in network.links} for network in shown]
    seen = set()
    for start, end in ends.items():
        pair = frozenset((start, end))
        drawn = start.link in hosts[start.host].places and end.link in hosts[end.host].places
        if pair not in seen and drawn:
            seen.add(pair)
            near, far = links[start.host][start.link], links[end.host][end.link]
            yield Wire(start, end, near.up and far.up, near.kind != "veth")


def _host(
    at: int, network: Network, wires: dict[Port, Port], shown: list[Network], called: dict[NamespaceId, str]
) -> Host:
    seen = look(network.namespace)
    links = {link.index: link for link in network.links}
    rows: list[Row] = []
    hidden: Counter[str] = Counter()
    for depth, link in _ordered(network):
        wired = Port(at, link.index) in wires
        if len(rows) >= _PORTS or (len(links) > _PORTS and not wired and len(rows) >= _PORTS // 2):
            hidden[link.kind or link.type] += 1
            continue
        far = _far(network, link, links, shown)
        kind = link.kind or ("" if link.name == "lo" else link.type)
        rows.append(Row(depth, link, link.name, kind, state(link), _addresses(link), far, wired))
    if hidden:
        told = several([f"{count} {kind}" for kind, count in hidden.most_common()])
        rows.append(Row(0, None, f"… and {sum(hidden.values())} more: {told}"))
    places = {row.link.index: place for place, row in enumerate(rows) if row.link}
    name = shorten(clean(called.get(network.namespace, "host" if seen.host else "")), 40)
    return Host(name, seen, tuple(rows), places, tuple(_defaults(network)) or ("no default route",))


def _ordered(network: Network) -> Iterator[tuple[int, Link]]:
    """Return the links, those of a bridge below it."""
    masters = {link.index for link in network.links}
    members: dict[int, list[Link]] = {}
    tops = []
    for link in network.links:
        if link.master in masters and link.master != link.index:
            members.setdefault(link.master or 0, []).append(link)
        else:
            tops.append(link)
    done: set[int] = set()
    stack = [(0, link) for link in tops[::-1]]
    while stack:
        depth, link = stack.pop()
        if link.index not in done:
            done.add(link.index)
            yield depth, link
            stack += [(depth + 1, below) for below in members.get(link.index, [])[::-1]]


def state(link: Link) -> str:
    """Return whether it is switched on, in a mark and a word, and what keeps it from working."""
    if not link.up:
        return "▼ DOWN"
    if link.operstate in ("UP", "UNKNOWN"):
        return "▲ UP"
    # As seen on a veth whose other end is down.
    return "△ UP, no carrier" if link.operstate in ("DOWN", "LOWERLAYERDOWN") else f"△ UP, {link.operstate.lower()}"


def _addresses(link: Link) -> str:
    chosen = [one for one in link.addresses if one.scope != "link" or one.family == "inet"]
    told = [f"{one.local}/{one.prefixlen}" for one in chosen]
    # Made from a random hardware address, and in no one's way: shown only where there is nothing else.
    told = told or [f"{stand_in('address', one.local)}/{one.prefixlen}" for one in link.addresses]
    return several(told, 2)


def _far(network: Network, link: Link, links: dict[int, Link], shown: list[Network]) -> str:
    if link.peer is None or (link.peer_netnsid is None and link.peer == link.index):
        return ""
    sign = "⟷" if link.kind == "veth" else "on"
    namespace = _far_namespace(network, link)
    if namespace is None:
        return f"{sign} a namespace that is not known"
    if namespace == network.namespace:
        return f"{sign} {links[link.peer].name if link.peer in links else 'a link that is not listed'}"
    other = next((one for one in shown if one.namespace == namespace), None)
    far = next((one.name for one in other.links if one.index == link.peer), None) if other else None
    return f"{sign} {far or 'a port'} in {look(namespace).text}"


def _defaults(network: Network) -> list[str]:
    return [_words(route) for route in network.routes
            if route.destination == "default" and route.table == _MAIN_TABLE and route.type == "unicast"]  # fmt: skip


def _words(route: Route) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    return f"default route{via}{f' on {route.device}' if route.device else ''}"
