"""Entering namespaces that exist: every form of `join`, and what is found there."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, inode, sh, spawn
from nested import as_nobody, inside, refusal

import nslab

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]

root_only = pytest.mark.skipif(not ROOT, reason="only root may join namespaces without their user namespace")


def living(flags: str = "all") -> nslab.Process:
    """Return a process in new namespaces that lives as long as the ``with`` statement that it is made for."""
    options = {"map_root_user": True} if flags in ("all", "user") else {}
    return spawn(flags, ["cat"], stdin=nslab.PIPE, **options)


def seen(flags: Any = 0, **options: Any) -> dict[str, int]:
    """Return the namespaces in which a program finds itself, and check that `Process.namespaces` agrees."""
    argv = ["stat", "-L", "-c", "%i", *(f"/proc/self/ns/{kind}" for kind in KINDS)]
    with nslab.spawn(flags, argv, stdout=nslab.PIPE, stderr=nslab.STDOUT, text=True, **options) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    found = dict(zip(KINDS, map(int, output.split()), strict=True))
    assert {kind: mine.inode for kind, mine in process.namespaces.items()} == found
    return found


def inodes(process: nslab.Process) -> dict[str, int]:
    """Return the same of a running process, by /proc and without nslab."""
    return {kind: inode(kind, process.pid) for kind in KINDS}


class Handle:
    """Any object that has a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


# Each form for one namespace, given its process, its name and an open descriptor of it.
FORMS: dict[str, Callable[[nslab.Process, str, int], Any]] = {
    "id": lambda process, kind, fd: process.namespaces[kind],
    "mapping of ids": lambda process, kind, fd: {kind: process.namespaces[kind]},
    "path": lambda process, kind, fd: f"/proc/{process.pid}/ns/{kind}",
    "bytes": lambda process, kind, fd: f"/proc/{process.pid}/ns/{kind}".encode(),
    "Path": lambda process, kind, fd: Path(f"/proc/{process.pid}/ns/{kind}"),
    "descriptor": lambda process, kind, fd: fd,
    "object with fileno()": lambda process, kind, fd: Handle(fd),
    "list": lambda process, kind, fd: [fd],
    "tuple": lambda process, kind, fd: (process.namespaces[kind],),
    "iterator": lambda process, kind, fd: iter([f"/proc/{process.pid}/ns/{kind}"]),
    "list of lists": lambda process, kind, fd: [[fd], []],
}


@root_only
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_namespace_in_every_form(kind: str, form: str) -> None:
    with living(kind) as target:
        fd = os.open(f"/proc/{target.pid}/ns/{kind}", os.O_RDONLY)
        try:
            found = seen(join=FORMS[form](target, kind, fd))
        finally:
            os.close(fd)
        assert found == inodes(target)
        assert found[kind] != inode(kind)


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    "form",
    [
        lambda target: target,
        lambda target: target.pidfd,
        lambda target: target.namespaces,
        lambda target: dict(target.namespaces),
        lambda target: nslab.namespaces(target.pid),
        lambda target: list(target.namespaces.values()),
        lambda target: [f"/proc/{target.pid}/ns/{kind}" for kind in KINDS],
        lambda target: [target],
    ],
    ids=["Process", "pidfd", "namespaces", "dict", "looked up", "ids", "paths", "in a list"],
)
def test_all_namespaces_in_every_form(form: Callable[[nslab.Process], Any]) -> None:
    with living() as target:
        assert seen(join=form(target)) == inodes(target)


@root_only
@pytest.mark.parametrize("flags", ["", "uts", "ipc net", "mnt pid", "time uts"])
def test_a_process_stands_for_its_namespaces_that_differ(flags: str) -> None:
    with living(flags) as target:
        assert seen(join=target) == inodes(target)
        assert seen(join=target.pidfd) == inodes(target)


@pytest.mark.unprivileged
def test_one_namespace_of_many_leaves_the_others() -> None:
    wanted = {"user", "uts", "ipc"}
    with living() as target:
        found = seen(join={kind: target.namespaces[kind] for kind in wanted})
        assert found == {kind: inode(kind, target.pid if kind in wanted else "self") for kind in KINDS}


@pytest.mark.unprivileged
@pytest.mark.parametrize("order", list(permutations(["user", "mnt", "uts"])))
def test_the_order_in_which_they_are_given_is_no_matter(order: tuple[str, ...]) -> None:
    with living() as target:
        found = seen(join=[f"/proc/{target.pid}/ns/{kind}" for kind in order])
        assert found == {kind: inode(kind, target.pid if kind in order else "self") for kind in KINDS}


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    "flags", ["uts", "mnt", "net", "time", "user", "uts ipc cgroup", "cgroup ipc mnt net time user uts"]
)
def test_new_namespaces_are_made_in_those_that_are_joined(flags: str) -> None:
    with living() as target:
        found, theirs = seen(flags, join=target), inodes(target)
    assert {kind for kind in KINDS if found[kind] != theirs[kind]} == set(flags.split())
    assert all(found[kind] != inode(kind) for kind in KINDS)


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["pid", "all"])
def test_no_pid_namespace_is_made_in_one_that_is_joined(flags: str) -> None:
    with living() as target, pytest.raises(ValueError, match='leave "pid" out of the flags'):
        nslab.spawn(flags, ["true"], join=target)


@pytest.mark.unprivileged
@pytest.mark.parametrize("nothing", [None, [], (), {}, iter([])])
def test_joining_nothing(nothing: Any) -> None:
    assert seen(join=nothing) == {kind: inode(kind) for kind in KINDS}


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["", "uts"])
def test_the_joined_program_is_waited_for_and_signalled_as_any(flags: str) -> None:
    with living() as target:
        with nslab.spawn(flags, ["cat"], stdin=nslab.PIPE, join=target) as process:
            assert inode("pid", process.pid) == inode("pid", target.pid)
            process.terminate()
            assert process.wait() == -15
        assert nslab.spawn(flags, ["sh", "-c", "exit 3"], join=target).wait() == 3


def test_joi_01_a_descriptor_that_is_none(refused: Callable[..., nslab.SpawnError]) -> None:
    assert "never a pid" in (refused("setns", errno.EBADF, 0, join=-1).hint or "")
    error = refused("setns", errno.EBADF, 0, join=os.getpid() + 100_000)
    assert "never a pid" in (error.hint or "")


@pytest.mark.parametrize("form", [lambda path: path, lambda path: os.open(path, os.O_RDONLY)])
def test_joi_01_a_file_that_is_no_namespace(
    form: Callable[[str], Any], refused: Callable[..., nslab.SpawnError]
) -> None:
    join = form("/etc/passwd")
    try:
        refused("setns", errno.EINVAL, "uts", join=join)
    finally:
        if isinstance(join, int):
            os.close(join)


def test_joi_01_a_fifo_is_no_namespace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    inside(0, _join_fifo, str(tmp_path / "fifo"))


def _join_fifo(path: str) -> None:
    # Who waits for a writer is ended by this.
    signal.alarm(3)
    error = refusal(0, {"join": path})
    assert (error.step, error.errno) == ("setns", errno.EINVAL)


def test_joi_01_without_privilege() -> None:
    error = as_nobody(refusal, 0, {"join": "/proc/self/ns/uts"})
    assert (error.step, error.errno) == ("setns", errno.EPERM)
    assert "CAP_SYS_ADMIN" in (error.hint or "")


@pytest.mark.parametrize(
    ("join", "named"), [(True, "bool"), (1.5, "float"), (object(), "object"), ([1.5], "float"), ([None], "NoneType")]
)
def test_joi_01_what_is_no_form_of_it(join: Any, named: str, invalid: Callable[..., str]) -> None:
    message = invalid(0, join=join)
    assert message.startswith("join takes a Process")
    assert message.endswith(f"not {named}")


def test_joi_02_a_path_that_is_missing(refused: Callable[..., nslab.SpawnError]) -> None:
    error = refused("open_ns", errno.ENOENT, 0, join="/nonexistent/ns")
    assert isinstance(error, FileNotFoundError)
    assert error.filename == "/nonexistent/ns"


def test_joi_02_a_path_with_nul(invalid: Callable[..., str]) -> None:
    assert invalid(0, join="/proc/\0") == "embedded null byte"


def test_joi_03_a_process_that_has_ended(refused: Callable[..., nslab.SpawnError]) -> None:
    with spawn("uts", ["true"]) as gone:
        pass
    error = refused("setns", errno.ESRCH, 0, join=gone)
    assert isinstance(error, ProcessLookupError)
    assert "NamespaceId.open()" in (error.hint or "")


@pytest.mark.parametrize(("last", "step"), [("/etc/passwd", "setns"), ("/nonexistent", "open_ns")])
def test_joi_03_all_or_nothing(last: str, step: str) -> None:
    with living() as target:
        with pytest.raises(nslab.SpawnError) as caught:
            nslab.spawn("uts", ["true"], join=[target, last])
        assert caught.value.step == step
        assert target.poll() is None


@root_only
def test_joi_04_uts_and_ipc_are_shared() -> None:
    with living("uts ipc") as target:
        assert sh(0, "hostname joined; ipcmk -Q", join=target)[0] == 0
        status, text = sh(0, "uname -n; ipcs -q", join=target)
        assert status == 0
        assert text.startswith("joined\n")
        assert "0x" in text
    assert "0x" not in sh("ipc", "ipcs -q")[1]


@pytest.mark.unprivileged
def test_joi_05_a_user_namespace_gives_all_capabilities() -> None:
    script = "id -u; grep CapEff /proc/self/status; mount -t tmpfs none /tmp && hostname x && uname -n"
    with living() as target:
        # Not by `sh`: the user namespace that an ordinary user needs is the one that is joined.
        join = target.namespaces["user"]
        done = nslab.run("mnt uts", ["sh", "-c", script], join=join, stdout=nslab.PIPE, stderr=nslab.STDOUT, text=True)
    status, text = done.returncode, done.stdout
    assert status == 0, text
    uid, capabilities, name = text.splitlines()
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert int(capabilities.split()[1], 16) == (1 << last + 1) - 1
    assert (uid, name) == ("0", "x")


@pytest.mark.unprivileged
def test_joi_07_the_user_namespace_one_is_in_already(refused: Callable[..., nslab.SpawnError]) -> None:
    error = refused("setns", errno.EINVAL, 0, join="/proc/self/ns/user")
    assert "own user namespace" in (error.hint or "")


@root_only
def test_joining_the_user_namespace_of_somebody_else_leaves_this_process_dumpable() -> None:
    """The fixture of all tests looks at the flag afterwards."""
    argv = ["unshare", "--user", "sh", "-c", "echo ready; exec cat"]
    somebody = {"user": 65534, "group": 65534, "extra_groups": []}
    with spawn("", argv, stdin=nslab.PIPE, stdout=nslab.PIPE, **somebody) as theirs:
        assert theirs.stdout and theirs.stdout.readline() == b"ready\n"
        assert seen(join=f"/proc/{theirs.pid}/ns/user")["user"] == inode("user", theirs.pid)
