"""Which namespaces a process is in, and what keeps a namespace alive."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from conftest import inode, sh, spawn
from kernel import needs_linux
from nested import inside, mount

import nslab
from nslab import Namespace

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
NS_GET_NSTYPE = 0xB703

by_number = needs_linux(6, 18, "namespace numbers, by which one is found that no process is in")


@pytest.mark.unprivileged
@pytest.mark.parametrize("kind", KINDS)
def test_ins_01_the_inodes_are_those_the_program_sees(kind: str) -> None:
    with spawn(kind, ["stat", "-L", "-c", "%i", f"/proc/self/ns/{kind}"], stdout=nslab.PIPE) as process:
        assert int(process.communicate()[0]) == process.namespaces[kind].inode


@pytest.mark.unprivileged
def test_ins_01_a_namespace_equals_itself_however_it_was_found() -> None:
    with spawn("uts net", ["cat"], stdin=nslab.PIPE) as process:
        found = nslab.namespaces(process.pid)
        assert dict(process.namespaces) == dict(found)
        assert {process.namespaces["uts"], found["uts"]} == {found["uts"]}
        assert str(found["uts"]) == os.readlink(f"/proc/{process.pid}/ns/uts")
        assert found["uts"] != nslab.namespaces(os.getpid())["uts"]


@by_number
@pytest.mark.unprivileged
def test_ins_01_numbers_are_never_used_again() -> None:
    numbers = []
    for _ in range(20):
        with spawn("uts", ["true"]) as process:
            numbers.append(process.namespaces["uts"].id)
    assert all(numbers)
    assert len(set(numbers)) == 20


@pytest.mark.unprivileged
@pytest.mark.parametrize("kind", KINDS)
def test_ins_04_a_namespace_is_opened_as_what_it_is(kind: str) -> None:
    with spawn(kind, ["cat"], stdin=nslab.PIPE) as process:
        found = process.namespaces[kind]
        fd = found.open()
        try:
            assert fcntl.ioctl(fd, NS_GET_NSTYPE) & 0xFFFFFFFF == Namespace[kind.upper()]
            assert os.fstat(fd).st_ino == found.inode == inode(kind, process.pid)
            assert os.fstat(fd).st_dev == found.dev
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)


def test_per_01_a_bind_mount_keeps_a_namespace_until_it_is_unmounted(tmp_path: Path) -> None:
    inside("mnt", _persistent, str(tmp_path / "kept"))


def _persistent(path: str) -> None:
    Path(path).touch()
    with nslab.spawn("uts", ["cat"], stdin=nslab.PIPE, hostname="lab") as process:
        mount(f"/proc/{process.pid}/ns/uts", path, flags=4096)
    found = process.namespaces["uts"]
    assert os.stat(path).st_ino == found.inode
    assert sh(0, "uname -n", join=path) == (0, "lab")
    assert sh(0, "umount $0 && stat -c %s $0".replace("$0", path))[1] == "0"
    with pytest.raises(ProcessLookupError):
        found.open()


@pytest.mark.parametrize("kind", ["uts", "net", "ipc"])
def test_per_02_an_open_namespace_lives_until_it_is_closed(kind: str) -> None:
    with nslab.spawn(kind, ["cat"], stdin=nslab.PIPE) as process:
        kept = process.namespaces[kind].open()
    found = process.namespaces[kind]
    with nslab.spawn(0, ["true"], join=kept) as joined:
        assert joined.namespaces[kind] == found
    os.close(kept)
    with pytest.raises(ProcessLookupError):
        found.open()


@by_number
def test_per_02_an_open_namespace_is_found_by_its_number() -> None:
    with nslab.spawn("uts", ["cat"], stdin=nslab.PIPE, hostname="lab") as process:
        kept = process.namespaces["uts"].open()
    try:
        assert sh(0, "uname -n", join=process.namespaces["uts"]) == (0, "lab")
    finally:
        os.close(kept)


def test_wai_11_the_namespaces_of_who_has_ended() -> None:
    child = spawn("uts net", ["true"])
    mine = child.namespaces["uts"]
    child.wait()
    assert child.namespaces["uts"] == mine
    assert mine.inode != inode("uts")
    with pytest.raises(FileNotFoundError):
        nslab.namespaces(child.pid)
    with pytest.raises(ProcessLookupError):
        mine.open()
