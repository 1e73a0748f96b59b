"""The fresh Python that `nested` starts: calls one function of a test.

Importing pytest takes longer than most of these functions do, and in here its decorators have nothing to do. So it is
imported when a function uses something else of it.
"""

from __future__ import annotations

import os
import pickle
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class Ignored:
    """A decorator, or what makes one, that changes nothing."""

    def __getattr__(self, name: str) -> Ignored:
        return self

    def __call__(self, *args: Any, **options: Any) -> Any:
        return args[0] if args and callable(args[0]) else self


class LatePytest(ModuleType):
    """Stands for pytest until it is needed."""

    mark = fixture = Ignored()

    def __getattr__(self, name: str) -> Any:
        if sys.modules["pytest"] is self:
            del sys.modules["pytest"]
        return getattr(import_module("pytest"), name)


def main(pickled: str, fd: str | None = None) -> None:
    """Call the function; write what it returned or raised to ``fd``."""
    function, args = pickle.loads(bytes.fromhex(pickled))
    if "pytest" in getattr(getattr(function, "__code__", None), "co_names", ()):
        # Before it is called: it may use up what an import needs.
        del sys.modules["pytest"]
        import_module("pytest")
    if fd is None:
        function(*args)
        return
    # What the function starts must not hold the pipe open.
    os.set_inheritable(int(fd), False)
    try:
        outcome = True, function(*args)
    except Exception as error:
        outcome = False, error
    with os.fdopen(int(fd), "wb") as results:
        pickle.dump(outcome, results)


if __name__ == "__main__":
    sys.modules["pytest"] = LatePytest("pytest")
    # Where `proof` is.
    sys.path.append(os.path.dirname(sys.path[0]))
    main(*sys.argv[1:])
