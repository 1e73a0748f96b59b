"""`Outline`: a tree as lines with columns, in a drawing and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .palette import CHANGED, CHANGED_INK, FAINT, INK, LINE, SHADE, Look
from .svg import Canvas, measure
from .text import clean, pad, shorten, width

_ROW = 24.0
_INDENT = 18.0
# Deeper than this, the indentation stays the same.
_DEEPEST = 12
# Left of the tree, for the marks.
_MARGIN = 24.0
_GAP = 18.0


class Line(NamedTuple):
    """A line; a parent comes before its children."""

    depth: int
    #: By column. With the first alone, it may be as long as the line.
    cells: tuple[str, ...]
    #: ``"+"``, ``"−"``, …: why it is strong.
    mark: str = ""
    strong: bool = False
    faint: bool = False
    #: Draw the first cell as a namespace.
    look: Look | None = None

    @property
    def alone(self) -> bool:
        """Whether only its first cell says something."""
        return not any(self.cells[1:]) and self.look is None


class Outline:
    """Lines under a header; no column gets wider than its limit in cells."""

    def __init__(self, header: Sequence[str], lines: Sequence[Line], limits: Sequence[int]) -> None:
        self.header = tuple(header)
        self.lines = [line._replace(cells=tuple(map(clean, line.cells))) for line in lines]
        self.limits = limits

    def text(self) -> str:
        """Return it for a terminal."""
        head = Line(0, self.header)
        rows = [
            [branch + shorten(line.cells[0], sum(self.limits) if line.alone else self.limits[0]), *self._short(line)]
            for line, branch in zip([head, *self.lines], ["", *_branches(self.lines)], strict=True)
        ]
        full = [row for row, line in zip(rows, [head, *self.lines], strict=True) if not line.alone]
        wide = [max(map(width, column)) for column in zip(*full, strict=True)]
        told = []
        for line, row in zip([head, *self.lines], rows, strict=True):
            cells = row[:1] if line.alone else [pad(cell, room) for cell, room in zip(row, wide, strict=True)]
            told.append(f"{line.mark or ' '} {'  '.join(cells)}".rstrip())
        return "\n".join(told)

    def _short(self, line: Line) -> list[str]:
        return [shorten(cell, limit) for cell, limit in zip(line.cells[1:], self.limits[1:], strict=True)]

    def draw(self, canvas: Canvas, x: float, y: float) -> tuple[float, float]:
        """Draw it with its upper left corner there and return its width and height."""
        wide = self._widths()
        whole = sum(wide) + _MARGIN + 4
        canvas.rect(x, y, whole, _ROW, fill=SHADE, stroke="none", radius=2)
        self._draw_line(canvas, Line(0, self.header), wide, x + _MARGIN, y)
        #: By depth, the lowest point from which a branch may start.
        lowest: dict[int, float] = {}
        for index, line in enumerate(self.lines, 1):
            top, left = y + index * _ROW, x + _MARGIN + _left(line)
            if line.strong:
                canvas.rect(x, top + 1, whole, _ROW - 2, fill=CHANGED, stroke="none", radius=3)
            if line.mark:
                fill = CHANGED_INK if line.strong else INK
                canvas.text(x + 10, top + 16.5, line.mark, anchor="middle", bold=True, fill=fill)
            if line.depth:
                canvas.line(left - 13, lowest.get(line.depth - 1, top), left - 13, top + 12, stroke=LINE)
                canvas.line(left - 13, top + 12, left - 4, top + 12, stroke=LINE)
                lowest[line.depth - 1] = top + 12
            lowest[line.depth] = top + (23 if line.look else 20)
            self._draw_line(canvas, line, wide, x + _MARGIN, top)
        return whole, _ROW * (len(self.lines) + 1)

    def _widths(self) -> list[float]:
        wide = [measure(title) for title in self.header]
        for line in self.lines:
            if line.alone:
                continue
            cells = [shorten(cell, limit) for cell, limit in zip(line.cells, self.limits, strict=True)]
            first = measure(cells[0], 12) + 14 if line.look else measure(cells[0])
            needed = [first + _left(line), *map(measure, cells[1:])]
            wide = [max(pair) for pair in zip(wide, needed, strict=True)]
        return [room + _GAP for room in wide]

    def _draw_line(self, canvas: Canvas, line: Line, wide: list[float], x: float, y: float) -> None:
        ink = CHANGED_INK if line.strong else FAINT if line.faint else INK
        left = _left(line)
        if line.alone:
            canvas.text(
                x + left, y + 16.5, line.cells[0], fill=ink, width=max(sum(wide) - left, measure(line.cells[0]))
            )
            return
        for at, (cell, room) in enumerate(zip(line.cells, wide, strict=True)):
            if at == 0 and line.look:
                canvas.chip(x + left, y + 2, line.look, width=min(measure(cell, 12) + 14, room - left - 4))
            elif cell:
                indent = 0 if at else left
                canvas.text(x + indent, y + 16.5, cell, fill=ink, bold=line.strong, width=room - indent - _GAP + 2)
            x += room


def _left(line: Line) -> float:
    return min(line.depth, _DEEPEST) * _INDENT


def _branches(lines: Sequence[Line]) -> list[str]:
    """Return the box-drawing characters before each line."""
    branches = []
    #: The depths at which something follows, below the same parent.
    open_: set[int] = set()
    for line in reversed(lines):
        depth = line.depth
        open_ = {one for one in open_ if one <= depth}
        first = max(1, depth - _DEEPEST)
        stems = "".join("│  " if one in open_ else "   " for one in range(first, depth))
        branches.append(stems + ("├─ " if depth in open_ else "└─ ") if depth else "")
        open_.add(depth)
    return branches[::-1]
