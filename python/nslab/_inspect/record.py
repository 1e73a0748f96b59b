"""`Record`: what every inspected value can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


class Record:
    """A frozen dataclass of what was read at one moment."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as dictionaries, lists, strings and numbers, ready for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.repr}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [_plain(item) for item in value]
    return value
