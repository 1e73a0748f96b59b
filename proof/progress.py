"""What a long run is doing, on standard error."""

from __future__ import annotations

import sys


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
