"""What the terminal can show: its width, and whether it has colours."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Self

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


def width() -> int:
    """Return the columns to write in; where there is no terminal, enough for two sides."""
    return shutil.get_terminal_size((100, 24)).columns


def paint(text: str, *styles: str) -> str:
    """Return ``text`` in these styles; only on a terminal, and not against NO_COLOR (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or sys.stdout is None or not sys.stdout.isatty():
        return text
    return "".join(f"\033[{_CODES[style]}m" for style in styles) + text + "\033[0m"


class Progress:
    """A line on stderr while something takes long; nothing where no terminal is there to see it."""

    def __init__(self, what: str, after: float = 0.3) -> None:
        self._what = what
        # In seconds: when somebody begins to wonder.
        self._after = after
        self._visible = sys.stderr is not None and sys.stderr.isatty()
        self._began = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __call__(self, done: int, whole: int) -> None:
        """Say how far it is."""
        if self._visible and time.monotonic() - self._began > self._after:
            self._drawn = True
            print(f"\r\033[K{done} of {whole} {self._what}", end="", file=sys.stderr, flush=True)
