"""What crosses between mount namespaces, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .crossing import Column, Crossing, Row
from .labels import stand_in
from .options import options
from .text import clean, several, shorten

# What more there is to say, the picture says.
_KINDS = 3


class Sentence(NamedTuple):
    """A sentence under a mark; ``strong`` for what leaked."""

    mark: str
    text: str
    strong: bool = False


def group(number: int) -> str:
    """Return what a peer group is called: ``"peer group 7"``, in stable mode ``"peer group①"``."""
    shown = stand_in("group", number)
    return f"peer {shown}" if options.stable else f"peer group {shown}"


def sentences(shown: Crossing) -> list[Sentence]:
    """Say what is connected, what is not, and what has crossed."""
    if not shown.columns:
        return [Sentence("?", "No mount namespace was given.")]
    found = [*_connections(shown), *_apart(shown), *_changes(shown)]
    if any(row.origin is not None and _both(row) for row in shown.rows):
        found.append(
            Sentence(
                "→",
                'To cut it: make the mounts private in the new namespace first (propagation="private", or'
                " mount --make-rprivate / there).",
            )
        )
    return found


def _connections(shown: Crossing) -> Iterator[Sentence]:
    names = _names(shown.columns)
    told = [row for row in shown.rows if row.links and not row.new]
    for row in told[:_KINDS]:
        where = _place(row.first.target)
        also = f" The same holds for {_count(row)}." if row.more else ""
        peers = sorted({at for link in row.links if link.both for at in link[:2]})
        if peers:
            who = _all([names[at] for at in peers])
            number = next(link.group for link in row.links if link.both)
            others = "the other gets too" if len(peers) == 2 and not _more(shown, peers) else "the others get too"
            yield Sentence(
                "⇄",
                f"{who} share {group(number)}: what one of them mounts on {where} or below it, {others}.{also}",
            )
            also = ""
        for link in [link for link in row.links if not link.both][:_KINDS]:
            giver, taker = names[link.start], names[link.end]
            yield Sentence(
                "→",
                f"{taker} is a slave of {giver}: what {giver} mounts on {where} or below it appears in {taker} too,"
                f" but never the other way round.{also}",
            )
            also = ""
    if told[_KINDS:]:
        yield Sentence("⇄", f"{len(told[_KINDS:])} more kinds of connection are in the picture.")


def _apart(shown: Crossing) -> Iterator[Sentence]:
    names = _names(shown.columns)
    for column in shown.columns:
        if len(column.names) > 1:
            who = _all([_place(name) for name in column.names])
            yield Sentence("=", f"{who} are in the same mount namespace: one list for all of them.")
    linked = {at for row in shown.rows for link in row.links for at in link[:2]}
    alone = [name for at, name in enumerate(names) if at not in linked]
    if len(names) == 1 and len(shown.columns[0].names) == 1:
        shared = sum(mount.shared is not None for mount in shown.columns[0].mounts)
        yield Sentence(
            "·",
            f"Only {names[0]} is shown: {shared} of its {len(shown.columns[0].mounts)} mounts are shared; who else is"
            " in their peer groups can only be seen beside another namespace.",
        )
    elif len(alone) == len(names) > 1:
        others = "the other" if len(names) == 2 and not _more(shown, [0, 1]) else "the others"
        never = f"what one of them mounts, {others} never see{'s' if others == 'the other' else ''}"
        yield Sentence("✕", f"Nothing connects {_all(names)}: {never}.")
    elif alone and len(names) > 1:
        yield Sentence("✕", f"Nothing connects {_all(alone)} with the others: what is mounted there stays there.")


def _changes(shown: Crossing) -> Iterator[Sentence]:
    names = _names(shown.columns)
    for row in shown.rows:
        if not row.new:
            continue
        what = f"{_place(row.first.target)} ({_place(row.first.fstype)})" + (
            f", like {_count(row)}," if row.more else ""
        )
        if row.origin is None:
            stayed = " and stayed there" if len(shown.columns) > 1 and not row.links else ""
            yield Sentence("+", f"{what} was mounted in {_all([names[at] for at in row.new])}{stayed}.")
            continue
        there = _all([names[at] for at in row.new if at != row.origin])
        told = f"{what} was mounted in {names[row.origin]} and has appeared in {there} too"
        if _both(row):
            yield Sentence("+", f"{told}: it leaked{_hides(shown, row)}.{_because(shown, row)}", strong=True)
        else:
            yield Sentence("+", f"{told}, as it does with a slave.", strong=True)
    for column, name in zip(shown.columns, names, strict=True):
        if column.removed:
            gone = several([mount.target for mount in column.removed])
            yield Sentence("−", f"{gone} {'is' if len(column.removed) == 1 else 'are'} no longer mounted in {name}.")


def _hides(shown: Crossing, row: Row) -> str:
    for at in row.new:
        column = shown.columns[at]
        below = {mount.id: mount.target for mount in column.mounts}
        if at != row.origin and any(below.get(mount.parent) == mount.target for mount in row.cells[at]):
            return f", and hides {column.name}'s own {_place(row.first.target)}"
    return ""


def _because(shown: Crossing, row: Row) -> str:
    """Return which mount it was put on: that one's group is what carried it."""
    below = {mount.id: mount for at in row.new for mount in shown.columns[at].mounts if mount.id == row.first.parent}
    mount = below.get(row.first.parent)
    if mount is None or mount.shared is None:
        return ""
    held = [any(other.shared == mount.shared for other in shown.columns[at].mounts) for at in row.new]
    where = "in both" if len(held) == 2 else "in all of them"
    return (
        f" Why: it was put on the mount {_place(mount.target)}, which is {group(mount.shared)} {where}."
        if all(held)
        else ""
    )


def _both(row: Row) -> bool:
    return any(link.both for link in row.links)


def _count(row: Row) -> str:
    return f"{len(row.more)} more mounts" if len(row.more) > 1 else _place(row.more[0])


def _place(path: str) -> str:
    return shorten(clean(path), 60)


def _names(columns: tuple[Column, ...]) -> list[str]:
    return [f"{column.name} (and {column.more} more)" if column.more else column.name for column in columns]


def _more(shown: Crossing, at: list[int]) -> bool:
    return any(shown.columns[index].more for index in at)


def _all(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
