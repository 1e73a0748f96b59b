"""One look for each namespace: its label, mark, colours and line are the same in every picture of a session."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from .._inspect.ids import NamespaceId, current
from .labels import circled, ordinal
from .options import options

INK = "#1a1a1a"
FAINT = "#595959"
LINE = "#767676"
PAPER = "#ffffff"
SHADE = "#f2f2f2"
#: What differs, was added, leaks; and what is gone.
CHANGED, CHANGED_INK = "#fff1c9", "#7a4a00"

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; neighbours differ most.
_OKABE_ITO = ["e69f00", "56b4e9", "009e73", "cc79a7", "0072b2", "d55e00", "f0e442"]
_DASHES = ["", "6 3", "2 2"]


class Look(NamedTuple):
    """How a namespace is shown."""

    #: ``"uts:[4026531838]"``; in stable mode ``"uts:host"``, ``"uts:new①"``.
    label: str
    #: ⌂ for the caller's own, ①, ② for the others, ? for one that may not be looked at.
    mark: str
    #: Light enough for text in `INK`.
    fill: str
    #: Dark enough for a line on white.
    stroke: str
    #: For ``stroke-dasharray``; empty for a solid line.
    dash: str

    @property
    def text(self) -> str:
        """The mark and the label, so that it is never colour alone."""
        return self.label if options.stable or self.mark == "?" else f"{self.mark} {self.label}"

    @property
    def host(self) -> bool:
        """Whether it is the caller's own."""
        return self.mark == "⌂"


def look(namespace: NamespaceId | None, missing: str = "not readable") -> Look:
    """Return how to show ``namespace``; None is one that could not be looked at."""
    if namespace is None:
        return Look(missing, "?", PAPER, LINE, "1 3")
    if _own().get(namespace.type) == namespace:
        return Look(_label(namespace, "host"), "⌂", "#e8e8e8", "#4d4d4d", "")
    number = ordinal(f"ns:{namespace.type}", namespace)
    fill, stroke = _colours()[(number - 1) % len(_OKABE_ITO)]
    dash = _DASHES[(number - 1) // len(_OKABE_ITO) % len(_DASHES)]
    return Look(_label(namespace, "new" + circled(number)), circled(number), fill, stroke, dash)


def _label(namespace: NamespaceId, stable: str) -> str:
    return f"{namespace.type}:{stable}" if options.stable else str(namespace)


@functools.cache
def _own() -> Mapping[str, NamespaceId]:
    # The only look at the kernel here, once in a session: pictures must agree on who is the host.
    try:
        return current()
    except OSError:
        return {}


@functools.cache
def _colours() -> list[tuple[str, str]]:
    return [(_mixed(colour, 255, 0.68), _mixed(colour, 0, 0.38)) for colour in _OKABE_ITO]


def _mixed(colour: str, other: int, share: float) -> str:
    parts = (int(colour[at : at + 2], 16) for at in (0, 2, 4))
    return "#" + "".join(f"{round(part * (1 - share) + other * share):02x}" for part in parts)


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (``"#rrggbb"``) as WCAG 2 defines it: 1 to 21.

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
