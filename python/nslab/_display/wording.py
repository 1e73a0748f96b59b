"""What the picture of propagation says in its cells and arrows, and the whole of it as text and as Mermaid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .._inspect.mounts import Mount
from .crossing import Crossing, Link, Row
from .labels import stand_in
from .svg import measure
from .text import clean, mermaid, pad, several, shorten, width
from .verdict import Sentence, group

# Of the text, in cells.
_CELLS = 30
_BETWEEN = 24

NOTHING = "does not appear here"
ABOUT = (
    "Each box is a mount namespace: its own list of mounts. But the copies of a shared mount stay tied together, in a"
    " peer group: what is mounted on one of them, the kernel repeats on all."
)
WORDS = "shared:N = in peer group N: gives and gets. master:N = slave of group N: only gets. private = neither."


class Face(NamedTuple):
    """What a cell says."""

    target: str
    fstype: str
    words: str
    badge: str
    more: str


def face_of(shown: Crossing, row: Row, at: int) -> Face | None:
    """Return what the cell in column ``at`` says, or None where it is empty."""
    if not row.cells[at]:
        return None
    mount, *others = row.cells[at]
    words = tags(mount)
    inside = [other.target for other in others]
    if mount.shared is not None:
        here = (other for other in shown.columns[at].mounts if other.shared == mount.shared and other is not mount)
        inside = list(dict.fromkeys([*inside, *(other.target for other in here)]))
    if inside:
        words += f", also {several(inside, 1)}"
    more = f"… and {len(row.more)} more in the same way" if row.more else ""
    return Face(clean(mount.target), clean(mount.fstype), words, _badge(row, at), more)


def tags(mount: Mount) -> str:
    """Return its propagation in the words of mountinfo: ``"shared:1 master:2"``, else ``"private"``, …."""
    groups = [("shared", mount.shared), ("master", mount.master)]
    found = [f"{tag}:{stand_in('group', number)}" for tag, number in groups if number is not None]
    return " ".join(found) or mount.propagation


def _badge(row: Row, at: int) -> str:
    if at not in row.new:
        return ""
    if row.origin is None:
        return "+ new" if row.links or len(row.cells) == 1 else "+ mounted here, stays here"
    if at == row.origin:
        return "+ mounted here"
    return "+ LEAKED: appeared here" if any(link.both for link in row.links) else "+ received: appeared here"


def cut(row: Row, at: int) -> bool:
    """Whether this column and the next have it, or had to have it, but each for itself."""
    beside = bool(row.cells[at]) + bool(row.cells[at + 1])
    return not row.links and (beside == 2 or (beside == 1 and bool(row.new)))


def stays(row: Row) -> bool:
    """Whether it is new and nothing carries it elsewhere."""
    return bool(row.new) and not row.links and len(row.cells) > 1


def label_of(row: Row, link: Link) -> tuple[str, str, bool, bool]:
    """Return what is over and under an arrow, and whether it has a head at its start and at its end."""
    if row.origin is not None:
        away = link.start < link.end if row.origin <= min(link.start, link.end) else link.start > link.end
        return "the kernel", "repeats it", not away, away
    if link.both:
        return group(link.group), "both ways", True, True
    return group(link.group), "one way", False, True


def rest(shown: Crossing) -> Iterator[str]:
    """Say what the picture leaves out."""
    if shown.left_out:
        yield f"{shown.left_out} more namespaces are not shown: name fewer to see them."
    if shown.hidden:
        yield f"{shown.hidden} more kinds of mounts are not shown."


def wrapped(text: str, wide: float, size: float = 13) -> Iterator[str]:
    """Cut ``text`` into lines of at most ``wide`` pixels."""
    line = ""
    for word in text.split(" "):
        if line and measure(f"{line} {word}", size) > wide:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def as_text(title: str, shown: Crossing, said: list[Sentence]) -> str:
    """Return the picture for a terminal."""
    lines = [title, *_folded(ABOUT, 98), ""]
    for sentence in said:
        lines += [f"{' ' if index else sentence.mark} {line}" for index, line in enumerate(_folded(sentence.text, 96))]
    if shown.columns:
        heads = [f"{column.name} and {column.more} more" if column.more else column.name for column in shown.columns]
        lines += ["", *_joined([heads, [column.look.text for column in shown.columns]])]
        lines.append((" " * _BETWEEN).join("─" * _CELLS for _ in shown.columns))
        for row in shown.rows:
            lines += [line.rstrip() for line in _text_row(shown, row)]
    return "\n".join([*lines, *((WORDS, *rest(shown)) if shown.columns else ())])


def _folded(text: str, cells: int) -> Iterator[str]:
    return wrapped(text, cells * measure("x"))


def _joined(rows: list[list[str]]) -> list[str]:
    return [(" " * _BETWEEN).join(pad(shorten(text, _CELLS), _CELLS) for text in row).rstrip() for row in rows]


def _text_row(shown: Crossing, row: Row) -> Iterator[str]:
    count = len(shown.columns)
    faces = [face_of(shown, row, at) for at in range(count)]
    gaps = [_text_gap(row, at) for at in range(count - 1)] + [("", "")]
    parts = [
        [f"{face.target}  {face.fstype}" if face else "" for face in faces],
        [face.words if face else NOTHING if stays(row) else "" for face in faces],
        *([[face.badge if face else "" for face in faces]] if row.new else []),
    ]
    for index, cells in enumerate(parts):
        between = [pad(gap[index] if index < 2 else "", _BETWEEN, "c") for gap in gaps]
        yield "".join(pad(shorten(cell, _CELLS), _CELLS) + gap for cell, gap in zip(cells, between, strict=True))
    for link in row.links:
        if abs(link.end - link.start) > 1:
            yield _text_lane(row, link)
    if row.more:
        yield f"  … and {len(row.more)} more in the same way: {several(list(row.more), 6)}"
    yield ""


def _text_gap(row: Row, at: int) -> tuple[str, str]:
    for link in row.links:
        if {link.start, link.end} == {at, at + 1}:
            over, under, back, forth = label_of(row, link)
            if link.start > link.end:
                back, forth = forth, back
            label = f" {shorten(over, _BETWEEN - 8)} "
            dashes = _BETWEEN - 4 - width(label)
            shaft = "─" * (dashes // 2) + label + "─" * (dashes - dashes // 2)
            return ("◀" if back else "─") + shaft + ("▶" if forth else "─"), under
    if cut(row, at):
        return "· · · ·  ✕  · · · ·", "not connected"
    return "", ""


def _text_lane(row: Row, link: Link) -> str:
    over, under, back, forth = label_of(row, link)
    if link.start > link.end:
        back, forth = forth, back
    first, last = sorted((link.start, link.end))
    step = _CELLS + _BETWEEN
    long = (last - first) * step - 2
    label = f" {over} {under} "
    dashes = "─" * max(0, long - width(label))
    half = len(dashes) // 2
    ends = ("▲" if back else "└", "▲" if forth else "┘")
    return " " * (first * step + 2) + ends[0] + dashes[:half] + label + dashes[half:] + ends[1]


def as_mermaid(shown: Crossing, said: list[Sentence]) -> str:
    """Return the picture as a graph."""
    lines = ["flowchart LR"]
    for at, column in enumerate(shown.columns):
        more = f" and {column.more} more" if column.more else ""
        lines.append(f"  subgraph n{at}[{mermaid(f'{column.name}{more} {column.look.text}')}]")
        for index, row in enumerate(shown.rows):
            if face := face_of(shown, row, at):
                words = " ".join(filter(None, (face.target, face.fstype, face.words, face.badge, face.more)))
                lines.append(f"    r{index}n{at}[{mermaid(words)}]")
        lines.append("  end")
    for index, row in enumerate(shown.rows):
        for link in row.links:
            over, under, back, forth = label_of(row, link)
            start, end = (link.end, link.start) if back and not forth else (link.start, link.end)
            arrow = "<-->" if back and forth else "==>" if row.new else "-->"
            lines.append(f"  r{index}n{start} {arrow}|{mermaid(f'{over}, {under}')}| r{index}n{end}")
    if said:
        lines.append(f"  said[{mermaid(' '.join(sentence.text for sentence in said))}]")
    return "\n".join(lines)
