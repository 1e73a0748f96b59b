"""Text that anyone may have written, made fit to be shown: visible, measured, shortened."""

from __future__ import annotations

import functools
import html
import unicodedata

_WITHOUT_WIDTH = {"Mn", "Me"}


def clean(value: object) -> str:
    r"""Return ``value`` as text in which everything is visible: what is not, as Python would escape it.

    A hostname, a path, a command can hold any byte: terminal escapes, half of a character, a change of direction.

    >>> clean("a\x1b[31m\udcff")
    'a\\x1b[31m\\xff'
    """
    text = str(value)
    return text if text.isprintable() else "".join(map(_visible, text))


@functools.lru_cache(4096)
def _visible(char: str) -> str:
    if char.isprintable():
        return char
    # A byte that is no UTF-8, as os.fsdecode() brings it.
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else repr(char)[1:-1]


@functools.lru_cache(4096)
def _cells(char: str) -> int:
    if unicodedata.category(char) in _WITHOUT_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """Return how many cells of a terminal ``text`` takes.

    >>> width("ab"), width("東京")
    (2, 4)
    """
    return len(text) if text.isascii() else sum(map(_cells, text))


def shorten(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` cells, with … in its middle where something had to go.

    >>> shorten("/var/lib/containers", 9)
    '/var…ners'
    """
    if width(text) <= limit:
        return text
    if limit < 3:
        return "…"[:limit]
    tail = _first(text[::-1], (limit - 1) // 2)[::-1]
    return f"{_first(text, limit - 1 - width(tail))}…{tail}"


def _first(text: str, limit: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _cells(char)
        if used > limit:
            return text[:index]
    return text


def pad(text: str, cells: int, align: str = "l") -> str:
    """Fill ``text`` with blanks to ``cells``: ``align`` is ``"l"``, ``"r"`` or ``"c"``."""
    free = max(0, cells - width(text))
    before = {"l": 0, "r": free, "c": free // 2}[align]
    return " " * before + text + " " * (free - before)


def escape(value: object) -> str:
    """Return ``value`` fit for XML and HTML, in text as in an attribute."""
    return html.escape(clean(value), quote=True)


def mermaid(value: object) -> str:
    """Return ``value`` as a quoted label of a Mermaid graph, which must not see its own syntax in it.

    >>> mermaid('<a> "b"')
    '"#60;a#62; #34;b#34;"'
    """
    harmless = (char if char.isalnum() or char in " .,:-_/()[]=+…" else f"#{ord(char)};" for char in clean(value))
    return '"' + "".join(harmless) + '"'


def several(names: list[str], limit: int = 3) -> str:
    """Return names in a sentence, the many as a number: ``"a, b and 37 more"``.

    >>> several(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(shorten(clean(name), 40) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
