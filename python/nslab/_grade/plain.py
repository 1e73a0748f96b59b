"""Dataclasses as JSON has them, and back."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return dictionaries, lists, strings and numbers; a field that is not shown (``repr=False``) is left out."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """Return the dataclass (or anything that its fields are) of which `to_plain` has made ``value``.

    Raises `ValueError` that begins with the place, as ``runs[0].returncode``, for what cannot come from there.

    >>> from nslab import Namespace
    >>> from_plain(tuple[int, ...], [1, 2])
    (1, 2)
    """
    made: T = _from(kind, value, where)
    return made


def _from(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return _from(kind, value, where)
    if origin is tuple:
        items = _expect(list, value, where)
        return tuple(_from(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        key, item = arguments
        found = _expect(dict, value, where).items()
        return types.MappingProxyType({key(name): _from(item, one, f"{where}[{name!r}]") for name, one in found})
    if kind is float and type(value) is int:
        return float(value)
    return _expect(kind, value, where)


def _record(kind: Any, value: Any, where: str) -> Any:
    found = _expect(dict, value, where)
    hints = _hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        if not field.repr:
            continue
        place = f"{where}.{field.name}".lstrip(".")
        if field.name not in found:
            raise ValueError(f"{place} is missing")
        values[field.name] = _from(hints[field.name], found[field.name], place)
    return kind(**values)


def _expect(kind: type[T], value: Any, where: str) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where or 'the whole'} is no {kind.__name__}")
    return value


_hints = functools.lru_cache(maxsize=None)(get_type_hints)
