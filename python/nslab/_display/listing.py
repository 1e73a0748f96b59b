"""`listing`: every namespace of a machine, a row each, as lsns(8) prints them."""

from __future__ import annotations

from collections import Counter

from .._inspect.lsns import NamespaceInfo, NamespaceTable
from . import labels
from .palette import FAINT, look
from .picture import Picture
from .svg import Canvas
from .table import Cell, Table, namespace_cell

_HEADER = ["namespace", "processes", "lowest pid", "user", "command", "held by", "owner"]


def listing(table: NamespaceTable) -> Picture:
    """Draw a table of namespaces: who is in each, what keeps it alive, and whose it is."""
    drawn = Table(_HEADER, [_row(info) for info in table.namespaces], "lrrllll")
    summary = _summary(table)
    canvas = Canvas("Namespaces of this machine", summary)
    canvas.text(0, 14, canvas.title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    drawn.draw(canvas, 0, 52)
    return Picture(canvas.title, canvas.svg(), f"{drawn.text()}\n{summary}", table=drawn.html())


def _row(info: NamespaceInfo) -> list[str | Cell]:
    # What no process is in explains itself by what holds it.
    alive = info.nprocs > 0
    owner = namespace_cell(look(info.owner)) if info.owner else Cell("", faint=True)
    return [
        namespace_cell(look(info.namespace)),
        str(info.nprocs) if alive else Cell("none", faint=True),
        labels.pid(info.pid) if info.pid is not None else "",
        info.user or "",
        info.command or "".join(info.nsfs[:1]),
        ", ".join(info.held_by),
        owner,
    ]


def _summary(table: NamespaceTable) -> str:
    counts = Counter(info.type for info in table.namespaces)
    words = f"{len(table)} namespaces: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
    return f"{words}; {table.note}" if table.note else words
