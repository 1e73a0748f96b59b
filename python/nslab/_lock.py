"""A lock that an exception out of a signal handler does not leave locked."""

from __future__ import annotations

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Lock(_thread.RLock):  # type: ignore[misc] # final in its stub only
    """A lock for ``with``, which nobody takes twice: a signal handler that tries to gets a `RuntimeError`.

    CPython 3.14 handles signals between the ``__enter__`` of another lock and the body, and what the handler raises
    leaves it locked (https://github.com/python/cpython/issues/148874). It handles none where a function in Python
    returns, and none before one in C, which ``__exit__`` is. Both are functions in Python in `threading.Condition`,
    so ``with`` takes the lock of a condition and not the condition.
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
