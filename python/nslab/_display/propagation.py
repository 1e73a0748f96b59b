"""`propagation`: peer groups and slaves across mount namespaces: what is mounted here appears there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._inspect.mounts import MountDiff, Mounts
from .crossing import Column, Crossing, Link, Row, crossing
from .palette import CHANGED, CHANGED_INK, FAINT, INK, LINE, PAPER, SHADE
from .picture import Picture
from .svg import Canvas, measure
from .text import several
from .verdict import Sentence, sentences
from .wording import ABOUT, NOTHING, WORDS, Face, as_mermaid, as_text, cut, face_of, label_of, rest, stays, wrapped

_WIDE = 236.0
_GAP = 176.0
_CARRIED = "#b34700"


def propagation(
    *mounts: Mounts, diff: MountDiff | Iterable[MountDiff] | None = None, names: Sequence[str] = ()
) -> Picture:
    """Draw which mounts of several mount namespaces are in one peer group, and so what crosses from one to the other.

    ``diff``, one or several of a namespace over time, marks what is new; what is new in several namespaces was mounted
    in the one where it has the lowest number, for the kernel makes the copies afterwards. ``names`` are what to call
    the namespaces, in their order. See mount_namespaces(7).
    """
    diffs = [] if diff is None else [diff] if isinstance(diff, MountDiff) else list(diff)
    shown = crossing(mounts, diffs, names)
    said = sentences(shown)
    title = "Mount propagation: " + (several([column.name for column in shown.columns]) or "no namespace")
    return Picture(title, _svg(title, shown, said), as_text(title, shown, said), mermaid=as_mermaid(shown, said))


def _svg(title: str, shown: Crossing, said: list[Sentence]) -> str:
    canvas = Canvas(title, " ".join(sentence.text for sentence in said))
    canvas.text(0, 14, title, size=16, bold=True)
    count = len(shown.columns)
    wide = max(count * _WIDE + (count - 1) * _GAP, 640)
    y = _draw_lines(canvas, [ABOUT], 36, wide)
    y = _draw_sentences(canvas, said, y - 4, wide)
    if shown.columns:
        heights = [_height(shown, row) for row in shown.rows]
        for at, column in enumerate(shown.columns):
            _draw_column(canvas, column, _left(at), y, 54 + sum(heights))
        top = y + 46
        for row, high in zip(shown.rows, heights, strict=True):
            _draw_row(canvas, shown, row, top)
            top += high
        _draw_lines(canvas, [WORDS, *rest(shown)], top + 30, wide)
    return canvas.svg()


def _left(at: int) -> float:
    return at * (_WIDE + _GAP)


def _draw_sentences(canvas: Canvas, said: list[Sentence], y: float, wide: float) -> float:
    for sentence in said:
        lines = list(wrapped(sentence.text, wide - 44))
        high = 18 * len(lines) + 8
        canvas.rect(0, y, wide, high, fill=CHANGED if sentence.strong else SHADE, stroke="none")
        ink = CHANGED_INK if sentence.strong else INK
        canvas.text(18, y + 17, sentence.mark, size=14, anchor="middle", bold=True, fill=ink)
        for index, line in enumerate(lines):
            canvas.text(36, y + 17 + 18 * index, line, bold=sentence.strong, fill=ink, width=wide - 40)
        y += high + 4
    return y + 10


def _draw_lines(canvas: Canvas, texts: Iterable[str], y: float, wide: float) -> float:
    for text in texts:
        for line in wrapped(text, wide, 12):
            canvas.text(0, y, line, size=12, fill=FAINT, width=wide + 1)
            y += 16
    return y


def _draw_column(canvas: Canvas, column: Column, x: float, y: float, high: float) -> None:
    look = column.look
    canvas.rect(x, y, _WIDE, high, stroke=look.stroke, dash=look.dash, radius=3 if look.host else 12, line=1.6)
    title = f"{column.name} and {column.more} more" if column.more else column.name
    canvas.text(x + 12, y + 20, title, size=14, bold=True, width=_WIDE - 24)
    canvas.chip(x + 12, y + 27, look, size=11)


def _height(shown: Crossing, row: Row) -> float:
    lanes = sum(abs(link.end - link.start) > 1 for link in row.links)
    return _box(row) + (18 if row.more else 0) + 30 * lanes + 14


def _box(row: Row) -> float:
    return 62.0 if row.new else 44.0


def _draw_row(canvas: Canvas, shown: Crossing, row: Row, y: float) -> None:
    y += 10
    for at in range(len(shown.columns)):
        if face := face_of(shown, row, at):
            with canvas.group(f"{face.target}: like it {', '.join(row.more)}" if row.more else face.target):
                _draw_face(canvas, face, _left(at) + 10, y, _box(row))
        elif stays(row):
            canvas.rect(_left(at) + 10, y, _WIDE - 20, _box(row), dash="3 4")
            canvas.text(_left(at) + 18, y + 35, NOTHING, size=12, fill=FAINT)
    lane = y + _box(row) + (18 if row.more else 0)
    for link in row.links:
        if abs(link.end - link.start) == 1:
            _draw_link(canvas, row, link, y + 22)
        else:
            _draw_lane(canvas, row, link, y + _box(row), lane + 14)
            lane += 30
    for at in range(len(shown.columns) - 1):
        if cut(row, at):
            middle = _left(at) + _WIDE + _GAP / 2
            canvas.line(middle - _GAP / 2 + 6, y + 22, middle - 14, y + 22, dash="2 4")
            canvas.line(middle + 14, y + 22, middle + _GAP / 2 - 6, y + 22, dash="2 4")
            canvas.text(middle, y + 27, "✕", size=14, anchor="middle")
            canvas.text(middle, y + 42, "not connected", size=11, anchor="middle", fill=FAINT)


def _draw_face(canvas: Canvas, face: Face, x: float, y: float, high: float) -> None:
    wide = _WIDE - 20
    new = bool(face.badge)
    canvas.rect(
        x, y, wide, high, fill=CHANGED if new else PAPER, stroke=_CARRIED if new else LINE, line=2 if new else 1
    )
    kind = measure(face.fstype, 11)
    kind = min(kind, 80)
    canvas.text(x + 8, y + 18, face.target, size=14, bold=True, width=wide - kind - 24)
    canvas.text(x + wide - 8, y + 18, face.fstype, size=11, fill=CHANGED_INK if new else FAINT, anchor="end", width=81)
    canvas.text(x + 8, y + 35, face.words, size=11, fill=CHANGED_INK if new else FAINT, width=wide - 14)
    if new:
        canvas.text(x + 8, y + 53, face.badge, size=12, bold=True, fill=CHANGED_INK, width=wide - 14)
    if face.more:
        canvas.text(x + 8, y + high + 14, face.more, size=11, fill=FAINT, width=wide - 20)


def _draw_link(canvas: Canvas, row: Row, link: Link, y: float) -> None:
    over, under, back, forth = label_of(row, link)
    ink = _CARRIED if row.new else INK
    ends = (_left(link.start) + _WIDE - 8, _left(link.end) + 8)
    if link.start > link.end:
        ends = (_left(link.start) + 8, _left(link.end) + _WIDE - 8)
    _draw_shaft(canvas, *ends, y, (back, forth), ink)
    middle = sum(ends) / 2
    canvas.text(middle, y - 8, over, size=12, anchor="middle", bold=True, fill=ink, width=_GAP - 10)
    canvas.text(middle, y + 17, under, size=11, anchor="middle", fill=ink if row.new else FAINT, width=_GAP - 10)


def _draw_shaft(canvas: Canvas, x1: float, x2: float, y: float, heads: tuple[bool, bool], ink: str) -> None:
    if heads[0] and heads[1]:
        canvas.arrow((x1 + x2) / 2, y, x1, y, stroke=ink, line=3, head=13)
        canvas.arrow((x1 + x2) / 2, y, x2, y, stroke=ink, line=3, head=13)
    elif heads[1]:
        canvas.arrow(x1, y, x2, y, stroke=ink, line=3, head=13)
    else:
        canvas.arrow(x2, y, x1, y, stroke=ink, line=3, head=13)


def _draw_lane(canvas: Canvas, row: Row, link: Link, y: float, lane: float) -> None:
    """Draw a link that passes under what is between its ends."""
    over, under, back, forth = label_of(row, link)
    ink = _CARRIED if row.new else INK
    from_x, to_x = (_left(at) + _WIDE - 17 for at in (link.start, link.end))
    canvas.line(from_x, lane, to_x, lane, stroke=ink, line=3)
    for x, head in ((from_x, back), (to_x, forth)):
        if head:
            canvas.arrow(x, lane, x, y + 2, stroke=ink, line=3, head=13)
        else:
            canvas.line(x, y + 2, x, lane, stroke=ink, line=3)
    first = min(link.start, link.end)
    label = f"{over} {under}" if row.origin is not None else f"{over}, {under}"
    canvas.text(_left(first) + _WIDE + _GAP / 2, lane + 14, label, size=11, anchor="middle", width=_GAP - 4)
