"""The mnt namespace: what travels between mount namespaces, and the fresh /proc.

Where a host has no systemd, `/` is private and nothing ever travels; so what must not leak is mounted below a directory
that is shared, in a nested host where that harms nobody.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import sh, spawn
from nested import (
    LIBC,
    MS_BIND,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_UNBINDABLE,
    inside,
    mount,
    refusal,
)

import nslab


def mounts(process: int | str = "self") -> dict[str, str]:
    """Return the optional fields (``shared:1``) of each mount point of a process, see proc(5)."""
    lines = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
    return {line.split()[4]: " ".join(line.split(" - ")[0].split()[6:]) for line in lines}


@pytest.mark.unprivileged
def test_mnt_01_a_mount_inside_is_invisible_outside(tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    script = f"mount -t tmpfs none {point} && touch {point}/file && ls {point}; exec cat"
    with spawn("mnt", ["sh", "-c", script], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "file\n"
        assert str(point) in mounts(child.pid)
        assert str(point) not in mounts()
        assert list(point.iterdir()) == []
        # A mount point elsewhere does not keep the directory.
        point.rmdir()


def travels(directory: str, kind: int, propagation: str | None) -> tuple[bool, bool]:
    """Mount below a directory in a child and outside; return whether it is seen (outside, in the child)."""
    mount("none", directory, "tmpfs")
    mount("none", directory, flags=kind)
    theirs, ours = Path(directory, "theirs"), Path(directory, "ours")
    theirs.mkdir()
    ours.mkdir()
    script = f"mount -t tmpfs none {theirs} && echo done; read line; cat /proc/self/mountinfo"
    argv = ["sh", "-c", script]
    with spawn("mnt", argv, propagation=propagation, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "done\n"
        seen_outside = str(theirs) in mounts()
        mount("none", ours, "tmpfs")
        seen_inside = f" {ours} " in child.communicate("\n")[0]
    return seen_outside, seen_inside


@pytest.mark.unprivileged
def test_mnt_03_unchanged_leaves_a_shared_mount_shared(tmp_path: Path) -> None:
    assert inside("mnt", travels, str(tmp_path), MS_SHARED, "unchanged") == (True, True)


@pytest.mark.unprivileged
@pytest.mark.parametrize("propagation", [None, "private"])
def test_mnt_04_by_default_nothing_travels(propagation: str | None, tmp_path: Path) -> None:
    assert inside("mnt", travels, str(tmp_path), MS_SHARED, propagation) == (False, False)


def bound_below_itself(directory: str) -> str:
    """Bind a directory to one below it."""
    try:
        mount(directory, f"{directory}/there", flags=MS_BIND)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "bound"


def unbindable(directory: str) -> tuple[str, str]:
    """Bind an unbindable mount here, and in a child."""
    mount("none", directory, "tmpfs")
    Path(directory, "there").mkdir()
    mount("none", directory, flags=MS_UNBINDABLE)
    return bound_below_itself(directory), inside("mnt", bound_below_itself, directory, propagation="unchanged")


def test_mnt_06_the_copy_of_an_unbindable_mount_is_bindable(tmp_path: Path) -> None:
    # Even where propagation is left unchanged: the kernel does not hand this one down.
    assert inside("mnt", unbindable, str(tmp_path)) == ("EINVAL", "bound")


@pytest.mark.unprivileged
def test_mnt_07_mount_proc_in_a_user_namespace() -> None:
    script = "cat /proc/1/comm; grep ' /proc ' /proc/self/mountinfo | tail -n 1"
    status, output = sh("user pid mnt", script, map_root_user=True, mount_proc=True)
    assert status == 0
    comm, line = output.splitlines()
    assert comm == "sh"
    assert line.split()[5] == "rw,nosuid,nodev,noexec,relatime"
    assert line.split()[-3:-1] == ["proc", "proc"]


@pytest.mark.unprivileged
def test_mnt_07_mount_proc_elsewhere(tmp_path: Path) -> None:
    assert sh("pid mnt", f"cat {tmp_path}/1/comm", mount_proc=tmp_path) == (0, "sh")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", ["", "pid", "mnt", "user uts"])
def test_mnt_07_mount_proc_needs_both_namespaces(flags: str, invalid: Callable[..., str]) -> None:
    missing = [name for name in ("mnt", "pid") if name not in flags]
    message = invalid(flags, mount_proc=True)
    assert message == f'mount_proc needs the mnt and pid namespaces (add "{" ".join(missing)}" to the flags)'


def without_a_full_proc(how: str) -> nslab.SpawnError:
    """Hide /proc or a part of it, as containers do, and ask for a fresh one."""
    if how == "covered":
        mount("none", "/proc/sysvipc", "tmpfs")
    elif how == "read only":
        mount("/proc/sys", "/proc/sys", flags=MS_BIND | MS_REC)
        mount("none", "/proc/sys", flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    else:
        mount("none", "/proc", "tmpfs")
        with pytest.raises(nslab.SpawnError) as caught:
            # Without a map, which would be written below /proc.
            nslab.spawn("user pid mnt", ["true"], mount_proc=True)
        return caught.value
    return refusal("user pid mnt", {"mount_proc": True, "map_root_user": True})


@pytest.mark.unprivileged
@pytest.mark.parametrize(("how", "word"), [("covered", "masked"), ("read only", "masked"), ("absent", "/proc")])
def test_mnt_08_no_fresh_proc_shows_more_than_the_old_one(how: str, word: str) -> None:
    error = inside("mnt", without_a_full_proc, how)
    assert (error.step, error.errno, error.filename) == ("mount_proc", errno.EPERM, "/proc")
    assert word in (error.hint or "")


@pytest.mark.unprivileged
def test_mnt_10_sysfs_belongs_to_the_net_namespace(tmp_path: Path) -> None:
    with pytest.raises(PermissionError) as caught:
        inside("user mnt", mount, "none", str(tmp_path), "sysfs", map_root_user=True)
    assert caught.value.errno == errno.EPERM
    inside("user mnt net", mount, "none", str(tmp_path), "sysfs", map_root_user=True)


@pytest.mark.unprivileged
@pytest.mark.parametrize(("propagation", "expected"), [("slave", (False, True)), ("shared", (True, True))])
def test_mnt_12_slave_and_shared(propagation: str, expected: tuple[bool, bool], tmp_path: Path) -> None:
    assert inside("mnt", travels, str(tmp_path), MS_SHARED, propagation) == expected


@pytest.mark.parametrize("propagation", ["private", "slave", "shared", "unchanged"])
def test_mnt_12_no_word_makes_a_private_mount_travel(propagation: str, tmp_path: Path) -> None:
    assert inside("mnt", travels, str(tmp_path), MS_PRIVATE, propagation) == (False, False)


def fields_of_a_shared_mount(directory: str, propagation: str) -> str:
    """Return what a child's mountinfo says of a mount that is shared here."""
    mount("none", directory, "tmpfs")
    mount("none", directory, flags=MS_SHARED)
    return inside("mnt", mounts, propagation=propagation)[directory]


def test_mnt_12_mountinfo_says_the_same(tmp_path: Path) -> None:
    words = ["private", "slave", "shared", "unchanged"]
    fields = {word: inside("mnt", fields_of_a_shared_mount, str(tmp_path), word) for word in words}
    kinds = {word: [field.split(":")[0] for field in fields[word].split()] for word in words}
    assert kinds == {"private": [], "slave": ["master"], "shared": ["shared"], "unchanged": ["shared"]}


@pytest.mark.unprivileged
def test_mnt_12_nothing_is_silent(invalid: Callable[..., str]) -> None:
    message = invalid("mnt", propagation="privat")
    assert message == 'propagation must be one of private, slave, shared, unchanged, not "privat"'
    assert invalid("uts", propagation="slave") == 'propagation needs the mnt namespace (add "mnt" to the flags)'


def test_mnt_12_a_mount_point_that_is_none(refused: Callable[..., nslab.SpawnError], tmp_path: Path) -> None:
    error = refused("mount_proc", errno.ENOENT, "pid mnt", mount_proc=tmp_path / "nope")
    assert error.filename == str(tmp_path / "nope")
    error = refused("mount_proc", errno.ENOTDIR, "pid mnt", mount_proc="/etc/passwd")
    assert isinstance(error, NotADirectoryError)


CLONE_FS = 0x200


def test_mnt_17_clone_fs_is_no_namespace(invalid: Callable[..., str]) -> None:
    assert "0x200 (CLONE_FS)" in invalid(nslab.CLONE_NEWNS | CLONE_FS)


def in_a_chroot(directory: str, flags: str) -> nslab.SpawnError:
    """Ask for namespaces from where the root is not the mount namespace's."""
    mount("/", directory, flags=MS_BIND | MS_REC)
    os.chroot(directory)
    os.chdir("/")
    return refusal(flags)


@pytest.mark.parametrize("flags", ["user", "user uts"])
def test_mnt_18_no_user_namespace_is_made_in_a_chroot(flags: str, tmp_path: Path) -> None:
    error = inside("mnt", in_a_chroot, str(tmp_path), flags)
    assert (error.step, error.errno) == ("clone", errno.EPERM)
    assert "chroot" in (error.hint or "")


OPEN_TREE, AT_FDCWD, OPEN_TREE_NAMESPACE = 428, -100, 2


def test_mnt_19_join_a_namespace_that_no_process_has_been_in() -> None:
    tree = LIBC.syscall(ctypes.c_long(OPEN_TREE), AT_FDCWD, b"/", OPEN_TREE_NAMESPACE | os.O_CLOEXEC)
    if tree == -1:
        name = errno.errorcode[ctypes.get_errno()]
        pytest.skip(f"no mount namespace from one mount (Linux 7.0): open_tree(OPEN_TREE_NAMESPACE) fails with {name}")
    try:
        # A copy of the root mount alone, so nothing is mounted on /proc.
        assert sh(0, "echo /proc/*", join=[tree]) == (0, "/proc/*")
    finally:
        os.close(tree)


NS_MNT_GET_INFO = 0x8010B70A


def number_of_mounts(fd: int) -> int:
    """Return what the kernel counts in a mount namespace."""
    info = bytearray(16)
    try:
        fcntl.ioctl(fd, NS_MNT_GET_INFO, info)
    except OSError as error:
        pytest.skip(f"no count of a namespace's mounts (Linux 6.12): ioctl(NS_MNT_GET_INFO) fails with {error}")
    return int(struct.unpack_from("=II", info)[1])


@pytest.mark.unprivileged
def test_mnt_20_all_mounts_are_copied_and_none_added() -> None:
    with spawn("mnt", ["cat"], stdin=nslab.PIPE) as child:
        assert mounts(child.pid).keys() == mounts().keys()
    with spawn("mnt pid", ["cat"], mount_proc=True, stdin=nslab.PIPE) as child:
        lines = Path(f"/proc/{child.pid}/mountinfo").read_text().splitlines()
    assert len(lines) == len(Path("/proc/self/mountinfo").read_text().splitlines()) + 1


@pytest.mark.unprivileged
def test_mnt_20_the_kernel_counts_as_many() -> None:
    with spawn("mnt", ["cat"], stdin=nslab.PIPE) as child:
        copy = child.namespaces["mnt"].open()
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert number_of_mounts(copy) == number_of_mounts(own)
    finally:
        os.close(copy)
        os.close(own)
