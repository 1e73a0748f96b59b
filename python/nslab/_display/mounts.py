"""`mounts`: the tree of a mount namespace, what covers what in it, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .._inspect.mounts import Mount, MountDiff, Mounts
from .labels import name
from .mount_tree import Node, tree
from .palette import CHANGED, CHANGED_INK, FAINT, INK, LINE, SHADE, look
from .picture import Picture
from .svg import Canvas, measure
from .text import clean, pad, shorten, width
from .wording import tags

_ROW = 22.0
_INDENT = 18.0
# Deeper than this, the indentation stays the same.
_DEEPEST = 12
# In cells: where it is mounted, and the other columns.
_LIMITS = (52, 12, 24, 28, 22, 64)
_HEADER = ("mounted on", "type", "source", "propagation", "options", "")
# What nearly every mount has.
_USUAL = {"rw", "relatime"}


class _Line(NamedTuple):
    depth: int
    #: Of the box-drawing characters before it, in the text.
    branch: str
    mark: str
    #: In the order of `_HEADER`.
    cells: tuple[str, ...]
    strong: bool
    faint: bool


def mounts(shown: Mounts | MountDiff) -> Picture:
    """Draw the mounts of a namespace as a tree; of a diff, those that came, went and changed, and what they are on.

    A long list is folded: what is alike is counted.
    """
    diff = shown if isinstance(shown, MountDiff) else None
    of = diff.after if diff else shown
    assert isinstance(of, Mounts)
    nodes = tree(of, diff)
    lines = list(_lines(nodes, diff))
    summary = _summary(of, diff, nodes)
    title = f"Mounts of {_name(of)}"
    if diff and diff.before.namespace != of.namespace:
        title = f"Mounts: {_name(diff.before)} compared with {_name(of)}"
    elif diff:
        title += ": before and after"
    return Picture(title, _svg(title, summary, of, lines), _text(title, summary, of, lines))


def _name(of: Mounts) -> str:
    return "host" if look(of.namespace).host else name(f"pid {of.pid}")


def _summary(of: Mounts, diff: MountDiff | None, nodes: list[Node]) -> str:
    if diff:
        same = len(of.mounts) - len(diff.added) - len(diff.changed)
        return (
            f"+ {len(diff.added)} added, − {len(diff.removed)} removed, ~ {len(diff.changed)} changed; {same} the same"
        )
    kinds = {kind: sum(mount.propagation == kind for mount in of.mounts) for kind in _kinds(of)}
    told = ", ".join(f"{count} {kind.replace(',', ' and ')}" for kind, count in kinds.items())
    hidden = sum(node.hidden for node in nodes)
    covered = f"; {hidden} cannot be reached, another mount covers them" if hidden else ""
    return f"{len(of.mounts)} mount{'s' * (len(of.mounts) != 1)}{': ' if told else ''}{told}{covered}"


def _kinds(of: Mounts) -> list[str]:
    return list(dict.fromkeys(mount.propagation for mount in of.mounts))


def _lines(nodes: list[Node], diff: MountDiff | None) -> Iterator[_Line]:
    between = diff is not None and diff.before.namespace != diff.after.namespace
    for node in nodes:
        if node.mount is None:
            yield _Line(node.depth, node.branch, "", (f"… {node.folded}", *[""] * 5), False, True)
            continue
        mark, note = _note(node, diff, between)
        mount = node.mount
        options = ",".join(option for option in mount.options if option not in _USUAL)
        source = mount.source if mount.root == "/" else f"{mount.source}[{mount.root}]"
        cells = (mount.target, mount.fstype, source, tags(mount), options, note)
        yield _Line(node.depth, node.branch, mark, cells, bool(mark), node.hidden and not mark)


def _note(node: Node, diff: MountDiff | None, between: bool) -> tuple[str, str]:
    mount, words = node.mount, []
    assert mount is not None
    if node.covers:
        words.append("covers the one above")
    if node.hidden:
        words.append("hidden")
    if node.state == "added":
        return "+", ", ".join([f"only in {_name(diff.after)}" if between and diff else "added", *words])
    if node.state == "removed":
        return "−", f"only in {_name(diff.before)}" if between and diff else "removed"
    if node.before is not None:
        return "~", f"changed: {_difference(node.before, mount)}"
    return "", ", ".join(words)


def _difference(before: Mount, after: Mount) -> str:
    told = [f"{tags(before)} → {tags(after)}"] if tags(before) != tags(after) else []
    for field in ("options", "super_options"):
        old, new = set(getattr(before, field)), set(getattr(after, field))
        if old != new:
            told.append(f"{','.join(sorted(old - new)) or 'nothing'} → {','.join(sorted(new - old)) or 'nothing'}")
    for field in ("target", "fstype", "source", "root", "device"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            told.append(f"{field} {old} → {new}")
    return "; ".join(told) or "the mount it is on, or its number"


def _svg(title: str, summary: str, of: Mounts, lines: list[_Line]) -> str:
    canvas = Canvas(title, summary)
    used = canvas.text(0, 14, title, size=16, bold=True)
    canvas.chip(used + 16, 0, look(of.namespace))
    canvas.text(0, 38, summary, fill=FAINT)
    wide = _widths(lines)
    y = 52.0
    canvas.rect(0, y, sum(wide) + 28, _ROW, fill=SHADE, stroke="none", radius=2)
    _draw_cells(canvas, _Line(0, "", "", _HEADER, False, False), wide, 24, y)
    elbows: dict[int, float] = {}
    for line in lines:
        y += _ROW
        left = min(line.depth, _DEEPEST) * _INDENT
        if line.strong:
            canvas.rect(0, y + 1, sum(wide) + 28, _ROW - 2, fill=CHANGED, stroke="none", radius=3)
            canvas.text(10, y + 15.5, line.mark, anchor="middle", bold=True, fill=CHANGED_INK)
        if line.depth:
            x = 24 + left - _INDENT + 5
            canvas.line(x, elbows.get(line.depth - 1, y), x, y + 11, stroke=LINE)
            canvas.line(x, y + 11, x + 9, y + 11, stroke=LINE)
            elbows[line.depth - 1] = y + 11
        elbows[line.depth] = y + 18
        _draw_cells(canvas, line, wide, 24, y)
    return canvas.svg()


def _widths(lines: list[_Line]) -> list[float]:
    wide = [measure(title) for title in _HEADER]
    for line in lines:
        left = min(line.depth, _DEEPEST) * _INDENT
        for at, (cell, limit) in enumerate(zip(line.cells, _LIMITS, strict=True)):
            if at == 0 and not any(line.cells[1:]):
                continue
            wide[at] = max(wide[at], measure(shorten(clean(cell), limit)) + (0 if at else left))
    return [cells + 18 for cells in wide]


def _draw_cells(canvas: Canvas, line: _Line, wide: list[float], x: float, y: float) -> None:
    ink = CHANGED_INK if line.strong else FAINT if line.faint else INK
    left = min(line.depth, _DEEPEST) * _INDENT
    if not any(line.cells[1:]):
        canvas.text(x + left, y + 15.5, line.cells[0], fill=ink, width=sum(wide) - left)
        return
    for at, (cell, room) in enumerate(zip(line.cells, wide, strict=True)):
        indent = 0 if at else left
        if cell:
            canvas.text(x + indent, y + 15.5, cell, fill=ink, bold=line.strong, width=room - indent - 16)
        x += room


def _text(title: str, summary: str, of: Mounts, lines: list[_Line]) -> str:
    rows = [[line.branch + shorten(clean(line.cells[0]), _LIMITS[0]), *_short(line.cells[1:])] for line in lines]
    full = [row for row in [list(_HEADER), *rows] if any(row[1:])]
    wide = [max(map(width, column)) for column in zip(*full, strict=True)]
    told = [f"{title} ({look(of.namespace).text})", summary, ""]
    for mark, row in zip(["", *(line.mark for line in lines)], [list(_HEADER), *rows], strict=True):
        cells = [pad(cell, room) for cell, room in zip(row, wide, strict=True)] if any(row[1:]) else row[:1]
        told.append(f"{mark or ' '} {'  '.join(cells)}".rstrip())
    return "\n".join(told)


def _short(cells: tuple[str, ...]) -> list[str]:
    return [shorten(clean(cell), limit) for cell, limit in zip(cells, _LIMITS[1:], strict=True)]
