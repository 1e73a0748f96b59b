"""The output of what runs in the background: kept until somebody asks, so that it never lands under another cell."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .._lock import Condition
from .pump import Pump, Sink
from .screen import Screen

# In characters; then the writer waits until it is shown: nothing is lost, and no memory is filled.
LIMIT = 64 << 20


class Kept:
    """A thread that empties the pipes of a child, and what it has read."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        pump.redirect(self._sink)
        self._texts: deque[tuple[str, str]] = deque()
        self._size = 0
        self._changed = Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def _sink(self, name: str) -> Sink:
        def keep(text: str) -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._size < LIMIT or self._closed)
                self._texts.append((name, text))
                self._size += len(text)

        return keep

    def start(self, timeout: float | None, on_timeout: Callable[[], object]) -> None:
        """Empty the pipes from now on; ``on_timeout`` is called when the child has not ended in time."""

        def read() -> None:
            if not self._pump.run(timeout, None):
                on_timeout()
                self._pump.run(None, None)

        self._thread = threading.Thread(target=read, daemon=True, name="nslab output")
        self._thread.start()

    def show(self) -> None:
        """Write what has come since the last time to ``sys.stdout`` and ``sys.stderr``, in the order it came."""
        screen = Screen()
        while True:
            with self._changed:
                if not self._texts:
                    break
                name, text = self._texts.popleft()
                self._size -= len(text)
                self._changed.notify_all()
            screen.write(name, text)
        screen.flush()

    def join(self, timeout: float | None = None) -> None:
        """Wait until all who could write have ended."""
        if self._thread is not None:
            self._thread.join(timeout)

    def close(self) -> None:
        """Keep the rest, without limit, of writers who have been killed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.join(1.0)
