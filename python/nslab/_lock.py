"""A lock that an exception out of a signal handler does not leave locked."""

from __future__ import annotations

import _thread
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


class Lock(_thread.RLock):  # type: ignore[misc] # final in its stub only
    """A lock for ``with``, which nobody takes twice: a signal handler that tries to gets a `RuntimeError`.

    CPython 3.14 handles signals between the ``__enter__`` of another lock and the body, and what the handler raises
    leaves it locked (https://github.com/python/cpython/issues/148874). It handles none where a function in Python
    returns, and none before one in C, which ``__exit__`` is.
    """

    if TYPE_CHECKING:

        def _is_owned(self) -> bool: ...

    def __enter__(self) -> Self:  # type: ignore[override]
        if self._is_owned():
            raise RuntimeError("what a signal handler has interrupted cannot be used in it")
        try:
            self.acquire()
        except BaseException:
            if self._is_owned():
                self.release()
            raise
        return self


class Condition(threading.Condition):
    """A condition on such a lock. In `threading.Condition` both ends of ``with`` are functions in Python."""

    def __init__(self) -> None:
        self._held = Lock()
        super().__init__(self._held)

    # ``with`` looks both up before it calls the first.
    @property
    def __enter__(self) -> Any:
        return self._held.__enter__

    @property
    def __exit__(self) -> Any:
        return self._held.__exit__
