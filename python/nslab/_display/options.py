"""`nslab.options`: how pictures are drawn."""

from __future__ import annotations

import os


class Options:
    """How pictures are drawn, for the whole session: ``nslab.options.stable = True``.

    An option that does not exist is an `AttributeError`, a value that is no bool a `TypeError`.

    >>> nslab.options.stabel = True
    Traceback (most recent call last):
    AttributeError: 'Options' object has no attribute 'stabel'...
    """

    __slots__ = ("_stable",)

    def __init__(self) -> None:
        self._stable = os.environ.get("NSLAB_STABLE", "") not in ("", "0")

    @property
    def stable(self) -> bool:
        """Whether pids, inodes and times give way to labels that are the same in every run; ``NSLAB_STABLE=1``."""
        return self._stable

    @stable.setter
    def stable(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"stable must be a bool, not {type(value).__name__}")
        self._stable = value

    def __repr__(self) -> str:
        return f"<nslab.options: stable={self.stable}>"


options = Options()
