"""What stands below the cell: ``sys.stdout`` and ``sys.stderr``, in the order in which the text came."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TextIO

# Seconds. A notebook gets a message for each flush, and ZeroMQ drops messages when a thousand wait.
_PACE = 0.01


class Screen:
    """Writes to both streams, whatever they are at the time, and flushes them.

    Unflushed, a notebook would send the two in another order than they came.
    """

    def __init__(self) -> None:
        self._unflushed: TextIO | None = None
        self._flushed = 0.0

    def sink(self, name: str) -> Callable[[str], None]:
        """Return what writes to the stream ``"stdout"`` or ``"stderr"``."""
        return partial(self.write, name)

    def write(self, name: str, text: str) -> None:
        """Write to one of them; the other is flushed before."""
        stream: TextIO = getattr(sys, name)
        if self._unflushed is not stream:
            self.flush()
        self._unflushed = stream
        stream.write(text)

    @property
    def due(self) -> float | None:
        """When to flush, on the clock of `time.monotonic`; None if there is nothing to."""
        return None if self._unflushed is None else self._flushed + _PACE

    def flush(self) -> None:
        """Flush what was written."""
        if self._unflushed is not None:
            stream, self._unflushed = self._unflushed, None
            stream.flush()
            self._flushed = time.monotonic()
