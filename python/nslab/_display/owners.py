"""`owners`: every namespace under the user namespace that it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .._inspect.ids import NamespaceId
from .._inspect.lsns import NamespaceInfo, NamespaceTable
from .outline import Line, Outline
from .palette import FAINT, look
from .picture import Picture
from .svg import Canvas
from .text import clean, mermaid, several
from .user_tree import UserTree, first_process, holder, made_by

_HEADER = ("namespace", "processes", "first process", "made by", "kept alive by")
_LIMITS = (40, 9, 40, 18, 48)
# As many of one type are shown one by one.
_ALIKE = 3
_ROWS = 120
_HELD = "⟜"


def owners(table: NamespaceTable) -> Picture:
    """Draw which namespace belongs to which user namespace: who has capabilities in the one has them over the other.

    ``⟜`` marks those without a process, which only a descriptor, a mount or another namespace keeps alive. The many
    that are alike are counted.
    """
    tree = UserTree(table)
    lines = list(_lines(tree))
    left = len(lines) - _ROWS
    if left > 0:
        lines[_ROWS:] = [Line(0, (f"… and {left} more lines", *[""] * 4), faint=True)]
    summary = _summary(table)
    title = "Namespaces under their owners"
    outline = Outline(_HEADER, lines, _LIMITS)
    canvas = Canvas(title, summary)
    canvas.text(0, 14, title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    outline.draw(canvas, 0, 52)
    return Picture(title, canvas.svg(), f"{title}\n{summary}\n\n{outline.text()}", mermaid=_mermaid(lines))


def _summary(table: NamespaceTable) -> str:
    kinds = Counter(row.type for row in table)
    alone = sum(bool(holder(row)) for row in table)
    told = [f"{len(table)} namespace{'s' * (len(table) != 1)}"]
    told[0] += ": " * bool(kinds) + ", ".join(f"{count} {clean(kind)}" for kind, count in sorted(kinds.items()))
    if alone:
        told.append(f"{_HELD} {alone} without a process")
    if table.note:
        told.append(clean(table.note))
    return "; ".join(told)


def _lines(tree: UserTree) -> Iterator[Line]:
    def kind(namespace: NamespaceId) -> object:
        info = tree.info.get(namespace)
        owned = frozenset(Counter(row.type for row in tree.owned.get(namespace, [])).items())
        return info and info.owner_uid, owned, len(tree.children.get(namespace, []))

    for depth, those in tree.walk(kind):
        if len(those) > 1:
            yield Line(depth, (f"… {_alike(tree, those)}", *[""] * 4), faint=True)
        else:
            yield _line(depth, those[0], tree.info.get(those[0]))
            yield from _owned(tree.owned.get(those[0], []), depth + 1)
    if orphans := tree.owned.get(None):
        yield Line(0, ("owner not known", *[""] * 4), faint=True)
        yield from _owned(orphans, 1)


def _line(depth: int, namespace: NamespaceId, info: NamespaceInfo | None) -> Line:
    shown = look(namespace)
    held = holder(info)
    count = "" if info is None else str(info.nprocs)
    cells = (shown.text, count, first_process(info), made_by(info) if namespace.type == "user" else "", held)
    return Line(depth, cells, _HELD if held else "", look=shown)


def _owned(rows: list[NamespaceInfo], depth: int) -> Iterator[Line]:
    kinds: dict[str, list[NamespaceInfo]] = {}
    for row in rows:
        kinds.setdefault(row.type, []).append(row)
    for kind, alike in kinds.items():
        # Those without a process are what nobody else shows.
        order = sorted(alike, key=lambda row: not holder(row)) if len(alike) > _ALIKE else alike
        shown = {row.namespace for row in [*alike[:1], *order][: _ALIKE + 1]} if len(alike) > _ALIKE + 1 else None
        yield from (_line(depth, row.namespace, row) for row in alike if shown is None or row.namespace in shown)
        if shown is not None:
            rest = [row for row in alike if row.namespace not in shown]
            yield Line(depth, (f"… and {_count(rest, kind)}", *[""] * 4), faint=True)


def _count(rows: list[NamespaceInfo], kind: str) -> str:
    alone = sum(bool(holder(row)) for row in rows)
    processes = sum(row.nprocs for row in rows)
    held = f", {_HELD} {alone} without a process" if alone else ""
    return f"{len(rows)} more {kind} with {processes} processes{held}"


def _alike(tree: UserTree, those: list[NamespaceId]) -> str:
    info = tree.info.get(those[0])
    kinds = [row.type for row in tree.owned.get(those[0], [])]
    alone = sum(bool(holder(tree.info.get(namespace))) for namespace in those)
    told = f"and {len(those)} more user namespaces"
    told += f" of {made_by(info)}" if made_by(info) else ""
    told += f", each with {several([f'{count} {kind}' for kind, count in Counter(kinds).items()], 7)}" if kinds else ""
    return told + (f", {_HELD} {alone} without a process" if alone else "")


def _mermaid(lines: list[Line]) -> str:
    graph = ["flowchart LR"]
    path: list[int] = []
    for at, line in enumerate(lines):
        words = [line.cells[0], line.cells[2], line.cells[4]]
        graph.append(f"  n{at}[{mermaid(' '.join(filter(None, words)))}]")
        del path[line.depth :]
        if path:
            graph.append(f"  n{path[-1]} --> n{at}")
        path.append(at)
    return "\n".join(graph)
