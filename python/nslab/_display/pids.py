"""`pids`: processes in nested pid namespaces, each with its pid on every level."""

from __future__ import annotations

from collections.abc import Mapping

from .._inspect.processes import ProcessInfo, ProcessTree
from . import labels
from .nesting import Box, Row, every, nest
from .palette import FAINT, INK, PAPER, Look, look
from .picture import Picture
from .svg import Canvas, measure
from .text import clean, mermaid, pad, shorten, width

_NAME = 40
_MISSING = "pid namespace not readable"
# It is not in the tree when all of that is deeper.
_OUTERMOST = "pid namespace"
# More columns of pids than these are too many to read; namespaces nest up to 32 deep.
_LEVELS = 8
_STATES = {"Z": "zombie", "T": "stopped", "t": "traced", "X": "dead"}


def pids(tree: ProcessTree) -> Picture:
    """Draw the pid namespaces as nested boxes with their processes: a pid on each level, none outside the box.

    Processes that are alike are counted; so are those beyond what can be read.
    """
    outermost = nest(tree)
    levels = max([1, *(len(process.pids) for process in every(tree.roots))])
    summary = _summary(tree)
    canvas = Canvas("Processes and their pids", summary)
    canvas.text(0, 14, canvas.title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    _Drawing(canvas, outermost, min(levels, _LEVELS)).draw()
    if tree.note:
        canvas.text(0, canvas.bottom + 22, f"Note: {tree.note}", size=12, fill=FAINT, width=640)
    text = [
        summary,
        "",
        *_lines(outermost, min(levels, _LEVELS)),
        *([f"Note: {clean(tree.note)}"] if tree.note else []),
    ]
    return Picture(canvas.title, canvas.svg(), "\n".join(text), mermaid=_mermaid(outermost))


def _summary(tree: ProcessTree) -> str:
    everyone = [*every(tree.roots)]
    known = len({process.namespaces["pid"] for process in everyone if "pid" in process.namespaces})
    unknown = sum("pid" not in process.namespaces for process in everyone)
    spaces = "1 pid namespace" if known == 1 else f"{known} pid namespaces"
    words = f"{len(everyone)} process{'es' * (len(everyone) != 1)} in {spaces}"
    if len({len(process.pids) for process in everyone}) > 1:
        words += ": a process has a pid in its own and in each one around it"
    return words + (f"; {unknown} could not be looked into" if unknown else "")


def _shown(row: Row) -> str:
    if row.process is None:
        processes, spaces = row.more
        inside = f" in {spaces} more pid namespace{'s' * (spaces != 1)}" if spaces else ""
        return f"… and {processes} more{inside}"
    return shorten(clean(row.process.command or row.process.name or "?"), _NAME)


def _remark(row: Row) -> str:
    """Return what may surprise: a parent that cannot be seen from inside, a process that has ended, a reason."""
    if row.process is None:
        return ""
    remarks = []
    if row.outside is not None:
        remarks.append(f"PPID 0 inside: its parent {labels.pid(row.outside.pid)} is outside")
    elif row.process.ppid == 0:
        remarks.append("PPID 0: no parent in this namespace")
    if row.process.state in _STATES:
        remarks.append(_STATES[row.process.state])
    if row.process.note:
        remarks.append(row.process.note)
    return "; ".join(remarks)


def _numbers(process: ProcessInfo) -> list[str]:
    """Return its pid on every level; only those that the caller sees differ from run to run."""
    seen = process.pids or (process.pid,)
    return [labels.pid(seen[0]), *map(str, seen[1:])][:_LEVELS]


def _heads(levels: int) -> list[str]:
    return ["pid here", *(f"{level} deeper" for level in range(1, levels))]


# ------------------------------------------------------------------------------------------------------- the drawing

_HIGH, _INSET, _INDENT, _PID = 26.0, 14.0, 18.0, 86.0


class _Drawing:
    def __init__(self, canvas: Canvas, outermost: Box, levels: int) -> None:
        self.canvas, self.outermost, self.levels = canvas, outermost, levels
        self.names = max(260.0, self._reach(outermost, 0)) + 20
        self.y = 56.0 + _HIGH

    def draw(self) -> None:
        for level, head in enumerate(_heads(self.levels)):
            self.canvas.text(self._column(level), 56 + 17, head, size=12, bold=True, anchor="middle")
        self._box(self.outermost, 0, {})
        self.canvas.reach(self._column(self.levels), 0)

    def _reach(self, box: Box, inset: float) -> float:
        """Return how far to the right the names of a box need to go."""
        needed = inset + measure(_title(box), 12) + 40
        for item in box.inner:
            if isinstance(item, Box):
                needed = max(needed, self._reach(item, inset + _INSET))
            else:
                needed = max(needed, inset + 24 + item.depth * _INDENT + measure(_shown(item)))
        return needed

    def _column(self, level: int) -> float:
        return self.names + _PID * (level + 0.5)

    def _box(self, box: Box, inset: float, around: Mapping[int, Look]) -> None:
        own = _look(box)
        looks = {**around, box.level: own}
        top = self.y
        height = self._height(box)
        self.canvas.rect(
            inset, top, self.names - 10 - 2 * inset, height, fill=PAPER, stroke=own.stroke, dash=own.dash, line=2
        )
        wide = self.canvas.chip(inset + 10, top + 6, own)
        self.canvas.text(inset + wide + 20, top + 20, _about(box), size=11, fill=FAINT)
        self.y += _HIGH + 8
        for item in box.inner:
            if isinstance(item, Box):
                self._box(item, inset + _INSET, looks)
                self.y += 8
            else:
                self._row(item, inset, looks)
        self.y = top + height

    def _height(self, box: Box) -> float:
        inner = (self._height(item) + 8 if isinstance(item, Box) else _HIGH for item in box.inner)
        return _HIGH + 8 + sum(inner) + 8

    def _row(self, row: Row, inset: float, looks: Mapping[int, Look]) -> None:
        x, y = inset + 14 + row.depth * _INDENT, self.y + 17
        if row.depth:
            self.canvas.path(f"M{x - 10:g} {y - 14:g}V{y - 4:g}H{x - 2:g}", stroke=FAINT)
        faint = row.process is None
        wide = self.canvas.text(x + 2, y, _shown(row), fill=FAINT if faint else INK, italic=faint)
        if row.process:
            numbers = _numbers(row.process)
            self.canvas.line(x + wide + 8, y - 4, self._column(len(numbers) - 1), y - 4, stroke="#c8c8c8", dash="1 3")
            for level, number in enumerate(numbers):
                self._pid(number, self._column(level), y, looks.get(level))
            self.canvas.text(self._column(self.levels) - 30, y, _remark(row), size=11, fill=FAINT, width=460)
        self.y += _HIGH

    def _pid(self, number: str, x: float, y: float, own: Look | None) -> None:
        wide = max(44.0, measure(number, 12) + 14)
        fill, stroke, dash = (own.fill, own.stroke, own.dash) if own else (PAPER, FAINT, "")
        self.canvas.rect(
            x - wide / 2, y - 14, wide, 20, fill=fill, stroke=stroke, dash=dash, radius=1 if own and own.host else 10
        )
        self.canvas.text(x, y, number, size=12, anchor="middle", bold=True)


def _look(box: Box) -> Look:
    return look(box.namespace, _MISSING if box.level else _OUTERMOST)


def _title(box: Box) -> str:
    return f"{_look(box).text} {_about(box)}"


def _about(box: Box) -> str:
    return "the caller's own" if box.level == 0 else "sees only what is in this box"


# ----------------------------------------------------------------------------------------------------- text and Mermaid


def _lines(outermost: Box, levels: int) -> list[str]:
    rows = [("", _heads(levels), ""), *_boxed(outermost, "")]
    wide = max(width(drawn) for drawn, _, _ in rows) + 2
    cells = [max(width(numbers[at]) for _, numbers, _ in rows if len(numbers) > at) for at in range(levels)]
    lines = []
    for drawn, numbers, remark in rows:
        columns = (pad(number, cell, "r") for number, cell in zip(numbers + [""] * levels, cells, strict=False))
        lines.append("  ".join([pad(drawn, wide), *columns, remark]).rstrip())
    return lines


def _boxed(box: Box, prefix: str) -> list[tuple[str, list[str], str]]:
    """Return (drawn, pids, remark) for each line of a box."""
    lines: list[tuple[str, list[str], str]] = [(f"{prefix}┌ {_title(box)}", [], "")]
    for item in box.inner:
        if isinstance(item, Box):
            lines += _boxed(item, prefix + "│ ")
        else:
            branch = "   " * (item.depth - 1) + "└─ " if item.depth else ""
            numbers = _numbers(item.process) if item.process else []
            lines.append((f"{prefix}│ {branch}{_shown(item)}", numbers, clean(_remark(item))))
    return [*lines, (prefix + "└─", [], "")]


def _mermaid(outermost: Box) -> str:
    lines, names = ["flowchart TB"], {id(row): f"p{at}" for at, row in enumerate(outermost.rows())}
    edges: list[str] = []

    def add(box: Box, indent: str) -> None:
        lines.append(f"{indent}subgraph b{len(lines)} [{mermaid(_look(box).text)}]")
        above: list[str] = []
        for item in box.inner:
            if isinstance(item, Box):
                add(item, indent + "    ")
                continue
            number = " / ".join(_numbers(item.process)) if item.process else ""
            lines.append(f"{indent}    {names[id(item)]}[{mermaid(f'{_shown(item)} {number}'.strip())}]")
            del above[item.depth :]
            if above:
                edges.append(f"    {above[-1]} --> {names[id(item)]}")
            above.append(names[id(item)])
        lines.append(f"{indent}end")

    add(outermost, "    ")
    made_by = {id(row.process): names[id(row)] for row in outermost.rows() if row.process}
    joined = (row for row in outermost.rows() if id(row.outside) in made_by)
    edges += (f"    {made_by[id(row.outside)]} --> {names[id(row)]}" for row in joined)
    return "\n".join(lines + edges)
