"""`users`: the tree of user namespaces, who an id is on the other side, and what a process may do."""

from __future__ import annotations

from collections.abc import Iterator

from .._inspect.ids import NamespaceId
from .._inspect.lsns import NamespaceTable
from .._inspect.users import Capabilities, IdMaps, IdRange
from .labels import name
from .outline import Line, Outline
from .palette import FAINT, look
from .picture import Picture
from .ribbons import draw_ribbons, span
from .svg import Canvas, measure
from .text import clean, mermaid, several
from .user_tree import UserTree, first_process, holder, made_by
from .wording import wrapped

_HEADER = ("user namespace", "made by", "processes", "first process", "")
_LIMITS = (40, 18, 9, 40, 48)
_ROWS = 120
# Maps that are drawn, and ranges of each.
_MAPS = 8
_RANGES = 10
_WIDE = 720
_NOBODY = "looks like 65534 (nobody)"
_WHOLE = 2**32 - 1


def users(*shown: NamespaceTable | IdMaps | Capabilities) -> Picture:
    """Draw the user namespaces of a table as a tree, id maps as ribbons, and capabilities in words.

    See user_namespaces(7) and capabilities(7).
    """
    tables = [one for one in shown if isinstance(one, NamespaceTable)]
    maps = [one for one in shown if isinstance(one, IdMaps)]
    capabilities = [one for one in shown if isinstance(one, Capabilities)]
    title = _title(tables, maps, capabilities)
    canvas = Canvas(title)
    canvas.text(0, 14, title, size=16, bold=True)
    lines, graph, y = [title], ["flowchart LR"], 30.0
    for at, table in enumerate(tables):
        y = _tree(canvas, y, table, lines, graph, at)
    for at, one in enumerate(maps[:_MAPS]):
        y = _map(canvas, y, one, lines, graph, at)
    if maps[_MAPS:]:
        y = _say(canvas, y, f"… and {len(maps) - _MAPS} more id maps", lines)
    for may in capabilities[:_MAPS]:
        y = _may(canvas, y, may, lines)
    if not shown:
        _say(canvas, y, "nothing to show", lines)
    return Picture(title, canvas.svg(), "\n".join(lines), mermaid="\n".join(graph) if tables or maps else None)


def _title(tables: list[NamespaceTable], maps: list[IdMaps], capabilities: list[Capabilities]) -> str:
    if tables:
        return "User namespaces"
    who = [name(f"pid {number}") for number in dict.fromkeys([*(m.pid for m in maps), *(c.pid for c in capabilities)])]
    return ("Users and groups" if maps else "Capabilities") + (f" of {several(who)}" if who else "")


def _say(canvas: Canvas, y: float, text: str, lines: list[str], *, bold: bool = False) -> float:
    for line in wrapped(clean(text), _WIDE):
        canvas.text(0, y + 14, line, bold=bold, fill="#1a1a1a" if bold else FAINT, width=_WIDE + 40)
        lines.append(line)
        y += 18
    return y + 4


def _tree(canvas: Canvas, y: float, table: NamespaceTable, lines: list[str], graph: list[str], number: int) -> float:
    tree = UserTree(table)

    def kind(namespace: NamespaceId) -> object:
        info = tree.info.get(namespace)
        return info and info.owner_uid, len(tree.children.get(namespace, []))

    rows: list[Line] = []
    path: list[int] = []
    for depth, those in tree.walk(kind):
        info = tree.info.get(those[0])
        shown = look(those[0])
        cells = (shown.text, made_by(info), str(info.nprocs) if info else "", first_process(info), holder(info))
        if len(those) > 1:
            rows.append(Line(depth, (f"… and {len(those)} more of {made_by(info) or 'no known user'}", *[""] * 4)))
        else:
            rows.append(Line(depth, cells, look=shown))
        graph.append(f"  t{number}n{len(rows)}[{mermaid(' '.join([rows[-1].cells[0], rows[-1].cells[3]]).strip())}]")
        path[depth:] = [len(rows)]
        if depth:
            graph.append(f"  t{number}n{path[depth - 1]} --> t{number}n{len(rows)}")
    if rows[_ROWS:]:
        rows[_ROWS:] = [Line(0, (f"… and {len(rows) - _ROWS} more lines", *[""] * 4), faint=True)]
    if table.note:
        y = _say(canvas, y, table.note, lines)
    outline = Outline(_HEADER, rows, _LIMITS)
    _, high = outline.draw(canvas, 0, y)
    lines += ["", outline.text(), ""]
    return y + high + 20


def _map(canvas: Canvas, y: float, maps: IdMaps, lines: list[str], graph: list[str], number: int) -> float:
    shown = look(maps.namespace)
    used = canvas.chip(0, y, shown, size=13)
    canvas.text(used + 10, y + 15, name(f"pid {maps.pid}"), bold=True)
    lines.append(f"{shown.text}, {name(f'pid {maps.pid}')}")
    y += 28
    for sentence in _meaning(maps):
        y = _say(canvas, y, sentence, lines)
    alike = maps.users == maps.groups
    kinds = [("users and groups" if alike else "users", maps.users), *([] if alike else [("groups", maps.groups)])]
    left, low = 0.0, y
    for kind, ranges in kinds:
        wide, high = draw_ribbons(canvas, left, y, kind, ranges[:_RANGES], shown)
        lines += [f"  {kind}:{'' if ranges else ' no map'}", *(f"    {line}" for line in _as_text(ranges))]
        graph += _graph(f"m{number}{kind[0]}", kind, ranges)
        left, low = left + wide + 48, max(low, y + high)
        if ranges[_RANGES:]:
            canvas.text(0, low + 12, f"… and {len(ranges) - _RANGES} more ranges", size=12, fill=FAINT)
            low += 18
    return low + 22


def _as_text(ranges: tuple[IdRange, ...]) -> Iterator[str]:
    shown = [(span(one.inside, one.count), span(one.outside, one.count), one.count) for one in ranges[:_RANGES]]
    wide = max((len(inside) for inside, _, _ in shown), default=0)
    for inside, outside, count in shown:
        yield f"inside {inside.ljust(wide)}  ═══  outside {outside}  ({count} id{'s' * (count != 1)})"
    if ranges[_RANGES:]:
        yield f"… and {len(ranges) - _RANGES} more ranges"


def _graph(prefix: str, kind: str, ranges: tuple[IdRange, ...]) -> Iterator[str]:
    for at, one in enumerate(ranges[:_RANGES]):
        inside, outside = f"{kind} {span(one.inside, one.count)} inside", f"{span(one.outside, one.count)} outside"
        yield f"  {prefix}i{at}[{mermaid(inside)}] === {prefix}o{at}[{mermaid(outside)}]"


def _meaning(maps: IdMaps) -> Iterator[str]:
    if not maps.users and not maps.groups:
        yield f"No map has been written yet: every id {_NOBODY}."
        return
    whole = any(one.inside == one.outside == 0 and one.count >= _WHOLE for one in maps.users)
    root = next((one.outside - one.inside for one in maps.users if one.inside <= 0 < one.inside + one.count), None)
    if whole:
        yield "Every user inside is the same one outside: nothing is mapped away."
    elif root == 0:
        yield f"Root inside is root outside, too (uid 0); any other id {_NOBODY}."
    elif root is not None:
        yield f"Root inside is an ordinary user outside: uid {root}; any other id {_NOBODY}."
    else:
        yield f"No user inside is root; any other id {_NOBODY}."
    if maps.setgroups == "deny":
        yield "setgroups is denied: a process inside cannot give up its groups."


def _may(canvas: Canvas, y: float, may: Capabilities, lines: list[str]) -> float:
    y = _say(canvas, y, name(f"Capabilities of pid {may.pid}"), lines, bold=True)
    sets = ("effective", "permitted", "inheritable", "bounding", "ambient")
    for kind in sets:
        held: tuple[str, ...] = getattr(may, kind)
        y = _listed(canvas, y, kind, _held(held, may.known), lines)
    if may.no_new_privs:
        y = _say(canvas, y, "no_new_privs is set: no program that it executes gives it more.", lines)
    return y + 10


def _held(held: tuple[str, ...], known: int) -> str:
    if not held:
        return "none"
    if known and len(held) >= known:
        return f"all {known}"
    return f"{len(held)}: {', '.join(word.removeprefix('CAP_').lower() for word in held)}"


def _listed(canvas: Canvas, y: float, kind: str, text: str, lines: list[str]) -> float:
    canvas.text(0, y + 14, kind)
    left = measure("inheritable ") + 8
    for at, line in enumerate(wrapped(clean(text), _WIDE - left)):
        canvas.text(left, y + 14, line, bold=at == 0 and text.startswith("all"), width=_WIDE)
        lines.append(f"  {'' if at else kind:12}{line}")
        y += 18
    return y + 2
