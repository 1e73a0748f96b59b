"""`network`: hosts as boxes, their ports, and the wires between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .._inspect.network import Network
from .cabling import Cabling, Host, Row, Wire, cabling
from .outline import Line, Outline
from .palette import FAINT, INK, LINE, PAPER
from .picture import Picture
from .svg import Canvas, measure
from .text import clean, mermaid, several, shorten

_HEADER = ("port", "kind", "state", "addresses", "other end")
_LIMITS = (40, 12, 22, 44, 48)
_CELLS = (20, 10, 22, 48)
_ROW = 24.0
_HEAD = 36.0
_LANE = 14.0


def network(*networks: Network, names: Sequence[str] = ()) -> Picture:
    """Draw network namespaces as boxes with their ports, and the veth pairs between them as lines.

    A port says whether it is UP; a line is dashed where one of its ends is DOWN. ``names`` are what to call the
    namespaces, in their order. See network_namespaces(7), veth(4).
    """
    shown = cabling(networks, names)
    summary = _summary(shown)
    title = "Network: " + (several([_name(host) for host in shown.hosts]) or "no namespace")
    canvas = Canvas(title, summary)
    canvas.text(0, 14, title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    y = _draw(canvas, shown, 54)
    for line in shown.rest:
        canvas.text(0, y + 16, line, size=12, fill=FAINT)
        y += 18
    text = "\n".join([title, summary, "", _outline(shown).text(), *shown.rest])
    return Picture(title, canvas.svg(), text, mermaid=_mermaid(shown))


def _name(host: Host) -> str:
    return host.name or host.look.text


def _summary(shown: Cabling) -> str:
    count = len(shown.hosts)
    told = [f"{count} network namespace{'s' * (count != 1)}"]
    wired = {port.host for wire in shown.wires if not wire.below for port in wire[:2]}
    pairs = sum(not wire.below for wire in shown.wires)
    if pairs:
        told.append(f"{pairs} pair{'s' * (pairs != 1)} of ports joined")
    told += [
        f"{_name(host)} has only lo: nothing can reach it"
        for at, host in enumerate(shown.hosts)
        if at not in wired and {row.name for row in host.rows} == {"lo"}
    ][:3]
    down = sum(not wire.up for wire in shown.wires)
    if down:
        told.append(f"{down} of the joined with an end that is DOWN")
    return "; ".join(told)


def _outline(shown: Cabling) -> Outline:
    lines = []
    for host in shown.hosts:
        title = f"{host.name}  {host.look.text}" if host.name else host.look.text
        lines.append(Line(0, (title, *[""] * 4)))
        lines += [Line(row.depth + 1, (row.name, row.kind, row.state, row.addresses, row.far)) for row in host.rows]
        lines += [Line(1, (route, *[""] * 4)) for route in host.routes]
    return Outline(_HEADER, lines, _LIMITS)


class _Box(NamedTuple):
    x: float
    y: float
    wide: float
    high: float
    #: Whether it is on the left, with its ports on its right side.
    left: bool
    columns: tuple[float, ...]


def _draw(canvas: Canvas, shown: Cabling, top: float) -> float:
    sides = _sides(shown)
    sizes = [_size(host) for host in shown.hosts]
    widest = max((size[0] for size, left in zip(sizes, sides, strict=True) if left), default=0.0)
    lanes = _lanes(shown, _boxes(sizes, sides, top, 0, 0))
    channel = max(60.0, (max(lanes, default=0) + 1) * _LANE + 32)
    boxes = _boxes(sizes, sides, top, widest, widest + channel)
    for wire, lane in zip(shown.wires, lanes, strict=True):
        _draw_wire(canvas, shown, boxes, wire, widest + 18 + lane * _LANE)
    for host, box in zip(shown.hosts, boxes, strict=True):
        _draw_host(canvas, host, box)
    return max((box.y + box.high for box in boxes), default=top)


def _sides(shown: Cabling) -> list[bool]:
    """Return which hosts are on the left: neighbours are on different sides where that is possible."""
    near: dict[int, list[int]] = {}
    for wire in shown.wires:
        if wire.start.host != wire.end.host:
            near.setdefault(wire.start.host, []).append(wire.end.host)
            near.setdefault(wire.end.host, []).append(wire.start.host)
    sides: dict[int, bool] = {}
    for first in range(len(shown.hosts)):
        if first not in near:
            # On the side with fewer.
            sides[first] = sum(sides.values()) * 2 <= len(sides)
        queue = [first]
        while queue:
            at = queue.pop(0)
            sides.setdefault(at, True)
            for other in near.get(at, []):
                if other not in sides:
                    sides[other] = not sides[at]
                    queue.append(other)
    return [sides[at] for at in range(len(shown.hosts))]


def _size(host: Host) -> tuple[float, float, tuple[float, ...]]:
    rows = [_cells(row) for row in host.rows if row.link]
    columns = [max((measure(row[at]) for row in rows), default=0.0) for at in range(4)]
    columns[0] += 14 * max((row.depth for row in host.rows), default=0)
    columns = [room + 16 if room else 0.0 for room in columns]
    title = measure(_name(host), 14) + measure(host.look.text, 12) + 46
    words = [*host.routes, *(row.name for row in host.rows if not row.link)]
    wide = max(sum(columns), title, *(measure(shorten(clean(line), 60), 12) for line in words)) + 24
    return wide, _HEAD + _ROW * len(host.rows) + 18 * len(host.routes[:3]) + 14, tuple(columns)


def _cells(row: Row) -> tuple[str, ...]:
    # A line shows where the others lead to.
    last = row.addresses if row.wired or not row.far else " ".join(filter(None, [row.addresses, row.far]))
    texts = (row.name, row.kind, row.state, last)
    return tuple(shorten(clean(text), limit) for text, limit in zip(texts, _CELLS, strict=True))


def _boxes(
    sizes: list[tuple[float, float, tuple[float, ...]]], sides: list[bool], top: float, widest: float, right: float
) -> list[_Box]:
    # The ports on the right are half a row lower, so that no line runs into another's.
    lows = {True: top, False: top + _ROW / 2}
    boxes = []
    for (wide, high, columns), left in zip(sizes, sides, strict=True):
        boxes.append(_Box(widest - wide if left else right, lows[left], wide, high, left, columns))
        lows[left] += math.ceil((high + 16) / _ROW) * _ROW
    return boxes


def _lanes(shown: Cabling, boxes: list[_Box]) -> list[int]:
    """Give each wire a lane between the columns, in an order in which few of them cross."""
    heights = [[_port_y(shown, boxes, port.host, port.link) for port in wire[:2]] for wire in shown.wires]

    def order(at: int) -> tuple[int, float]:
        start, end = shown.wires[at][:2]
        ends = dict(zip((boxes[start.host].left, boxes[end.host].left), heights[at], strict=True))
        if len(ends) == 1:
            return (0 if True in ends else 3), abs(heights[at][0] - heights[at][1])
        return (1, ends[True]) if ends[True] >= ends[False] else (2, -ends[True])

    busy: list[list[tuple[float, float]]] = []
    lanes = [0] * len(heights)
    for at in sorted(range(len(heights)), key=order):
        low, high = sorted(heights[at])
        free = (lane for lane, taken in enumerate(busy) if all(high + 4 < a or b + 4 < low for a, b in taken))
        lanes[at] = next(free, len(busy))
        if lanes[at] == len(busy):
            busy.append([])
        busy[lanes[at]].append((low, high))
    return lanes


def _port_y(shown: Cabling, boxes: list[_Box], host: int, link: int) -> float:
    return boxes[host].y + _HEAD + _ROW * shown.hosts[host].places[link] + 12


def _draw_wire(canvas: Canvas, shown: Cabling, boxes: list[_Box], wire: Wire, lane: float) -> None:
    points = []
    for port in wire[:2]:
        box = boxes[port.host]
        points.append((box.x + box.wide if box.left else box.x, _port_y(shown, boxes, port.host, port.link)))
    (x1, y1), (x2, y2) = points
    d = f"M{x1:g},{y1:g} H{lane:g} V{y2:g} H{x2:g}"
    names = [shown.hosts[port.host].rows[shown.hosts[port.host].places[port.link]].name for port in wire[:2]]
    with canvas.group(f"{names[0]} and {names[1]} are joined" if not wire.below else f"{names[0]} is on {names[1]}"):
        # White around it, so that crossing lines stay apart.
        canvas.path(d, stroke=PAPER, line=6)
        canvas.path(d, stroke=INK, line=1.2 if wire.below else 2.2, dash="" if wire.up else "5 4")
    canvas.reach(max(x1, x2, lane), max(y1, y2))


def _draw_host(canvas: Canvas, host: Host, box: _Box) -> None:
    look = host.look
    radius = 3 if look.host else 12
    canvas.rect(box.x, box.y, box.wide, box.high, stroke=look.stroke, dash=look.dash, radius=radius, line=1.6)
    used = canvas.text(box.x + 12, box.y + 22, host.name, size=14, bold=True, width=box.wide - 24) if host.name else -10
    canvas.chip(box.x + 22 + used, box.y + 8, look)
    y = box.y + _HEAD
    for row in host.rows:
        _draw_row(canvas, row, box, y)
        y += _ROW
    for route in host.routes[:3]:
        canvas.text(box.x + 12, y + 14, route, size=12, fill=FAINT, width=box.wide - 20)
        y += 18


def _draw_row(canvas: Canvas, row: Row, box: _Box, y: float) -> None:
    x = box.x + 12
    if row.link is None:
        canvas.text(x, y + 16, row.name, size=12, fill=FAINT, width=box.wide - 20)
        return
    if row.depth:
        canvas.path(f"M{x + 14 * row.depth - 9:g},{y:g} V{y + 12:g} H{x + 14 * row.depth - 2:g}", stroke=LINE)
    for at, (cell, room) in enumerate(zip(_cells(row), box.columns, strict=True)):
        indent = 14 * row.depth if at == 0 else 0
        if cell:
            ink = FAINT if at == 1 else INK
            canvas.text(x + indent, y + 16, cell, bold=at == 0, fill=ink, width=room - indent - 6)
        x += room
    if row.link.peer is not None:
        side = box.x + box.wide if box.left else box.x
        canvas.rect(side - 5, y + 7, 10, 10, fill=INK if row.link.up else PAPER, stroke=INK, radius=1, line=1.6)


def _mermaid(shown: Cabling) -> str:
    graph = ["flowchart LR"]
    for at, host in enumerate(shown.hosts):
        title = f"{host.name} {host.look.text}".strip()
        graph.append(f"  subgraph h{at}[{mermaid(title)}]")
        for row in host.rows:
            words = " ".join(filter(None, (row.name, row.kind, row.state, row.addresses)))
            graph.append(f"    h{at}p{row.link.index if row.link else 'x'}[{mermaid(words)}]")
        graph.append("  end")
    for wire in shown.wires:
        line = "---" if wire.up else "-.-"
        graph.append(f"  h{wire.start.host}p{wire.start.link} {line} h{wire.end.host}p{wire.end.link}")
    return "\n".join(graph)
