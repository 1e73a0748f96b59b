"""What the terminal can show: its width, and whether it has colours."""

from __future__ import annotations

import os
import shutil
import sys

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
