"""`ipc`: the objects of IPC namespaces, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .._inspect.ipc import IpcObjects
from .labels import pid, stand_in
from .palette import FAINT, look
from .picture import Picture
from .svg import Canvas
from .table import Table
from .text import clean, escape, several

_COLUMNS = 4
_ROWS = 12
_NONE = "no objects"


class _Kind(NamedTuple):
    title: str
    field: str
    header: tuple[str, ...]
    cells: Callable[[Any], list[str]]


def _key(key: int) -> str:
    # What ipcmk(1) makes has a random key.
    return "0 (private)" if key == 0 else stand_in("key", f"{key & 0xFFFFFFFF:#010x}")


def _who(one: Any) -> list[str]:
    return [f"{one.uid}:{one.gid}", f"{one.mode & 0o777:03o}"]


_KINDS = (
    _Kind("message queues", "message_queues", ("id", "key", "owner", "mode", "messages", "bytes"),
          lambda one: [str(one.id), _key(one.key), *_who(one), str(one.messages), str(one.bytes)]),
    _Kind("semaphore sets", "semaphore_sets", ("id", "key", "owner", "mode", "semaphores"),
          lambda one: [str(one.id), _key(one.key), *_who(one), str(one.semaphores)]),
    _Kind("shared memory", "shared_memory", ("id", "key", "owner", "mode", "size", "attached", "made by pid"),
          lambda one: [str(one.id), _key(one.key), *_who(one), str(one.size), str(one.attached), pid(one.creator_pid)]),
    _Kind("POSIX message queues", "posix_queues", ("name", "owner", "mode", "bytes"),
          lambda one: [one.name, *_who(one), str(one.bytes)]),
)  # fmt: skip


def ipc(*shown: IpcObjects) -> Picture:
    """Draw the System V objects and POSIX message queues of IPC namespaces, each in a column of its own.

    An object is in one namespace only: the same key in another is another object. See ipc_namespaces(7).
    """
    columns, rest = _columns(shown)
    title = "IPC objects of " + (several([look(one.namespace).text for one in columns]) or "no namespace")
    summary = _summary(columns)
    canvas = Canvas(title, summary)
    canvas.text(0, 14, title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    x = low = 0.0
    for one in columns:
        wide, high = _draw(canvas, one, x, 54)
        x, low = x + wide + 32, max(low, high)
    canvas.text(0, max(low, 54) + 16, rest, size=12, fill=FAINT)
    text = [summary, *(line for one in columns for line in _text(one)), *([rest] if rest else [])]
    return Picture(title, canvas.svg(), "\n".join(text), table="".join(map(_html, columns)) or None)


def _columns(shown: Sequence[IpcObjects]) -> tuple[list[IpcObjects], str]:
    """Return the namespaces to draw: those with objects first, if there are too many."""
    known = list({one.namespace: one for one in shown}.values())
    chosen = known
    if len(known) > _COLUMNS:
        chosen = sorted(known, key=lambda one: not _count(one))[:_COLUMNS]
    others = [one for one in known if one not in chosen]
    empty = sum(not _count(one) for one in others)
    told = f"… and {len(others)} more IPC namespaces, {empty} of them without objects" if others else ""
    return [one for one in known if one in chosen], told


def _count(one: IpcObjects) -> int:
    return sum(len(getattr(one, kind.field)) for kind in _KINDS)


def _summary(columns: list[IpcObjects]) -> str:
    told = [f"{look(one.namespace).text}: {_count(one) or 'no'} object{'s' * (_count(one) != 1)}" for one in columns]
    return "; ".join(told) or "no IPC namespace was given"


def _tables(one: IpcObjects) -> Iterator[tuple[str, Table, str]]:
    """Return (title, table, what it leaves out) for each kind of which there is any."""
    for kind in _KINDS:
        objects: Sequence[Any] = getattr(one, kind.field)
        if objects:
            align = "l" + "r" * (len(kind.header) - 1)
            table = Table(kind.header, [kind.cells(each) for each in objects[:_ROWS]], align, limit=32)
            left = len(objects) - _ROWS
            yield f"{kind.title}: {len(objects)}", table, f"… and {left} more" if left > 0 else ""


def _draw(canvas: Canvas, one: IpcObjects, x: float, y: float) -> tuple[float, float]:
    wide = canvas.chip(x, y, look(one.namespace), size=13)
    y += 32
    for title, table, left in _tables(one):
        canvas.text(x, y + 12, title, bold=True)
        across, high = table.draw(canvas, x, y + 20)
        wide, y = max(wide, across), y + high + 32
        if left:
            canvas.text(x, y - 2, left, size=12, fill=FAINT)
            y += 16
    for words in ([] if _count(one) else [_NONE]) + ([one.note] if one.note else []):
        wide = max(wide, canvas.text(x, y + 12, words, fill=FAINT, width=420))
        y += 20
    return wide, y


def _text(one: IpcObjects) -> Iterator[str]:
    yield ""
    yield look(one.namespace).text
    for title, table, left in _tables(one):
        yield title
        yield table.text()
        if left:
            yield left
    if not _count(one):
        yield f"  {_NONE}"
    if one.note:
        yield f"  {clean(one.note)}"


def _html(one: IpcObjects) -> str:
    parts = [f"<h4>{escape(look(one.namespace).text)}</h4>"]
    for title, table, left in _tables(one):
        parts.append(f"<p>{escape(title)}</p>{table.html()}<p>{escape(left)}</p>")
    words = [*([] if _count(one) else [_NONE]), *([one.note] if one.note else [])]
    return "".join([*parts, *(f"<p>{escape(each)}</p>" for each in words)])
