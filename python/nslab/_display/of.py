"""`picture_of`: the natural picture of each record."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING

from .._inspect.ids import NamespaceId, current
from .._inspect.record import Record
from .labels import stand_in
from .palette import look
from .picture import Picture
from .svg import Canvas
from .table import Cell, Table, namespace_cell

if TYPE_CHECKING:
    from .._process import Process

# Record -> (module, function) in this package.
_PICTURES = {
    "Capabilities": ("users", "users"),
    "CgroupView": ("cgroup", "cgroup"),
    "Clocks": ("clocks", "clocks"),
    "Comparison": ("card", "card"),
    "IdMaps": ("users", "users"),
    "IpcObjects": ("ipc", "ipc"),
    "MountDiff": ("mounts", "mounts"),
    "Mounts": ("mounts", "mounts"),
    "NamespaceTable": ("owners", "owners"),
    "Network": ("network", "network"),
    "ProcessTree": ("pids", "pids"),
    "Snapshot": ("sides", "alone"),
}


def picture_of(record: Record) -> Picture:
    """Draw it as the function for its type does, or, without one, its fields."""
    kind = type(record).__name__
    if kind not in _PICTURES:
        return fields(record)
    module, function = _PICTURES[kind]
    picture = getattr(importlib.import_module(f".{module}", __package__), function)(record)
    assert isinstance(picture, Picture)
    return picture


def card_of(process: Process) -> Picture:
    """Draw which namespaces a process shares with the caller."""
    from .._inspect.compare import Compared, Comparison
    from .card import card

    sides = (current(), process.namespaces)
    rows = (
        Compared(kind, tuple(side.get(kind) for side in sides)) for kind in sorted(sides[1].keys() | sides[0].keys())
    )
    return card(Comparison(("host", f"pid {process.pid}"), tuple(rows)))


def fields(record: Record) -> Picture:
    """Draw a record that has no picture of its own: a line for each of its fields."""
    shown = [field.name for field in dataclasses.fields(record) if field.repr]  # type: ignore[arg-type]
    rows = [(name, _value(name, getattr(record, name))) for name in shown]
    if isinstance(record, NamespaceId):
        rows.insert(0, ("namespace", _value("namespace", record)))
    table = Table(["field", "value"], rows, limit=72)
    canvas = Canvas(type(record).__name__)
    canvas.text(0, 14, canvas.title, size=16, bold=True)
    table.draw(canvas, 0, 28)
    return Picture(canvas.title, canvas.svg(), table.text(), table=table.html())


def _value(name: str, value: object) -> Cell:
    if isinstance(value, NamespaceId):
        return namespace_cell(look(value))
    if value is None:
        return Cell("not known", faint=True)
    if name in ("pid", "ppid", "inode", "dev", "id") and isinstance(value, int):
        return Cell(stand_in(name, value))
    if isinstance(value, (tuple, list)) and any(isinstance(item, Record) for item in value):
        return Cell(f"{len(value)} of {type(value[0]).__name__}")
    if isinstance(value, Record):
        return Cell(type(value).__name__)
    return Cell(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
