"""A small canvas: its size is that of what is drawn, its text fits, and nothing in it has an id that could clash."""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections.abc import Iterator

from .palette import INK, LINE, PAPER, Look
from .text import clean, escape, shorten

MARGIN = 16.0
# The advance of the common monospace fonts is 0.55 to 0.61 of their size.
_ADVANCE = 0.61
_FONT = "'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace"


def measure(text: str, size: float = 13) -> float:
    """Return the width of ``text`` in pixels, not less than a browser will need."""
    if text.isascii():
        return len(text) * _ADVANCE * size
    return sum(map(_advance, text)) * size


def _advance(char: str) -> float:
    if char.isascii():
        return _ADVANCE
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    # Symbols come from another font, where they are up to a square.
    symbol = unicodedata.category(char) in ("So", "Sm", "No")
    return 1.05 if symbol or unicodedata.east_asian_width(char) in "WF" else _ADVANCE


def fitting(text: str, width: float, size: float = 13) -> str:
    """Return ``text``, shortened in its middle to at most ``width`` pixels."""
    text = clean(text)
    limit = max(1, int(width / (_ADVANCE * size)))
    while measure(shown := shorten(text, limit), size) > width and limit > 1:
        limit -= 1
    return shown


class Canvas:
    """What is drawn, in pixels from the upper left; ``title`` and ``description`` are for who cannot see it."""

    def __init__(self, title: str, description: str = "") -> None:
        self.title, self.description = title, description
        self.right = self.bottom = 0.0
        self._parts: list[str] = []

    def reach(self, x: float, y: float) -> None:
        """Make the canvas hold the point."""
        self.right, self.bottom = max(self.right, x), max(self.bottom, y)

    def rect(
        self, x: float, y: float, width: float, height: float, *,
        fill: str = PAPER, stroke: str = LINE, dash: str = "", radius: float = 4, line: float = 1,
    ) -> None:  # fmt: skip
        """Draw a box."""
        self.reach(x + width, y + height)
        attributes = {"x": x, "y": y, "width": width, "height": height, "rx": radius, "fill": fill}
        self._add("rect", attributes | _stroke(stroke, dash, line))

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, stroke: str = LINE, dash: str = "", line: float = 1
    ) -> None:
        """Draw a straight line."""
        self.reach(max(x1, x2), max(y1, y2))
        self._add("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2} | _stroke(stroke, dash, line))

    def arrow(
        self, x1: float, y1: float, x2: float, y2: float, *,
        stroke: str = INK, dash: str = "", line: float = 1.4, head: float = 8,
    ) -> None:  # fmt: skip
        """Draw a straight line with a head at its second end."""
        angle = math.atan2(y2 - y1, x2 - x1)
        back = (x2 - head * math.cos(angle), y2 - head * math.sin(angle))
        self.line(x1, y1, *back, stroke=stroke, dash=dash, line=line)
        self.head(x2, y2, angle, fill=stroke, size=head)

    def head(self, x: float, y: float, angle: float, *, fill: str = INK, size: float = 8) -> None:
        """Draw the head of an arrow that arrives at the point in the direction ``angle``, in radians."""
        self.reach(x, y)
        sides = [(x - size * math.cos(angle + turn), y - size * math.sin(angle + turn)) for turn in (-0.42, 0.42)]
        points = " ".join(f"{_number(px)},{_number(py)}" for px, py in [(x, y), *sides])
        self._add("polygon", {"points": points, "fill": fill})

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        *,
        fill: str = PAPER,
        stroke: str = LINE,
        dash: str = "",
        line: float = 1,
    ) -> None:
        """Draw a circle around the point."""
        self.reach(x + radius, y + radius)
        self._add("circle", {"cx": x, "cy": y, "r": radius, "fill": fill} | _stroke(stroke, dash, line))

    def path(self, d: str, *, fill: str = "none", stroke: str = LINE, dash: str = "", line: float = 1) -> None:
        """Draw a path in SVG's words; call `reach` for its outermost points."""
        self._add("path", {"d": d, "fill": fill} | _stroke(stroke, dash, line))

    def text(
        self, x: float, y: float, text: object, *, size: float = 13, fill: str = INK, anchor: str = "start",
        bold: bool = False, italic: bool = False, width: float | None = None,
    ) -> float:  # fmt: skip
        """Write ``text`` with its baseline at ``y`` and return its width; with ``width``, shortened to that.

        ``anchor`` is ``"start"``, ``"middle"`` or ``"end"``.
        """
        whole = clean(text)
        shown = whole if width is None else fitting(whole, width, size)
        wide = measure(shown, size)
        self.reach(x + {"start": wide, "middle": wide / 2, "end": 0}[anchor], y + size * 0.3)
        attributes: dict[str, object] = {"x": x, "y": y, "font-size": size, "fill": fill}
        if anchor != "start":
            attributes["text-anchor"] = anchor
        if bold:
            attributes["font-weight"] = "bold"
        if italic:
            attributes["font-style"] = "italic"
        if "  " in shown or shown.startswith(" "):
            attributes["xml:space"] = "preserve"
        tip = "" if shown == whole else f"<title>{escape(whole)}</title>"
        self._add("text", attributes, tip + escape(shown))
        return wide

    def chip(self, x: float, y: float, look: Look, *, size: float = 12, width: float | None = None) -> float:
        """Draw a namespace as every picture does, 20 pixels high with ``y`` its upper edge; return its width.

        The caller's own has square corners, the others are round.
        """
        shown = clean(look.text) if width is None else fitting(look.text, width - 14, size)
        wide = measure(shown, size) + 14 if width is None else width
        radius = 1 if look.host or look.mark == "?" else 10
        self.rect(x, y, wide, 20, fill=look.fill, stroke=look.stroke, dash=look.dash, radius=radius, line=1.4)
        self.text(x + wide / 2, y + 14, look.text, size=size, anchor="middle", width=wide - 13)
        return wide

    @contextlib.contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Everything drawn inside belongs together, under a ``<title>`` that a browser shows on hovering."""
        self._parts.append(f"<g><title>{escape(title)}</title>")
        yield
        self._parts.append("</g>")

    def svg(self) -> str:
        """Return the picture, on an opaque light card, so that it can be read on a dark page as well."""
        wide, high = math.ceil(self.right + 2 * MARGIN), math.ceil(self.bottom + 2 * MARGIN)
        label = escape(self.title)
        about = f"<desc>{escape(self.description)}</desc>" if self.description else ""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        head += f'role="img" aria-label="{label}" font-family="{_FONT}"><title>{label}</title>{about}'
        card = f'<rect width="{wide}" height="{high}" rx="6" fill="{PAPER}"/>'
        body = "\n".join(self._parts)
        return f'{head}\n{card}\n<g transform="translate({MARGIN:g} {MARGIN:g})">\n{body}\n</g></svg>\n'

    def _add(self, tag: str, attributes: dict[str, object], content: str | None = None) -> None:
        pairs = " ".join(f'{key}="{_number(value)}"' for key, value in attributes.items())
        self._parts.append(f"<{tag} {pairs}/>" if content is None else f"<{tag} {pairs}>{content}</{tag}>")


def _stroke(stroke: str, dash: str, line: float) -> dict[str, object]:
    attributes: dict[str, object] = {"stroke": stroke, "stroke-width": line}
    return attributes | {"stroke-dasharray": dash} if dash else attributes


def _number(value: object) -> str:
    return f"{round(value, 1):g}" if isinstance(value, (int, float)) else escape(value)
