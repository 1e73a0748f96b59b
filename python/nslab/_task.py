"""What is sent to another interpreter: a function and its arguments, so that it can load them, and what comes back."""

from __future__ import annotations

import functools
import marshal
import os
import pickle
import sys
from pathlib import Path

from . import _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from ._worker import Part

    Message = list[Part]

_ADVICE = "with cloudpickle (pip install cloudpickle), functions of notebooks and lambdas are sent too"


class RemoteTraceback(Exception):  # noqa: N818 # it is not an error, but where one comes from
    """The cause of an exception that comes from another interpreter: the traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def name_of(function: Callable[..., object]) -> str:
    """Return what to call it in messages."""
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__qualname__", None) or repr(inner))


def task(function: Callable[..., object], args: Any, keywords: dict[str, Any], *, chunk: bool = False) -> Message:
    """Return the message that has a function called; with ``chunk`` for each of the argument lists ``args``.

    Raises `TypeError` for what cannot be called and `pickle.PicklingError` for what another interpreter cannot load.
    """
    if not callable(function):
        raise TypeError(f"a function is needed, not {type(function).__qualname__}")
    name, main_module, error = name_of(function), {}, None
    value = function, args, keywords
    try:
        parts = _worker.pickled(value)
    except Exception as reason:
        parts, error = [], reason
    # A fresh interpreter has another `__main__`. The name may be mere text, too: then nothing is lost.
    if error or b"__main__" in bytes(parts[0]):
        cloudpickle = _cloudpickle()
        if cloudpickle is not None:
            parts = _by_value(value, name, cloudpickle)
        elif error:
            raise pickle.PicklingError(f"{name} or an argument cannot be pickled: {error}; {_ADVICE}") from error
        elif _refers_to_main(value):
            main_module = _main_module(name)
    return [marshal.dumps((name, chunk, main_module)), *parts]


def outcome(answer: list[bytearray]) -> Any:
    """Return what the function returned, or raise what it raised, with its traceback as the cause."""
    kind, text = marshal.loads(answer[0])
    if kind == "returned":
        return _loaded(answer[1:], f"what {text} returned")
    cause = RemoteTraceback(answer[1].decode(errors="replace"))
    if kind == "unpicklable":
        raise pickle.PicklingError(text) from cause
    raise _loaded(answer[2:], f"what {text} raised") from cause


def _loaded(parts: list[bytearray], what: str) -> Any:
    try:
        return pickle.loads(parts[0], buffers=parts[1:])
    except Exception as error:
        error.add_note(f"This was raised where {what} is loaded.")
        raise


@functools.cache
def _cloudpickle() -> ModuleType | None:
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle  # type: ignore[no-any-return]


def _by_value(value: object, name: str, cloudpickle: ModuleType) -> Message:
    try:
        return _worker.pickled(value, cloudpickle.dumps)
    except Exception as error:
        raise pickle.PicklingError(f"{name} or an argument cannot be pickled: {error}") from error


class _Finder(pickle.Pickler):
    """Looks for functions and classes of the main module."""

    found = False

    def reducer_override(self, value: Any) -> Any:
        self.found = self.found or (callable(value) and getattr(value, "__module__", None) == "__main__")
        return NotImplemented


def _refers_to_main(value: object) -> bool:
    import io

    finder = _Finder(io.BytesIO(), protocol=5, buffer_callback=lambda _: None)
    finder.dump(value)
    return finder.found


def _main_module(name: str) -> dict[str, str]:
    """Return how another interpreter imports the main module of this one, as `multiprocessing` does it.

    Raises `pickle.PicklingError` if it cannot, and `RuntimeError` in an interpreter that is doing it.
    """
    from multiprocessing import spawn

    keys = ("init_main_from_name", "init_main_from_path")
    found = {key: value for key, value in spawn.get_preparation_data(name).items() if key in keys}
    path = found.get("init_main_from_path")
    if not found or (path is not None and not Path(path).is_file()):
        raise pickle.PicklingError(
            f"{name} or an argument is defined in __main__, which is no file that another interpreter could import; "
            + _ADVICE
        )
    return found


def preparation(pumped: list[str]) -> Message:
    """Return the first message: where to import from, and which streams come back through pipes."""
    return [marshal.dumps((_import_path(), [str(argument) for argument in sys.argv], pumped))]


def _import_path() -> list[str]:
    """Return `sys.path` for an interpreter that may have another working directory."""
    entries = [entry for entry in sys.path if isinstance(entry, str)]
    try:
        return list(map(os.path.abspath, entries))
    except FileNotFoundError:
        # The working directory has been removed.
        return list(filter(os.path.isabs, entries))
