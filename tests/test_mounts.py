"""The mounts of a process, held against findmnt(8) and mountinfo read by hand, and what changes in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import inode, spawn
from kernel import needs_kernel_threads
from nested import (
    LIBC,
    MS_BIND,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_UNBINDABLE,
    as_nobody,
    checked,
    inside,
    mount,
)

import nslab
from nslab._inspect.mounts import Mount, MountDiff, Mounts

MS_SLAVE = 1 << 19
FINDMNT = "ID,PARENT,MAJ:MIN,FSROOT,TARGET,VFS-OPTIONS,FSTYPE,SOURCE,FS-OPTIONS,PROPAGATION"


def at(mounts: Mounts, target: str | Path) -> Mount:
    """Return the topmost mount there."""
    return [mount for mount in mounts if mount.target == str(target)][-1]


def within(function: Callable[..., Any], *args: Any) -> Any:
    """Call it where it may mount, in mounts that nobody else sees."""
    return inside("user mnt", function, *args, map_root_user=True)


@pytest.mark.unprivileged
def test_every_field_is_that_of_findmnt(tmp_path: Path) -> None:
    within(_as_findmnt, tmp_path)


def _as_findmnt(tmp_path: Path) -> None:
    mount("a source", tmp_path, "tmpfs", MS_RDONLY)
    mount("none", "/mnt", "tmpfs")
    Path("/mnt/below").mkdir()
    mount("/mnt/below", "/mnt/below", flags=MS_BIND)
    mount("none", "/mnt/below", flags=MS_UNBINDABLE)
    text = subprocess.run(["findmnt", "--json", "--list", "-o", FINDMNT], stdout=nslab.PIPE, check=True).stdout
    theirs = {row["id"]: row for row in json.loads(text)["filesystems"]}
    ours = nslab.mounts()
    assert {mount.id for mount in ours} == theirs.keys()
    assert len(ours) == len(theirs)
    for found in ours:
        row = theirs[found.id]
        assert (found.parent, found.device, found.fstype) == (row["parent"], row["maj:min"], row["fstype"])
        assert (found.root, found.target) == (row["fsroot"], row["target"])
        # findmnt puts the directory of the file system behind its source, and its own order into the words.
        assert row["source"].removesuffix(f"[{found.root}]") == found.source
        assert (found.options, found.super_options) == tuple(
            tuple(row[name].split(",")) for name in ("vfs-options", "fs-options")
        )
        words = found.propagation.replace("unbindable", "private,unbindable").split(",")
        assert set(words) == set(row["propagation"].split(","))
    assert ours.namespace == nslab.namespaces(os.getpid())["mnt"]
    assert ours.pid == os.getpid()
    below = at(ours, "/mnt/below")
    assert (below.root, below.propagation, below.parent) == ("/below", "unbindable", at(ours, "/mnt").id)
    assert at(ours, tmp_path).options[0] == "ro"


NAMES = ["a b", "a\tb", "a\nb", "a\\b", "\\040", "#", "a,b", "ä", os.fsdecode(b"\xff\xfe"), " - ", "'\""]


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name(name: str) -> None:
    within(_any_name, name)


def _any_name(name: str) -> None:
    mount("none", "/mnt", "tmpfs")
    target = Path("/mnt", name)
    target.mkdir()
    mount(name, target, "tmpfs")
    (target / name).mkdir()
    mount(str(target / name), target / name, flags=MS_BIND)
    found = at(nslab.mounts(), target)
    assert (found.target, found.root, found.source, found.fstype) == (str(target), "/", name, "tmpfs")
    below = at(nslab.mounts(), target / name)
    assert (below.root, below.parent, below.device) == (f"/{name}", found.id, found.device)
    assert os.stat(below.target).st_dev == os.makedev(*map(int, below.device.split(":")))


@pytest.mark.unprivileged
def test_an_empty_source() -> None:
    assert within(_empty_source) == ("", "tmpfs", True)


def _empty_source() -> tuple[str, str, bool]:
    mount("", "/mnt", "tmpfs")
    found = at(nslab.mounts(), "/mnt")
    return found.source, found.fstype, "rw" in found.super_options


@pytest.mark.unprivileged
def test_propagation() -> None:
    within(_propagation)


def _propagation() -> None:
    mount("none", "/mnt", "tmpfs")
    for name in ("master", "slave", "both", "below"):
        Path("/mnt", name).mkdir()
    mount("none", "/mnt/master", "tmpfs")
    mount("none", "/mnt/master", flags=MS_SHARED)
    for name in ("slave", "both"):
        mount("/mnt/master", f"/mnt/{name}", flags=MS_BIND)
        mount("none", f"/mnt/{name}", flags=MS_SLAVE)
    mount("none", "/mnt/both", flags=MS_SHARED)
    mount("/mnt/both", "/mnt/below", flags=MS_BIND)
    mount("none", "/mnt/below", flags=MS_SLAVE)
    found = {name: at(nslab.mounts(), f"/mnt/{name}") for name in ("master", "slave", "both", "below")}
    assert {name: mount.propagation for name, mount in found.items()} == {
        "master": "shared",
        "slave": "slave",
        "both": "shared,slave",
        "below": "slave",
    }
    group = found["master"].shared
    assert group
    assert found["slave"].master == found["both"].master == group
    assert found["below"].master == found["both"].shared != group
    text = Path("/proc/self/mountinfo").read_text()
    for mounted in found.values():
        line = next(line for line in text.splitlines() if line.startswith(f"{mounted.id} "))
        tags = dict(re.findall(r"(shared|master|propagate_from):(\d+)", line.partition(" - ")[0]))
        groups = {"shared": mounted.shared, "master": mounted.master, "propagate_from": mounted.propagate_from}
        assert {name: str(number) for name, number in groups.items() if number} == tags
    # Without the one in between, the nearest that can be seen is named.
    assert propagate_from() == (found["both"].shared, group)


def propagate_from() -> tuple[int | None, int | None]:
    """Return the master of a mount, and where it is fed from, as a process sees it that cannot see the master."""
    base = Path("/mnt/root")
    base.mkdir()
    mount("none", base, "tmpfs")
    for name in ("below", "master"):
        (base / name).mkdir()
        mount(f"/mnt/{name}", base / name, flags=MS_BIND)
    with rooted(base) as child:
        (below,) = (mount for mount in nslab.mounts(child) if mount.target == "/below")
        return below.master, below.propagate_from


def rooted(root: Path) -> nslab.Process:
    """Start a process whose root is that directory."""
    for name in ("bin", "usr", "lib", "lib64"):
        if Path("/", name).exists():
            (root / name).mkdir()
            mount(f"/{name}", root / name, flags=MS_BIND | MS_REC)
    command = ["chroot", str(root), "sh", "-c", "echo ready; read line"]
    process = nslab.spawn("", command, stdin=nslab.PIPE, stdout=nslab.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.unprivileged
def test_what_cannot_be_reached_from_the_root() -> None:
    within(_unreachable)


def _unreachable() -> None:
    base = Path("/mnt/root")
    mount("none", "/mnt", "tmpfs")
    base.mkdir()
    mount("none", base, "tmpfs")
    with rooted(base) as child:
        found = nslab.mounts(child)
        assert found.namespace == nslab.namespaces(os.getpid())["mnt"]
        first = at(found, "/")
        assert first.id == at(nslab.mounts(), base).id
        assert first.parent not in {mount.id for mount in found}
        assert "/proc" not in {mount.target for mount in found}


@pytest.mark.unprivileged
def test_the_mounts_of_another_process() -> None:
    with spawn("mnt", ["cat"], stdin=nslab.PIPE) as child:
        by_hand = Path(f"/proc/{child.pid}/mountinfo").read_text().splitlines()
        found = nslab.mounts(child.pid)
        assert [mount.id for mount in found] == [int(line.split()[0]) for line in by_hand]
        assert found.namespace == child.namespaces["mnt"]
        assert found.pid == child.pid


def test_of_another_user_without_the_namespace() -> None:
    namespace, count = as_nobody(_of_another, os.getpid())
    assert namespace is None
    assert count == len(nslab.mounts())


def _of_another(pid: int) -> tuple[nslab.NamespaceId | None, int]:
    found = nslab.mounts(pid)
    return found.namespace, len(found)


@needs_kernel_threads
def test_of_a_kernel_thread() -> None:
    found = nslab.mounts(2)
    by_hand = Path("/proc/2/mountinfo").read_text().splitlines()
    assert [mount.id for mount in found] == [int(line.split()[0]) for line in by_hand]


# --------------------------------------------------------------------------------------------------------- the diff


def targets(diff: MountDiff) -> tuple[list[str], list[str], list[str]]:
    """Return where mounts were added, removed and changed."""
    return (
        [mount.target for mount in diff.added],
        [mount.target for mount in diff.removed],
        [change.after.target for change in diff.changed],
    )


@pytest.mark.unprivileged
def test_nothing_has_changed() -> None:
    assert targets(nslab.mounts().diff(nslab.mounts())) == ([], [], [])


@pytest.mark.unprivileged
def test_two_moments_of_one_namespace() -> None:
    within(_moments)


def _moments() -> None:
    mount("none", "/mnt", "tmpfs")
    for name in "abcd":
        Path("/mnt", name).mkdir()
        mount("none", f"/mnt/{name}", "tmpfs")
    mount("none", "/mnt/d", flags=MS_SHARED)
    before = nslab.mounts()
    mount("none", "/mnt/a", flags=MS_REMOUNT | MS_RDONLY)
    # Another peer group is not another type.
    mount("none", "/mnt/d", flags=MS_PRIVATE)
    mount("none", "/mnt/b", flags=MS_SHARED)
    mount("none", "/mnt/d", flags=MS_SHARED)
    assert at(before, "/mnt/d").shared != at(nslab.mounts(), "/mnt/d").shared
    # A new one gets the number, and often the device, of one that is gone.
    checked(LIBC.umount(b"/mnt/c"))
    Path("/mnt/e").mkdir()
    mount("none", "/mnt/e", "tmpfs")
    mount("on top", "/mnt/a", "tmpfs")
    diff = before.diff(nslab.mounts())
    assert targets(diff) == (["/mnt/e", "/mnt/a"], ["/mnt/c"], ["/mnt/a", "/mnt/b"])
    read_only, shared = diff.changed
    assert "rw" in read_only.before.super_options
    assert "ro" in read_only.after.super_options
    assert (shared.before.propagation, shared.after.propagation) == ("private", "shared")
    assert diff.added[1].source == "on top"
    assert targets(diff.after.diff(diff.before)) == (["/mnt/c"], ["/mnt/e", "/mnt/a"], ["/mnt/a", "/mnt/b"])


@pytest.mark.unprivileged
def test_the_options_of_the_file_system() -> None:
    within(_resized)


def _resized() -> None:
    mount("none", "/mnt", "tmpfs")
    before = nslab.mounts()
    checked(LIBC.mount(None, b"/mnt", None, MS_REMOUNT, b"size=1m"))
    (change,) = before.diff(nslab.mounts()).changed
    assert change.before.options == change.after.options
    assert "size=1024k" in change.after.super_options


@pytest.mark.unprivileged
def test_the_same_once_more_is_another_mount() -> None:
    assert within(_again) == {"/mnt/a", "/mnt/b"}


def _again() -> set[str]:
    mount("none", "/mnt", "tmpfs")
    for name in "abc":
        Path("/mnt", name).mkdir()
    mount("/mnt/c", "/mnt/a", flags=MS_BIND)
    before = nslab.mounts()
    checked(LIBC.umount(b"/mnt/a"))
    # Its number is free now, until somebody takes it: of the free ones the lowest come first.
    number = at(before, "/mnt/a").id
    mount("none", "/mnt/b", "tmpfs")
    while at(nslab.mounts(), "/mnt/b").id < number:
        mount("none", "/mnt/b", "tmpfs")
    mount("/mnt/c", "/mnt/a", flags=MS_BIND)
    diff = before.diff(nslab.mounts())
    assert [mount.id for mount in diff.removed] == [number]
    return {mount.target for mount in diff.added}


@pytest.mark.unprivileged
def test_a_mount_that_is_moved() -> None:
    assert within(_moved) == (["/mnt/b"], ["/mnt/a"], [])


def _moved() -> tuple[list[str], list[str], list[str]]:
    mount("none", "/mnt", "tmpfs")
    for name in "ab":
        Path("/mnt", name).mkdir()
    mount("none", "/mnt/a", "tmpfs")
    before = nslab.mounts()
    mount("/mnt/a", "/mnt/b", flags=8192)
    return targets(before.diff(nslab.mounts()))


@pytest.mark.unprivileged
def test_a_copy_has_numbers_of_its_own() -> None:
    within(_copy)


def _copy() -> None:
    mount("none", "/mnt", "tmpfs")
    for name in "ab":
        Path("/mnt", name).mkdir()
    # The same twice, on top of each other.
    for _ in range(2):
        mount("/mnt/a", "/mnt/b", flags=MS_BIND)
    here = nslab.mounts()
    with nslab.spawn("mnt", ["cat"], stdin=nslab.PIPE) as child:
        copy = nslab.mounts(child)
        assert {mount.id for mount in here}.isdisjoint({mount.id for mount in copy})
        assert targets(here.diff(copy)) == ([], [], [])
    script = "umount /mnt/b; echo ready; read line"
    with nslab.spawn("mnt", ["sh", "-c", script], stdin=nslab.PIPE, stdout=nslab.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        assert targets(here.diff(nslab.mounts(child))) == ([], ["/mnt/b"], [])
    with nslab.spawn("mnt pid", ["cat"], mount_proc=True, propagation="slave", stdin=nslab.PIPE) as child:
        diff = here.diff(nslab.mounts(child))
        assert targets(diff) == (["/proc"], [], [])
        assert diff.added[0].fstype == "proc"


@pytest.mark.unprivileged
def test_a_leak_from_a_child() -> None:
    within(_leak)


def _leak() -> None:
    mount("none", "/", flags=MS_REC | MS_SHARED)
    for propagation, leaked in (("private", []), ("slave", []), ("unchanged", ["/mnt"])):
        before = nslab.mounts()
        script = "mount -t tmpfs leak /mnt; echo ready; read line"
        options: dict[str, Any] = {"stdin": nslab.PIPE, "stdout": nslab.PIPE, "propagation": propagation}
        with nslab.spawn("mnt", ["sh", "-c", script], **options) as child:
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
            assert targets(before.diff(nslab.mounts()))[0] == leaked
            assert at(nslab.mounts(child), "/mnt").source == "leak"
            diff = before.diff(nslab.mounts(child))
            assert [mount.target for mount in diff.added] == ["/mnt"]
            changed = {change.after.propagation for change in diff.changed}
            assert changed == {"private": {"private"}, "slave": {"slave"}, "unchanged": set()}[propagation]
    assert inode("mnt") == nslab.mounts().namespace.inode  # type: ignore[union-attr]
