"""`clocks`: what a time namespace adds to the clocks, and that the wall clock stays."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .._inspect.clocks import Clocks
from .labels import name
from .options import options
from .palette import CHANGED, CHANGED_INK, FAINT, INK, SHADE, Look, look
from .picture import Picture
from .svg import Canvas, measure
from .table import Cell, Table
from .text import several, shorten

_KINDS = (
    ("monotonic", "time since the start of the machine, without sleep"),
    ("boottime", "time since the start of the machine, with sleep"),
)
_REALTIME = "the wall clock: no namespace shifts it"
_BAR = 320.0
_ROWS = 12
_TOLD = 3
_SECOND = 1_000_000_000
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


class _Row(NamedTuple):
    name: str
    look: Look
    clocks: Clocks
    #: How many others have the same offsets.
    more: int


def clocks(*shown: Clocks) -> Picture:
    """Draw the clocks of processes as bars, with what their time namespace adds or takes away.

    The first is what the others are held against. See time_namespaces(7).
    """
    rows, left = _rows(shown)
    summary = _summary(rows)
    title = "Clocks of " + (several([row.name for row in rows]) or "no process")
    rest = f"… and {left} more with other offsets" if left else ""
    canvas = Canvas(title, summary)
    canvas.text(0, 14, title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    y = 54.0
    if rows:
        for kind, meaning in _KINDS:
            y = _draw(canvas, kind, meaning, rows, y)
        y = _draw_realtime(canvas, rows, y)
    canvas.text(0, y + 14, rest, size=12, fill=FAINT)
    table = _table(rows)
    return Picture(title, canvas.svg(), "\n".join(filter(None, [summary, table.text(), rest])), table=table.html())


def _rows(shown: Sequence[Clocks]) -> tuple[list[_Row], int]:
    """Let one row stand for all with the same offsets in other namespaces; the first stands for itself."""
    kinds: dict[object, list[Clocks]] = {}
    for at, one in enumerate(shown):
        kind = (one.monotonic_offset, one.boottime_offset, len(shown) <= _ROWS and at, at == 0)
        kinds.setdefault(kind, []).append(one)
    rows = []
    for alike in kinds.values():
        seen = look(alike[0].namespace)
        called = "host" if seen.host else name(f"pid {alike[0].pid}")
        rows.append(_Row(called + (f" and {len(alike) - 1} more" if alike[1:] else ""), seen, alike[0], len(alike) - 1))
    return rows[:_ROWS], sum(row.more + 1 for row in rows[_ROWS:])


def _summary(rows: list[_Row]) -> str:
    if not rows:
        return "no process was given"
    told = []
    for row in rows[1:]:
        shifts = {kind: _shift(row, rows[0], kind) for kind, _ in _KINDS}
        # The usual case: both are shifted by as much.
        if len(set(shifts.values())) == 1:
            shifts = {"monotonic and boottime": shifts["monotonic"]}
        for kind, shift in shifts.items():
            if shift:
                told.append(f"{kind} {span(abs(shift))} {'ahead' if shift > 0 else 'behind'}, in {row.name}")
    more = f"; {len(told) - _TOLD} more" if told[_TOLD:] else ""
    return ("; ".join(told[:_TOLD]) or "no clock is shifted against another") + more + "; realtime is the same for all"


def _shift(row: _Row, first: _Row, kind: str) -> int:
    return _offset(row.clocks, kind) - _offset(first.clocks, kind)


def _offset(one: Clocks, kind: str) -> int:
    return one.monotonic_offset if kind == "monotonic" else one.boottime_offset


def _reading(one: Clocks, kind: str) -> int:
    return one.monotonic if kind == "monotonic" else one.boottime


def span(nanoseconds: int) -> str:
    """Return a time span in its two greatest units.

    >>> span(90_061_000_000_000), span(1_500_000_000)
    ('1 d 1 h', '1.5 s')
    """
    if nanoseconds < 0:
        return f"−{span(-nanoseconds)}"
    whole = nanoseconds // _SECOND
    if whole < 60:
        return f"{nanoseconds / _SECOND:.3g} s"
    parts = []
    for unit, size in _UNITS:
        count, whole = divmod(whole, size)
        parts.append((count, unit))
    first = next(at for at, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def _read(nanoseconds: int) -> str:
    return "·" if options.stable else span(nanoseconds)


def _signed(offset: int) -> str:
    return "0" if offset == 0 else f"{'+' if offset > 0 else '−'} {span(abs(offset))}"


def _date(nanoseconds: int) -> str:
    if options.stable:
        return "·"
    try:
        return datetime.datetime.fromtimestamp(nanoseconds // _SECOND, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{nanoseconds} ns"


def _table(rows: list[_Row]) -> Table:
    cells: list[list[str | Cell]] = []
    for kind, _ in _KINDS:
        for row in rows:
            shift = _shift(row, rows[0], kind)
            verdict = Cell("= same") if not shift else Cell(f"≠ {_signed(shift)}", strong=True)
            offset = _signed(_offset(row.clocks, kind))
            reading = _read(_reading(row.clocks, kind))
            cells.append([kind, row.name, Cell(row.look.text, row.look), reading, offset, verdict])
    cells += [
        ["realtime", row.name, Cell(row.look.text, row.look), _date(row.clocks.realtime), "", "= same"] for row in rows
    ]
    return Table(["clock", "process", "time namespace", "reads", "offset", "compared"], cells, "lllrrl")


def _left(rows: list[_Row]) -> tuple[float, float]:
    """Return where the chips begin and where the bars do."""
    names = max(measure(shorten(row.name, 30)) for row in rows) + 14
    return names, names + max(measure(row.look.text, 12) for row in rows) + 32


def _draw(canvas: Canvas, kind: str, meaning: str, rows: list[_Row], y: float) -> float:
    used = canvas.text(0, y + 14, kind, bold=True)
    canvas.text(used + 16, y + 14, meaning, size=12, fill=FAINT)
    y += 24
    for row, (base, end) in zip(rows, _bars(rows, kind), strict=True):
        left = _name(canvas, row, rows, y)
        if end >= base:
            canvas.rect(left, y + 2, base, 18, fill=SHADE)
        else:
            canvas.rect(left, y + 2, base, 18, dash="3 3")
            canvas.rect(left, y + 2, end, 18, fill=SHADE)
        shift = _offset(row.clocks, kind)
        if end > base:
            canvas.rect(left + base, y + 2, end - base, 18, fill=row.look.fill, stroke=row.look.stroke, line=1.4)
        told = _read(_reading(row.clocks, kind))
        at = left + max(base, end) + 10
        at += canvas.text(at, y + 16, told) + 12
        if shift:
            wide = measure(f"{_signed(shift)} offset") + 12
            canvas.rect(at - 6, y + 1, wide, 20, fill=CHANGED, stroke="none", radius=3)
            canvas.text(at, y + 16, f"{_signed(shift)} offset", bold=True, fill=CHANGED_INK)
        y += 26
    return y + 14


def _bars(rows: list[_Row], kind: str) -> Iterator[tuple[float, float]]:
    """Return how long a bar is without and with the offset, of a fixed length where the time may not show."""
    values = [(_reading(row.clocks, kind), _offset(row.clocks, kind)) for row in rows]
    if options.stable:
        values = [(_SECOND + (offset > 0) * _SECOND - (offset < 0) * _SECOND // 2,
                   (offset > 0) * _SECOND - (offset < 0) * _SECOND // 2) for _, offset in values]  # fmt: skip
    longest = max([1, *(max(reading, reading - offset) for reading, offset in values)])
    for reading, offset in values:
        base, end = (max(3.0, _BAR * value / longest) for value in (reading - offset, reading))
        yield base, max(end, base + 4) if offset > 0 else end


def _draw_realtime(canvas: Canvas, rows: list[_Row], y: float) -> float:
    used = canvas.text(0, y + 14, "realtime", bold=True)
    canvas.text(used + 16, y + 14, _REALTIME, size=12, fill=FAINT)
    y += 24
    for row in rows:
        left = _name(canvas, row, rows, y)
        canvas.text(left, y + 16, f"= {_date(row.clocks.realtime)}")
        y += 26
    return y


def _name(canvas: Canvas, row: _Row, rows: list[_Row], y: float) -> float:
    chips, bars = _left(rows)
    canvas.text(0, y + 16, row.name, fill=INK, width=chips - 12)
    canvas.chip(chips, y + 1, row.look)
    return bars
