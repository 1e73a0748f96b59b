"""The picture that explains how a mount gets from one namespace into another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pictures_apart import apart
from pictures_check import NASTY, check, expected, host, new_session, other

from nslab import pictures
from nslab._inspect.ids import NamespaceId
from nslab._inspect.mounts import Mount, MountDiff, Mounts

pytestmark = pytest.mark.unprivileged

Row = tuple[int, int, str, str, int | None, int | None]


@pytest.fixture(autouse=True)
def stable() -> Iterator[None]:
    with new_session(stable=True):
        yield


def mount(number: int, parent: int, target: str, fstype: str, shared: int | None, master: int | None) -> Mount:
    return Mount(number, parent, "0:21", "/", target, ("rw",), fstype, "none", ("rw",), shared, master, None, False)


def mounts(namespace: NamespaceId | None, pid: int, *rows: Row) -> Mounts:
    return Mounts(namespace, pid, tuple(mount(*row) for row in rows))


def later(before: Mounts, *rows: Row) -> MountDiff:
    added = tuple(mount(*row) for row in rows)
    after = Mounts(before.namespace, before.pid, before.mounts + added)
    return MountDiff(before, after, added, (), ())


def copies(namespace: NamespaceId, pid: int, of: Mounts, first: int, relation: str) -> Mounts:
    """As clone(2) copies them, and then mount(8) changes their propagation."""
    numbers = {one.id: first + index for index, one in enumerate(of.mounts)}
    rows = [
        (
            *(numbers[one.id], numbers.get(one.parent, 1), one.target, one.fstype),
            *{"shared": (one.shared, None), "slave": (None, one.shared), "private": (None, None)}[relation],
        )
        for one in of.mounts
    ]
    return mounts(namespace, pid, *rows)


def machine() -> Mounts:
    return mounts(
        host("mnt"), 1, (20, 1, "/", "ext4", 1, None), (21, 20, "/proc", "proc", 2, None),
        (22, 20, "/dev", "devtmpfs", 3, None), (23, 22, "/dev/pts", "devpts", 4, None),
    )  # fmt: skip


def test_the_leak() -> None:
    """The experiment that everything began with, as mountinfo shows it on both sides."""
    before = machine()
    child = later(copies(other("mnt"), 4711, before, 40, "shared"), (84, 41, "/proc", "proc", 21, None)).after
    picture = pictures.propagation(before, child, diff=later(before, (85, 21, "/proc", "proc", 21, None)))
    check(picture)
    apart(picture)
    expected(picture, "propagation-leak")
    words = " ".join(picture.text.split())
    for sentence in (
        "share peer group①: what one of them mounts on / or below it, the other gets too.",
        "The same holds for 3 more mounts.",
        "/proc (proc) was mounted in pid① and has appeared in host too: it leaked, and hides host's own /proc.",
        "Why: it was put on the mount /proc, which is peer group② in both.",
    ):
        assert sentence in words


def test_private_is_not_connected() -> None:
    before = copies(other("mnt"), 4711, machine(), 40, "private")
    diff = later(before, (84, 41, "/proc", "proc", None, None))
    picture = pictures.propagation(machine(), before, diff=diff)
    check(picture)
    apart(picture)
    expected(picture, "propagation-private")
    assert "Nothing connects host and pid①" in picture.text
    assert "/proc (proc) was mounted in pid① and stayed there." in picture.text
    assert "LEAKED" not in picture.text
    assert "-->" not in str(picture.mermaid)


def test_a_slave_only_receives() -> None:
    before = machine()
    diff = later(before, (60, 20, "/mnt", "tmpfs", 9, None))
    slave = later(copies(other("mnt"), 4711, before, 40, "slave"), (61, 40, "/mnt", "tmpfs", None, 9)).after
    picture = pictures.propagation(before, slave, diff=diff)
    check(picture)
    apart(picture)
    expected(picture, "propagation-slave")
    assert "pid① is a slave of host" in picture.text
    assert "/mnt (tmpfs) was mounted in host and has appeared in pid① too" in picture.text
    assert "◀" not in picture.text


def test_a_slave_keeps_what_it_mounts() -> None:
    before = copies(other("mnt"), 4711, machine(), 40, "slave")
    picture = pictures.propagation(machine(), before, diff=later(before, (61, 40, "/mnt", "tmpfs", None, None)))
    assert "/mnt (tmpfs) was mounted in pid① and stayed there." in picture.text


def test_every_kind_of_connection_at_once() -> None:
    top = machine()
    first = mounts(other("mnt", 1), 200, (30, 1, "/", "ext4", None, 1), (32, 30, "/dev", "devtmpfs", 3, None))
    second = mounts(other("mnt", 2), 300, (40, 1, "/", "ext4", 50, 1), (42, 40, "/dev", "devtmpfs", 3, None))
    below = mounts(other("mnt", 3), 400, (45, 1, "/", "ext4", None, 50), (46, 45, "/bind", "ext4", None, 50))
    alone = mounts(other("mnt", 4), 500, (55, 1, "/", "overlay", None, None), (56, 55, "/sys", "sysfs", None, 77))
    picture = pictures.propagation(top, first, second, below, alone)
    check(picture)
    apart(picture)
    expected(picture, "propagation-many-kinds")


def test_one_namespace_seen_through_two_processes() -> None:
    again = Mounts(host("mnt"), 77, machine().mounts)
    assert "host and init are in the same mount namespace" in pictures.propagation(
        machine(), again, names=["init", "host"]
    ).text.replace("init and host", "host and init")


def test_two_hundred_namespaces_are_one_column() -> None:
    top = machine()
    slaves = [copies(other("mnt", number), 1000 + number, top, 100 * number, "slave") for number in range(1, 200)]
    picture = pictures.propagation(top, *slaves)
    check(picture)
    apart(picture)
    assert "and 198 more" in picture.text
    assert len(picture.svg) < 20_000


def test_two_hundred_different_ones() -> None:
    rows: list[Row] = [(number, 1, f"/{number}", "tmpfs", number, None) for number in range(200)]
    many = [mounts(other("mnt", number), number, *rows[: number + 2]) for number in range(1, 190)]
    picture = pictures.propagation(*many)
    check(picture)
    apart(picture)
    assert "more namespaces are not shown" in picture.text


def test_nothing_to_draw() -> None:
    for picture in (
        pictures.propagation(),
        pictures.propagation(mounts(None, 5)),
        pictures.propagation(mounts(None, 5), mounts(None, 6, (1, 0, "/", "ext4", None, None))),
        pictures.propagation(mounts(None, 5, (1, 0, "/", "ext4", 3, 3)), diff=[]),
    ):
        check(picture)
        apart(picture)


def test_a_diff_alone_and_between_two_namespaces() -> None:
    alone = pictures.propagation(diff=later(machine(), (85, 21, "/proc", "proc", 21, None)))
    check(alone)
    assert "/proc (proc) was mounted in host." in alone.text
    one, two = machine(), copies(other("mnt"), 4711, machine(), 40, "shared")
    between = pictures.propagation(diff=MountDiff(one, two, (), (), ()))
    assert "host and pid① share peer group" in between.text


def test_what_is_gone_is_said() -> None:
    before = machine()
    after = Mounts(before.namespace, 1, before.mounts[:2])
    picture = pictures.propagation(diff=MountDiff(before, after, (), before.mounts[2:], ()))
    assert "− /dev, /dev/pts are no longer mounted in host." in picture.text


def test_any_bytes() -> None:
    rows: list[Row] = [(1, 0, "/", NASTY, 1, None), (2, 1, "/" + NASTY, "x" * 300, 2, 3), (3, 1, NASTY * 9, "", 7, 7)]
    one, two = mounts(other("mnt"), 1, *rows), mounts(None, 2, *rows)
    picture = pictures.propagation(one, two, diff=later(two, (9, 2, NASTY, NASTY, 99, None)), names=[NASTY])
    check(picture)
    apart(picture)
