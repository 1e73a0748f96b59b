"""`Table`: the same rows as text, as HTML and in a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .palette import CHANGED, CHANGED_INK, FAINT, INK, LINE, PAPER, SHADE, Look
from .svg import Canvas, measure
from .text import clean, escape, pad, shorten, width

ROW = 28.0
_GAP = 18.0


class Cell(NamedTuple):
    """What is in one cell; a plain text is a cell without more."""

    text: str
    #: Draw it as a namespace.
    look: Look | None = None
    #: Make it stand out; its text must say why.
    strong: bool = False
    #: Less important than the others.
    faint: bool = False


def namespace_cell(look: Look) -> Cell:
    """Return the cell that shows a namespace."""
    return Cell(look.text, look)


class Table:
    """Rows of cells under a header; ``align`` has an ``l``, ``r`` or ``c`` for each column.

    No column of the text and the drawing gets wider than ``limit`` cells: more is shortened in its middle.
    """

    def __init__(
        self, header: Sequence[str], rows: Sequence[Sequence[str | Cell]], align: str = "", limit: int = 48
    ) -> None:
        self.header = [Cell(clean(title)) for title in header]
        self.rows = [[_cell(item) for item in row] for row in rows]
        self.align = align.ljust(len(header), "l")
        self.limit = limit

    def text(self) -> str:
        """Return it in box-drawing characters."""
        lines = [[shorten(cell.text, self.limit) for cell in row] for row in (self.header, *self.rows)]
        wide = [max(map(width, column)) for column in zip(*lines, strict=True)]

        def rule(left: str, cross: str, right: str) -> str:
            return left + cross.join("─" * (cells + 2) for cells in wide) + right

        def row(texts: list[str]) -> str:
            filled = (pad(text, cells, align) for text, cells, align in zip(texts, wide, self.align, strict=True))
            return f"│ {' │ '.join(filled)} │"

        body = [row(texts) for texts in lines[1:]]
        return "\n".join([rule("┌", "┬", "┐"), row(lines[0]), rule("├", "┼", "┤"), *body, rule("└", "┴", "┘")])

    def html(self) -> str:
        """Return a ``<table>`` with inline styles only, legible on a page of any colour."""
        head = "".join(self._html_cell("th", cell, align) for cell, align in zip(self.header, self.align, strict=True))
        body = "".join(
            f"<tr>{''.join(self._html_cell('td', cell, a) for cell, a in zip(row, self.align, strict=True))}</tr>\n"
            for row in self.rows
        )
        style = f"border-collapse:collapse;font-family:monospace;background-color:{PAPER};color:{INK}"
        return f'<table style="{style}">\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'

    @staticmethod
    def _html_cell(tag: str, cell: Cell, align: str) -> str:
        side = {"l": "left", "r": "right", "c": "center"}[align]
        fill = cell.look.fill if cell.look else CHANGED if cell.strong else SHADE if tag == "th" else PAPER
        colour = CHANGED_INK if cell.strong else FAINT if cell.faint else INK
        style = f"text-align:{side};padding:3px 8px;border:1px solid {LINE};background-color:{fill};color:{colour}"
        text = f"<b>{escape(cell.text)}</b>" if cell.strong else escape(cell.text)
        return f'<{tag} style="{style}">{text}</{tag}>'

    def draw(self, canvas: Canvas, x: float, y: float) -> tuple[float, float]:
        """Draw it with its upper left corner there and return its width and height."""
        rows = [self.header, *self.rows]
        wide = [max(map(self._wide, column)) + _GAP for column in zip(*rows, strict=True)]
        for index, row in enumerate(rows):
            top = y + index * ROW
            if index == 0:
                canvas.rect(x, top, sum(wide), ROW, fill=SHADE, stroke="none", radius=2)
            elif row[0].text or row[0].look:
                # A row without a title belongs to the one above it.
                canvas.line(x, top, x + sum(wide), top, stroke="#c8c8c8")
            left = x
            for cell, cells, align in zip(row, wide, self.align, strict=True):
                self._draw_cell(canvas, left, top, cells, cell, align, index == 0)
                left += cells
        canvas.rect(x, y, sum(wide), ROW * len(rows), fill="none", radius=2)
        return sum(wide), ROW * len(rows)

    def _wide(self, cell: Cell) -> float:
        shown = shorten(cell.text, self.limit)
        return measure(shown, 12) + 16 if cell.look else measure(shown)

    def _draw_cell(self, canvas: Canvas, x: float, y: float, wide: float, cell: Cell, align: str, head: bool) -> None:
        if cell.look:
            canvas.chip(x + _GAP / 2, y + 4, cell.look, width=self._wide(cell))
            return
        if cell.strong:
            canvas.rect(x + 2, y + 3, wide - 4, ROW - 6, fill=CHANGED, stroke="none", radius=3)
        at, anchor = {"l": (x + _GAP / 2, "start"), "r": (x + wide - _GAP / 2, "end"), "c": (x + wide / 2, "middle")}[
            align
        ]
        fill = CHANGED_INK if cell.strong else FAINT if cell.faint else INK
        canvas.text(at, y + 18.5, cell.text, fill=fill, anchor=anchor, bold=head or cell.strong, width=wide - _GAP + 1)


def _cell(item: str | Cell) -> Cell:
    return item._replace(text=clean(item.text)) if isinstance(item, Cell) else Cell(clean(item))
