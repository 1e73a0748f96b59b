"""`mounts`: the tree of a mount namespace, what covers what in it, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator

from .._inspect.mounts import Mount, MountDiff, Mounts
from .labels import name
from .mount_tree import Node, tree
from .outline import Line, Outline
from .palette import FAINT, look
from .picture import Picture
from .svg import Canvas
from .wording import tags

# In cells: where it is mounted, and the other columns.
_LIMITS = (52, 12, 24, 28, 22, 64)
_HEADER = ("mounted on", "type", "source", "propagation", "options", "")
# What nearly every mount has.
_USUAL = {"rw", "relatime"}


def mounts(shown: Mounts | MountDiff) -> Picture:
    """Draw the mounts of a namespace as a tree; of a diff, those that came, went and changed, and what they are on.

    A long list is folded: what is alike is counted.
    """
    diff = shown if isinstance(shown, MountDiff) else None
    of = diff.after if diff else shown
    assert isinstance(of, Mounts)
    nodes = tree(of, diff)
    outline = Outline(_HEADER, list(_lines(nodes, diff)), _LIMITS)
    summary = _summary(of, diff, nodes)
    title = f"Mounts of {_name(of)}"
    if diff and diff.before.namespace != of.namespace:
        title = f"Mounts: {_name(diff.before)} compared with {_name(of)}"
    elif diff:
        title += ": before and after"
    canvas = Canvas(title, summary)
    used = canvas.text(0, 14, title, size=16, bold=True)
    canvas.chip(used + 16, 0, look(of.namespace))
    canvas.text(0, 38, summary, fill=FAINT)
    outline.draw(canvas, 0, 52)
    return Picture(title, canvas.svg(), f"{title} ({look(of.namespace).text})\n{summary}\n\n{outline.text()}")


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


def _lines(nodes: list[Node], diff: MountDiff | None) -> Iterator[Line]:
    between = diff is not None and diff.before.namespace != diff.after.namespace
    for node in nodes:
        if node.mount is None:
            yield Line(node.depth, (f"… {node.folded}", *[""] * 5), faint=True)
            continue
        mark, note = _note(node, diff, between)
        mount = node.mount
        options = ",".join(option for option in mount.options if option not in _USUAL)
        source = mount.source if mount.root == "/" else f"{mount.source}[{mount.root}]"
        cells = (mount.target, mount.fstype, source, tags(mount), options, note)
        yield Line(node.depth, cells, mark, bool(mark), node.hidden and not mark)


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
