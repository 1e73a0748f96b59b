"""User namespaces: the tree, who an id is on the other side, what a process may do; and what belongs to whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from pictures_apart import apart
from pictures_check import NASTY, check, expected, host, new_session, other

from nslab import pictures
from nslab._inspect.ids import NamespaceId
from nslab._inspect.lsns import NamespaceInfo, NamespaceTable
from nslab._inspect.users import Capabilities, IdMaps, IdRange

pytestmark = pytest.mark.unprivileged

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "uts")


@pytest.fixture(autouse=True)
def stable() -> Iterator[None]:
    with new_session(stable=True):
        yield


def info(namespace: NamespaceId, **given: Any) -> NamespaceInfo:
    usual = NamespaceInfo(namespace, 1, 4711, 1, 0, "sleep 9", None, (), None, None, None, 0, ("process",))
    alone: dict[str, Any] = (
        {"nprocs": 0, "pid": None, "ppid": None, "uid": None, "command": None} if "held_by" in given else {}
    )
    return dataclasses.replace(usual, **alone, **given)


def machine() -> list[NamespaceInfo]:
    top = host("user")
    return [
        info(top, pid=1, nprocs=90, command="/sbin/init"),
        *(info(host(kind), pid=1, nprocs=90, command="/sbin/init", owner=top) for kind in KINDS),
    ]


def table(*rows: NamespaceInfo, **given: Any) -> NamespaceTable:
    return dataclasses.replace(NamespaceTable(rows, (), None), **given)


def lab() -> NamespaceTable:
    """Return a child and a grandchild of the host, and what only files and descriptors hold."""
    top, child, below = host("user"), other("user", 1), other("user", 2)
    return table(
        *machine(),
        info(other("net", 5), owner=top, nsfs=("/run/netns/blue",), held_by=("mount",)),
        info(other("net", 6), owner=top, path="/proc/99/fd/7", held_by=("fd",)),
        info(child, parent=top, owner_uid=1000, command="bash"),
        info(other("mnt", 1), owner=child, command="bash"),
        info(below, parent=child, owner_uid=1000, held_by=("child", "fd")),
    )


def test_who_owns_what() -> None:
    picture = pictures.owners(lab())
    check(picture)
    apart(picture)
    expected(picture, "owners")
    lines = picture.text.splitlines()
    assert [line[0] for line in lines if "only a" in line] == ["⟜", "⟜", "⟜"]
    assert any("only a mount: /run/netns/blue" in line for line in lines)
    assert "⟜ 3 without a process" in lines[1]


def test_two_hundred_namespaces_fit_on_a_page() -> None:
    top = host("user")
    rows = machine()
    for at in range(40):
        user = other("user", 100 + at)
        rows.append(info(user, parent=top, owner_uid=1000))
        rows += [info(other(kind, 100 + at), owner=user) for kind in ("net", "pid")]
    rows += [info(other("mnt", 500 + at), owner=top) for at in range(60)]
    rows += [info(other("net", 600 + at), owner=top, held_by=("mount",)) for at in range(20)]
    picture = pictures.owners(table(*rows))
    check(picture)
    apart(picture)
    assert len(picture.text.splitlines()) < 45
    assert "and 37 more user namespaces of uid 1000, each with 1 net, 1 pid" in picture.text
    assert "and 58 more mnt with 58 processes" in picture.text
    # Of the many, those without a process are shown first.
    assert "and 17 more net with 0 processes, ⟜ 17 without a process" in picture.text


def test_two_hundred_different_users() -> None:
    rows = [info(other("user", at), parent=host("user"), owner_uid=at) for at in range(200)]
    for picture in (pictures.owners(table(*machine(), *rows)), pictures.users(table(*machine(), *rows))):
        check(picture)
        apart(picture)
        assert "more lines" in picture.text


def test_owners_that_the_table_lacks() -> None:
    rows = [info(other("net", 1), owner=other("user", 9)), info(other("net", 2)), info(other("net", 3), held_by=())]
    picture = pictures.owners(table(*rows, unreadable=(5, 6), note="/proc is mounted with hidepid"))
    check(picture)
    for words in ("not in this table", "owner not known", "hidepid"):
        assert words in picture.text
    assert "held by nothing that can be seen" in picture.text


def test_nonsense_ends() -> None:
    one, two = other("user", 1), other("user", 2)
    circle = table(info(one, parent=two), info(two, parent=one), info(other("user", 3), parent=other("user", 3)))
    deep = [info(other("user", at + 1), parent=other("user", at)) for at in range(500)]
    for shown in (circle, table(*deep), table()):
        for picture in (pictures.owners(shown), pictures.users(shown)):
            check(picture)
            apart(picture)


def test_tree_and_ribbons() -> None:
    several = IdMaps(
        other("user", 1), 4711,
        (IdRange(0, 1000, 1), IdRange(1, 100000, 65536)), (IdRange(0, 5000, 10), IdRange(10, 100, 1)), "allow",
    )  # fmt: skip
    picture = pictures.users(lab(), several)
    check(picture)
    apart(picture)
    expected(picture, "users")
    assert "Root inside is an ordinary user outside: uid 1000" in picture.text
    assert "inside 1 … 65536  ═══  outside 100000 … 165535  (65536 ids)" in picture.text


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ((), "No map has been written yet: every id looks like 65534 (nobody)."),
        ((IdRange(0, 0, 2**32 - 1),), "Every user inside is the same one outside"),
        ((IdRange(0, 0, 1),), "Root inside is root outside, too (uid 0)"),
        ((IdRange(0, 5, 1),), "Root inside is an ordinary user outside: uid 5"),
        ((IdRange(5, 0, 1),), "No user inside is root"),
    ],
)
def test_a_map_in_a_sentence(ranges: tuple[IdRange, ...], sentence: str) -> None:
    picture = pictures.users(IdMaps(None, 7, ranges, ranges, "deny"))
    check(picture)
    assert sentence in picture.text
    assert ("setgroups is denied" in picture.text) == bool(ranges)


def test_many_ranges() -> None:
    ranges = tuple(IdRange(at, 100_000 - at, 1) for at in range(340))
    picture = pictures.users(*[IdMaps(other("user", at), at, ranges, ranges, "allow") for at in range(200)])
    check(picture)
    apart(picture)
    assert "… and 330 more ranges" in picture.text
    assert "… and 192 more id maps" in picture.text


def test_capabilities_in_words() -> None:
    every = tuple(f"CAP_{at}" for at in range(41))
    picture = pictures.users(Capabilities(9, ("CAP_NET_ADMIN", "CAP_KILL"), every, (), every[:30], (), 41, True))
    check(picture)
    apart(picture)
    expected(picture, "capabilities")
    assert "2: net_admin, kill" in picture.text
    assert "all 41" in picture.text


def test_nothing_and_any_bytes() -> None:
    strange = Capabilities(1, (NASTY,), (), (), (), (), 0, False)
    rows = [
        info(other("user", 1), command=NASTY, nsfs=(NASTY,)),
        info(other("net", 1), owner=other("user", 1), nsfs=(NASTY * 5,), held_by=(NASTY,), path=NASTY),
    ]
    for picture in (
        pictures.users(),
        pictures.users(strange, table(*rows, note=NASTY), IdMaps(None, 0, (), (IdRange(0, 0, 0),), NASTY)),
        pictures.owners(table(*rows, note=NASTY)),
    ):
        check(picture)
        apart(picture)
