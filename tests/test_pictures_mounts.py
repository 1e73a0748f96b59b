"""The tree of a mount namespace: what covers what, what has changed, and long lists folded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from pictures_apart import apart
from pictures_check import NASTY, check, expected, host, new_session, other

from nslab import pictures
from nslab._inspect.ids import NamespaceId
from nslab._inspect.mounts import Mount, MountChange, MountDiff, Mounts

pytestmark = pytest.mark.unprivileged


@pytest.fixture(autouse=True)
def stable() -> Iterator[None]:
    with new_session(stable=True):
        yield


def mount(number: int, parent: int, target: str, fstype: str = "tmpfs", **other: Any) -> Mount:
    usual = Mount(number, parent, "0:21", "/", target, ("rw",), fstype, "none", ("rw",), None, None, None, False)
    return dataclasses.replace(usual, **other)


def mounts(*rows: Mount, namespace: NamespaceId | None = None, pid: int = 4711) -> Mounts:
    return Mounts(namespace or host("mnt"), pid, rows)


def machine() -> Mounts:
    return mounts(
        mount(20, 1, "/", "ext4", source="/dev/vda", shared=1),
        mount(21, 20, "/proc", "proc", shared=2),
        mount(22, 20, "/dev", "devtmpfs", options=("rw", "nosuid"), shared=3, master=9),
        mount(23, 22, "/dev/pts", "devpts", unbindable=True),
        mount(24, 20, "/home/bind", "ext4", source="/dev/vda", root="/srv", master=9),
    )


def line(text: str, target: str) -> str:
    return next(line for line in text.splitlines() if target in line)


def test_a_tree() -> None:
    picture = pictures.mounts(machine())
    check(picture)
    apart(picture)
    expected(picture, "mounts")
    assert "5 mounts: 2 shared, 1 shared and slave, 1 unbindable, 1 slave" in picture.text
    assert "unbindable" in line(picture.text, "/dev/pts")
    assert "/dev/vda[/srv]" in line(picture.text, "/home/bind")


def test_what_a_mount_covers_is_hidden() -> None:
    rows = (
        mount(1, 0, "/"), mount(2, 1, "/a"), mount(3, 2, "/a/below"), mount(4, 3, "/a/below/deep"),
        mount(5, 2, "/a"), mount(6, 5, "/a/new"), mount(7, 1, "/b/c"), mount(8, 1, "/b"), mount(9, 1, "/bc"),
        mount(10, 3, "/a/below"),
    )  # fmt: skip
    text = pictures.mounts(mounts(*rows)).text
    for place in ("─ /a ", "/a/below ", "/a/below/deep ", "/b/c "):
        assert line(text, place).endswith("hidden")
    for place in ("/a/new", "─ /b ", "/bc"):
        assert not line(text, place).endswith("hidden")
    assert text.count("covers the one above") == 2
    assert text.count("covers the one above, hidden") == 1
    assert "5 cannot be reached" in text


def test_a_diff_shows_what_changed_and_where_it_hangs() -> None:
    before = machine()
    kept = [one for one in before.mounts if one.target != "/dev/pts"]
    changed = dataclasses.replace(kept[2], options=("ro", "nosuid"), shared=None)
    added = mount(85, 21, "/proc", "proc", shared=21)
    after = mounts(*kept[:2], changed, kept[3], added)
    gone = before.mounts[3]
    picture = pictures.mounts(MountDiff(before, after, (added,), (gone,), (MountChange(kept[2], changed),)))
    check(picture)
    apart(picture)
    expected(picture, "mounts-diff")
    rows = [row for row in picture.text.splitlines() if row[0:1] in "+−~" and row[1:2] == " "]
    assert [row[0] for row in rows[1:]] == ["+", "~", "−"]
    assert "added, covers the one above" in rows[1]
    assert "changed: shared:group④ master:group⑤ → master:group⑤; rw → ro" in rows[2]
    assert rows[3].endswith("removed")
    assert "1 unchanged" in picture.text


def test_two_namespaces() -> None:
    before = machine()
    child = mounts(mount(50, 1, "/", "ext4"), mount(51, 50, "/tmp"), namespace=other("mnt"), pid=99)
    picture = pictures.mounts(MountDiff(before, child, child.mounts[1:], before.mounts[1:2], ()))
    check(picture)
    assert "only in pid①" in line(picture.text, "/tmp")
    assert "only in host" in line(picture.text, "/proc")


def test_many_mounts_are_folded() -> None:
    many = [mount(100 + at, 20, f"/var/lib/containers/{at:040}/merged", "overlay") for at in range(3000)]
    picture = pictures.mounts(mounts(*machine().mounts, *many))
    check(picture)
    apart(picture)
    assert "… and 2997 more overlay" in picture.text
    assert len(picture.text.splitlines()) < 20


def test_many_different_mounts_end_somewhere() -> None:
    many = [mount(100 + at, 20, f"/{at}", f"fs{at}") for at in range(500)]
    picture = pictures.mounts(mounts(machine().mounts[0], *many))
    check(picture)
    assert "… and 381 more mounts" in picture.text


def test_a_deep_stack_of_mounts() -> None:
    stack = [mount(20 + at, 19 + at, "/") for at in range(1500)]
    picture = pictures.mounts(mounts(*stack))
    check(picture)
    apart(picture)


def test_a_mount_may_come_before_the_one_it_is_on() -> None:
    """As after a ``mount --move``."""
    text = pictures.mounts(mounts(mount(5, 9, "/a/b"), mount(9, 1, "/a"), mount(1, 0, "/"))).text
    assert [row.split()[-4] for row in text.splitlines()[4:]] == ["/", "/a", "/a/b"]


def test_nothing_and_nonsense() -> None:
    circle = mounts(mount(1, 2, "/a"), mount(2, 1, "/b"), mount(3, 3, "/c"), mount(3, 3, "/c"))
    unknown = Mounts(None, 5, ())
    for shown in (mounts(), unknown, circle, MountDiff(circle, circle, circle.mounts, circle.mounts, ())):
        check(pictures.mounts(shown))
    assert "not readable" in pictures.mounts(unknown).text


def test_any_bytes() -> None:
    same = {"source": NASTY, "root": NASTY, "options": (NASTY,)}
    rows = (mount(1, 0, "/", NASTY, **same), mount(2, 1, "/" + NASTY * 9, NASTY * 9, **same))
    changed = dataclasses.replace(rows[1], options=("ro", NASTY * 3))
    picture = pictures.mounts(
        MountDiff(mounts(*rows), mounts(rows[0], changed), (rows[0],), (), (MountChange(rows[1], changed),))
    )
    check(picture)
    apart(picture)
