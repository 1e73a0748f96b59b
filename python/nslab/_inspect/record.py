"""`Record`: what every inspected value can do."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from typing import Any


class Record:
    """A frozen dataclass of what was read at one moment."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as dictionaries, lists, strings and numbers, ready for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.repr}  # type: ignore[arg-type]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write its picture to ``path``: ``.svg``, ``.html``, ``.txt`` or, of a graph, ``.mmd``; else `ValueError`."""
        from .._display.of import picture_of

        picture_of(self).save(path)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        from .._display.of import picture_of

        return picture_of(self)._repr_mimebundle_(include, exclude)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [_plain(item) for item in value]
    return value
