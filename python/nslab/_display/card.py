"""`card`: the eight types of namespace, the host beside its children."""

from __future__ import annotations

import functools

from .. import _core
from .._inspect.compare import Compared, Comparison
from .._inspect.ids import NamespaceId
from .labels import name
from .palette import FAINT, look
from .picture import Picture
from .svg import Canvas
from .table import Cell, Table, namespace_cell
from .text import several

# More columns than these cannot be read beside each other.
_COLUMNS = 6


def card(comparison: Comparison) -> Picture:
    """Draw which of the eight namespaces the processes share: what is different stands out.

    Processes that are in exactly the same namespaces share a column.
    """
    columns, left_out = _columns(comparison)
    # Beside many columns, and in a terminal, what differs matters more than what it means.
    table = _table(comparison, columns, meaning=len(columns) <= 2)
    plain = _table(comparison, columns, meaning=False)
    summary = _summary(comparison, left_out)
    canvas = Canvas("Namespaces: " + several([title for title, _ in columns]), summary)
    canvas.text(0, 14, canvas.title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    table.draw(canvas, 0, 52)
    return Picture(canvas.title, canvas.svg(), f"{summary}\n{plain.text()}", table=table.html())


def _columns(comparison: Comparison) -> tuple[list[tuple[str, int]], int]:
    """Return (title, index of one of them) for each group of processes in the same namespaces, the first by itself."""
    groups: dict[object, list[int]] = {}
    for index in range(len(comparison.names)):
        held = tuple(_at(row, index) for row in comparison.rows)
        groups.setdefault(held if index else "first", []).append(index)
    shown = [(several([name(comparison.names[at]) for at in group], 2), group[0]) for group in groups.values()]
    return shown[:_COLUMNS], len(shown[_COLUMNS:])


def _table(comparison: Comparison, columns: list[tuple[str, int]], meaning: bool) -> Table:
    header = ["", *(["isolates"] if meaning else []), *(title for title, _ in columns)]
    rows: list[list[str | Cell]] = []
    for row in comparison.rows:
        about = [Cell(_isolates().get(row.type, ""), faint=True)] if meaning else []
        rows.append([row.type, *about, *(namespace_cell(look(_at(row, index))) for _, index in columns)])
        if len(columns) > 1:
            rows[-1].append(_verdict(row, columns))
    return Table([*header, *(["compared"] if len(columns) > 1 else [])], rows)


def _verdict(row: Compared, columns: list[tuple[str, int]]) -> Cell:
    first, *others = (_at(row, index) for _, index in columns)
    if first is None or None in others:
        return Cell("? not known", faint=True)
    apart = sum(other != first for other in others)
    if not apart:
        return Cell("= same")
    return Cell("≠ different" if apart == len(others) else f"≠ {apart} of {len(others)}", strong=True)


def _summary(comparison: Comparison, left_out: int) -> str:
    different = comparison.different
    unknown = [row.type for row in comparison.rows if row.same is None]
    if len(comparison.names) < 2:
        words = "one process" if comparison.names else "no process"
    elif different:
        words = f"different: {', '.join(different)}"
    else:
        words = "nothing is known to be different" if unknown else "all the same"
    if unknown:
        words += f"; could not be looked at: {', '.join(unknown)}"
    return words + (f"; {left_out} more groups of processes are not shown" if left_out else "")


def _at(row: Compared, index: int) -> NamespaceId | None:
    return row.namespaces[index] if index < len(row.namespaces) else None


@functools.cache
def _isolates() -> dict[str, str]:
    return {row[0]: row[-1] for row in _core.table()}
