"""Id maps as ribbons between what an id is inside and what it is outside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .._inspect.users import IdRange
from .palette import FAINT, LINE, SHADE, Look
from .svg import Canvas, measure

_BOX = 150.0
_BETWEEN = 110.0
_APART = 6.0


def draw_ribbons(
    canvas: Canvas, x: float, y: float, kind: str, ranges: Sequence[IdRange], look: Look
) -> tuple[float, float]:
    """Draw the ranges with the upper left corner there and return the width and height."""
    box = max(
        [_BOX, *(measure(span(first, one.count), 12) + 16 for one in ranges for first in (one.inside, one.outside))]
    )
    right = x + box + _BETWEEN
    canvas.text(x, y + 12, f"{kind} inside", size=12, fill=FAINT, width=box + 40)
    canvas.text(right, y + 12, "outside", size=12, fill=FAINT)
    if not ranges:
        canvas.rect(x, y + 20, box, 24, dash="3 4")
        canvas.text(x + 8, y + 36, "no map", size=12, fill=FAINT)
    left_at = _placed(ranges, lambda one: one.inside)
    right_at = _placed(ranges, lambda one: one.outside)
    for at, one in enumerate(ranges):
        high = _high(one)
        from_y, to_y = y + 20 + left_at[at], y + 20 + right_at[at]
        left, bend = x + box, x + box + _BETWEEN / 2
        upper = f"M{left:g},{from_y:g} C{bend:g},{from_y:g} {bend:g},{to_y:g} {right:g},{to_y:g}"
        lower = f"L{right:g},{to_y + high:g} C{bend:g},{to_y + high:g}"
        back = f"{bend:g},{from_y + high:g} {left:g},{from_y + high:g} Z"
        with canvas.group(f"{span(one.inside, one.count)} inside is {span(one.outside, one.count)} outside"):
            canvas.path(f"{upper} {lower} {back}", fill=look.fill, stroke=look.stroke, dash=look.dash)
            _draw_end(canvas, x, from_y, box, high, one.inside, one.count, look.fill, look.stroke)
            _draw_end(canvas, right, to_y, box, high, one.outside, one.count, SHADE, LINE)
    low = max((left_at[at] + _high(one) for at, one in enumerate(ranges)), default=24.0)
    return 2 * box + _BETWEEN, low + 24


def span(first: int, count: int) -> str:
    """Return what a range of ids is called: ``"0 … 65535"``, ``"0 (root)"``."""
    if count == 1:
        return f"{first}{' (root)' if first == 0 else ''}"
    return f"{first}{' (root)' if first == 0 else ''} … {first + count - 1}"


def _high(one: IdRange) -> float:
    # Ranges have between one and four thousand million ids.
    return 24 + 1.6 * math.log2(max(1, one.count))


def _placed(ranges: Sequence[IdRange], first: Callable[[IdRange], int]) -> dict[int, float]:
    """Return where each range begins if they stand in the order of their ids."""
    placed: dict[int, float] = {}
    y = 0.0
    for at in sorted(range(len(ranges)), key=lambda at: first(ranges[at])):
        placed[at] = y
        y += _high(ranges[at]) + _APART
    return placed


def _draw_end(
    canvas: Canvas, x: float, y: float, wide: float, high: float, first: int, count: int, fill: str, stroke: str
) -> None:
    canvas.rect(x, y, wide, high, fill=fill, stroke=stroke, line=1.4)
    canvas.text(x + wide / 2, y + high / 2 + 4.5, span(first, count), size=12, anchor="middle", bold=first == 0)
