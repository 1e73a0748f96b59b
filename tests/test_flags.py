"""Every form of the flags, and every set of namespaces."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from conftest import ROOT, inode, sh, spawn
from nested import as_nobody

import nslab
from nslab import Namespace

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
SETS = [names for size in range(9) for names in combinations(KINDS, size)]


def bits(flags: Any) -> int:
    """Return what the core makes of it."""
    return int(nslab.plan(flags, ["true"])._core.flags)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.unprivileged
def test_flags_may_be_a_namespace_an_int_text_or_names(kind: str) -> None:
    flag = Namespace[kind.upper()]
    texts = (kind, kind.upper(), f" {kind} ", f"{kind},")
    for form in (flag, int(flag), *texts, [kind], (kind,), {kind}, [flag], [int(flag)]):
        assert bits(form) == flag


@pytest.mark.parametrize(
    "form",
    [
        "uts ipc",
        "uts,ipc",
        "uts, ipc",
        "ipc\tuts\nipc",
        ["uts", "ipc"],
        ("ipc", "uts"),
        {"uts", "ipc"},
        iter(["uts", "ipc"]),
        ["uts ipc"],
        ["uts", Namespace.IPC],
        Namespace.UTS | Namespace.IPC,
        nslab.CLONE_NEWUTS | nslab.CLONE_NEWIPC,
        nslab.CLONE_NEWUTS | nslab.CLONE_NEWIPC | signal.SIGCHLD,
    ],
)
def test_flags_may_be_several(form: Any) -> None:
    assert bits(form) == 0x04000000 | 0x08000000


@pytest.mark.parametrize(
    ("word", "flag"), [("mount", Namespace.MNT), ("ns", Namespace.MNT), ("network", Namespace.NET)]
)
def test_flags_may_have_the_other_names_of_two_namespaces(word: str, flag: Namespace) -> None:
    assert bits(word) == flag


@pytest.mark.parametrize("form", ["all", "ALL", Namespace.ALL, ["all"], " ".join(KINDS), KINDS, list(Namespace)])
def test_flags_may_be_all(form: Any) -> None:
    assert bits(form) == 0x7E020080


@pytest.mark.parametrize("form", [0, "", " , ", None, (), [], Namespace(0), signal.SIGCHLD, False])
def test_flags_may_be_nothing(form: Any) -> None:
    assert bits(form) == 0


def test_sigchld_is_accepted_beside_the_time_namespace_which_shares_its_byte() -> None:
    assert nslab.CLONE_NEWTIME == 0x80
    assert bits(nslab.CLONE_NEWTIME | signal.SIGCHLD) == Namespace.TIME


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (-1, "0x1"),
        (1 << 40, hex(1 << 40)),
        (nslab.CLONE_NEWUTS | 1 << 33, hex(1 << 33)),
        (0x100, "CLONE_VM"),
        (0x200, "CLONE_FS"),
        (0x400, "CLONE_FILES"),
        (0x800, "CLONE_SIGHAND"),
        (0x4000, "CLONE_VFORK"),
        (0x10000, "CLONE_THREAD"),
        (nslab.CLONE_NEWNS | 0x200, "CLONE_FS"),
        (int(signal.SIGTERM), "0x1"),
        (65, "0x1"),
        (nslab.CLONE_NEWUTS | signal.SIGKILL, "0x1"),
    ],
)
def test_flg_01_a_bit_that_is_no_namespace_is_named(flags: int, named: str, invalid: Callable[..., str]) -> None:
    message = invalid(flags)
    assert named in message
    assert "no namespace" in message


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        ("utz", "uts"),
        ("netw", "net"),
        ("pids", "pid"),
        ("users", "user"),
        ("uts,moun", "mount"),
        (["uts", "ipcc"], "ipc"),
    ],
)
def test_an_unknown_name_is_told_what_was_meant(flags: Any, meant: str, invalid: Callable[..., str]) -> None:
    message = invalid(flags)
    assert f"did you mean {meant!r}?" in message


def test_a_name_like_no_other_is_told_all_names(invalid: Callable[..., str]) -> None:
    message = invalid("xyzzy")
    assert "xyzzy" in message
    assert all(kind in message for kind in KINDS)


@pytest.mark.parametrize("flags", [1.5, object(), b"uts", [1.5], [None, 2.5]])
def test_flags_of_another_type_are_refused(flags: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        nslab.spawn(flags, ["true"])


def seen_by_child(flags: Any, **options: Any) -> dict[str, int]:
    """Return the inode of each namespace as the program sees it."""
    argv = ["stat", "-L", "-c", "%i", *(f"/proc/self/ns/{kind}" for kind in KINDS)]
    done = nslab.run(flags, argv, stdout=nslab.PIPE, text=True, **options)
    assert done.returncode == 0
    return dict(zip(KINDS, map(int, done.stdout.split()), strict=True))


def test_flg_02_a_plain_child_is_in_the_hosts_namespaces() -> None:
    hosts = {kind: inode(kind) for kind in KINDS}
    assert seen_by_child(0) == hosts
    with nslab.spawn(0, ["true"]) as child:
        assert {kind: found.inode for kind, found in child.namespaces.items()} == hosts


@pytest.mark.skipif(not ROOT, reason="only root may make them without the user namespace")
@pytest.mark.parametrize("with_user", [False, True])
def test_flg_03_each_namespace_is_new_if_and_only_if_its_flag_is_set(with_user: bool) -> None:
    hosts = {kind: inode(kind) for kind in KINDS}
    for names in SETS:
        if ("user" in names) != with_user:
            continue
        with nslab.spawn(names, ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE) as child:
            # The program lives until its input ends, so /proc shows its namespaces without nslab.
            found = {kind: inode(kind, child.pid) for kind in KINDS}
            assert child.communicate(b"runs") == (b"runs", None)
        assert {kind for kind in KINDS if found[kind] != hosts[kind]} == set(names)
        assert {kind: mine.inode for kind, mine in child.namespaces.items()} == found
        assert child.returncode == 0


@pytest.mark.unprivileged
@pytest.mark.parametrize("kind", KINDS)
def test_flg_03_each_alone_for_an_ordinary_user_beside_the_user_namespace(kind: str) -> None:
    with spawn(kind, ["cat"], stdin=nslab.PIPE) as child:
        new = {kind for kind in KINDS if inode(kind, child.pid) != inode(kind)}
    assert new == ({kind} if ROOT else {kind, "user"})


def test_flg_05_without_privilege_only_the_user_namespace_can_be_made() -> None:
    assert as_nobody(_alone_as_nobody) == {kind: None if kind == "user" else ("clone", errno.EPERM) for kind in KINDS}


def _alone_as_nobody() -> dict[str, tuple[str, int | None] | None]:
    found: dict[str, tuple[str, int | None] | None] = {}
    for kind in KINDS:
        try:
            nslab.spawn(kind, ["true"]).wait()
        except nslab.SpawnError as error:
            found[kind] = error.step, error.errno
        else:
            found[kind] = None
    return found


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["uts", "pid mnt", "net ipc cgroup", "user time", "all"])
def test_flg_07_what_the_program_starts_is_in_the_same_namespaces(flags: str) -> None:
    look = " ".join(f"/proc/self/ns/{kind}" for kind in KINDS)
    status, text = sh(flags, f"readlink {look}; sh -c 'readlink {look}; (readlink {look})'")
    assert status == 0
    lines = text.splitlines()
    assert len(lines) == 24
    assert lines[:8] == lines[8:16] == lines[16:]
