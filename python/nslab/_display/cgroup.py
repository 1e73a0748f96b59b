"""`cgroup`: the same control group by the path it has outside and the one it has inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .._inspect.cgroup import CgroupPath, CgroupView
from .labels import name
from .palette import FAINT, SHADE, Look, look
from .picture import Picture
from .svg import Canvas, measure
from .table import Table
from .text import clean, several, shorten

# In cells: a directory; and how many of a long path are drawn.
_LIMIT = 32
_DEEP = 10
_GROUPS = 12


class _Group(NamedTuple):
    """Hierarchies in which the process has the same place."""

    hierarchies: str
    outside: str
    inside: str | None


def cgroup(view: CgroupView) -> Picture:
    """Draw where a process is in the trees of control groups: the path that the caller sees over its own.

    A cgroup namespace hides what is above its root. See cgroup_namespaces(7).
    """
    groups = list(_groups(view.paths))
    seen = look(view.namespace)
    title = f"Control groups of {name(f'pid {view.pid}')}"
    summary = _summary(groups)
    rest = f"… and {len(groups) - _GROUPS} more places" if groups[_GROUPS:] else ""
    canvas = Canvas(title, summary)
    used = canvas.text(0, 14, title, size=16, bold=True)
    canvas.chip(used + 16, 0, seen)
    canvas.text(0, 38, summary, fill=FAINT)
    y = 54.0
    for group in groups[:_GROUPS]:
        y = _draw(canvas, group, seen, y)
    for words in filter(None, (rest, view.note)):
        canvas.text(0, y + 14, words, fill=FAINT, width=700)
        y += 20
    rows = [[group.hierarchies, group.outside, _inside(group)] for group in groups[:_GROUPS]]
    table = Table(["hierarchy", "path outside", "path inside"], rows, limit=60)
    notes = Table(["note"], [[words] for words in filter(None, (rest, view.note))], limit=120)
    text = [f"{title} ({seen.text})", summary, table.text(), *(row[0].text for row in notes.rows)]
    return Picture(title, canvas.svg(), "\n".join(text), table=table.html())


def _groups(paths: tuple[CgroupPath, ...]) -> Iterator[_Group]:
    alike: dict[tuple[str, str | None], list[str]] = {}
    for path in paths:
        called = ",".join(path.controllers) or ("v2" if path.hierarchy == 0 else f"hierarchy {path.hierarchy}")
        alike.setdefault((path.outside, path.inside), []).append(called)
    for (outside, inside), hierarchies in alike.items():
        yield _Group(several(hierarchies, 4), outside, inside)


def _inside(group: _Group) -> str:
    return "not readable" if group.inside is None else group.inside


def _short(path: str) -> str:
    return shorten(clean(path), 50)


def _summary(groups: list[_Group]) -> str:
    if not groups:
        return "in no control group that can be seen"
    apart = next((group for group in groups if group.inside not in (None, group.outside)), None)
    if apart is not None:
        return f"One place, two names: {_short(apart.outside)} outside is {_short(_inside(apart))} inside"
    if any(group.inside is None for group in groups):
        return "What the process itself sees cannot be read"
    return "The same path inside as outside: no cgroup namespace hides anything"


def _draw(canvas: Canvas, group: _Group, seen: Look, y: float) -> float:
    canvas.text(0, y + 14, group.hierarchies, bold=True, width=700)
    outside, inside = _parts(group.outside), _parts(group.inside or "")
    # What is inside is the end of what is outside, if it is below the root of the namespace.
    below = group.inside is not None and outside[len(outside) - len(inside) + 1 :] == inside[1:]
    start = len(outside) - len(inside) if below and len(inside) <= len(outside) else 0
    long = max(0, len(outside) - _DEEP) if start >= len(outside) - _DEEP else 0
    shown = ["…", *outside[long + 1 :]] if long else outside
    wide = [measure(shorten(clean(part), _LIMIT)) + 20 for part in shown]
    canvas.text(0, y + 38, "outside", fill=FAINT)
    _boxes(canvas, shown, wide, 72, y + 22, SHADE)
    canvas.text(0, y + 68, "inside", fill=FAINT)
    x = 72 + sum(each + 6 for each in wide[: start - long])
    if group.inside is None:
        canvas.text(72, y + 68, "? not readable", fill=FAINT)
    elif below:
        if x > 72:
            # What is above the root of the namespace.
            canvas.rect(72, y + 52, x - 78, 22, dash="3 4", radius=2)
            if x > 72 + measure("hidden") + 16:
                canvas.text((66 + x) / 2, y + 68, "hidden", size=12, anchor="middle", fill=FAINT)
        _boxes(canvas, ["/", *shown[start - long + 1 :]], wide[start - long :], x, y + 52, seen.fill)
    else:
        parts = inside[-_DEEP:]
        _boxes(canvas, parts, [measure(shorten(clean(part), _LIMIT)) + 20 for part in parts], 72, y + 52, seen.fill)
    return y + 92


def _parts(path: str) -> list[str]:
    return ["/", *(part for part in path.split("/") if part)]


def _boxes(canvas: Canvas, parts: list[str], wide: list[float], x: float, y: float, fill: str) -> None:
    for part, room in zip(parts, wide, strict=False):
        canvas.rect(x, y, room, 22, fill=fill, radius=2)
        canvas.text(x + room / 2, y + 16, part, anchor="middle", width=room - 12)
        x += room + 6
