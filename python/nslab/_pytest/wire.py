"""What the child of a test tells pytest: pickles with their length in front, over a pipe.

Not JSON: a skip's reason is a tuple, and has to arrive as one.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("=I")


def pack(kind: str, content: Any) -> bytes:
    """Return one message; raise what `pickle` raises."""
    data = pickle.dumps((kind, content))
    return _LENGTH.pack(len(data)) + data


def send(fd: int, message: bytes) -> None:
    """Write one message."""
    view = memoryview(message)
    while view:
        view = view[os.write(fd, view) :]


class Inbox:
    """Takes messages apart; a last one that is not complete is dropped."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._data = bytearray()

    def read(self) -> Iterator[tuple[str, Any]]:
        """Yield what has arrived, and return at once when there is no more for now."""
        while True:
            try:
                chunk = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                chunk = b""
            if not chunk:
                break
            self._data += chunk
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            message = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            kind, content = pickle.loads(message)
            yield kind, content
