"""What stands below the cell: ``sys.stdout`` and ``sys.stderr``, in the order in which the text came."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TextIO

# Seconds. A notebook gets a message for each flush, and ZeroMQ drops messages when a thousand wait.
_PACE = 0.01
# For what comes at the same time: most cells need one flush.
_MOMENT = 0.003


class Screen:
    """Writes to both streams, whatever they are at the time, and flushes them.

    Unflushed, a notebook would send the two in another order than they came.
    """

    def __init__(self) -> None:
        self._unflushed: TextIO | None = None
        self._flushed = 0.0
        #: When to flush, on the clock of `time.monotonic`; None if there is nothing to.
        self.due: float | None = None

    def sink(self, name: str) -> Callable[[str], None]:
        """Return what writes to the stream ``"stdout"`` or ``"stderr"``."""
        return partial(self.write, name)

    def write(self, name: str, text: str) -> None:
        """Write to one of them; the other is flushed before."""
        stream: TextIO = getattr(sys, name)
        if self._unflushed is not stream:
            self.flush()
            self.due = max(self._flushed + _PACE, time.monotonic() + _MOMENT)
        self._unflushed = stream
        stream.write(text)

    def flush_if_due(self) -> None:
        """Flush what has waited long enough."""
        if self.due is not None and time.monotonic() >= self.due:
            self.flush()

    def flush(self) -> None:
        """Flush what was written."""
        if self._unflushed is not None:
            stream, self._unflushed, self.due = self._unflushed, None, None
            stream.flush()
            self._flushed = time.monotonic()
