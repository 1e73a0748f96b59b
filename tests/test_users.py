"""Who a process is, and what it may do: held against /proc, the kernel's header and setpriv(1)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, spawn
from nested import as_nobody, inside

import nslab
from nslab._inspect.users import NAMES, Capabilities, IdMaps, _names

HEADER = Path("/usr/include/linux/capability.h")
SETS = {
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "bounding": "CapBnd",
    "ambient": "CapAmb",
}


def by_hand(pid: int | str, name: str) -> list[tuple[int, ...]]:
    """Return the lines of a map."""
    return [tuple(map(int, line.split())) for line in Path(f"/proc/{pid}/{name}").read_text().splitlines()]


def check_maps(maps: IdMaps, pid: int | str) -> None:
    """Compare with /proc, which shows the maps as this process has them."""
    assert [(r.inside, r.outside, r.count) for r in maps.users] == by_hand(pid, "uid_map")
    assert [(r.inside, r.outside, r.count) for r in maps.groups] == by_hand(pid, "gid_map")
    assert maps.setgroups == Path(f"/proc/{pid}/setgroups").read_text().strip()


@pytest.mark.unprivileged
def test_the_maps_of_the_caller() -> None:
    maps = nslab.id_maps()
    assert maps.namespace == nslab.namespaces(os.getpid())["user"]
    assert maps.pid == os.getpid()
    check_maps(maps, "self")


@pytest.mark.unprivileged
def test_one_id() -> None:
    with spawn("user", ["cat"], map_root_user=True, stdin=nslab.PIPE) as child:
        maps = nslab.id_maps(child)
        check_maps(maps, child.pid)
        assert (maps.users[0].inside, maps.users[0].outside, maps.users[0].count) == (0, os.geteuid(), 1)
        assert maps.setgroups == "deny"
        assert maps.namespace == child.namespaces["user"]


@pytest.mark.unprivileged
def test_no_map_at_all() -> None:
    with spawn("user", ["cat"], stdin=nslab.PIPE) as child:
        maps = nslab.id_maps(child)
        assert (maps.users, maps.groups, maps.setgroups) == ((), (), "allow")


@pytest.mark.skipif(not ROOT, reason="only root may map many")
def test_many_ids() -> None:
    users, groups = [(0, 100_000, 1000), (2000, 0, 1)], [(n, 5000 + 2 * n, 1) for n in range(340)]
    with spawn("user", ["cat"], map_users=users, map_groups=groups, stdin=nslab.PIPE) as child:
        maps = nslab.id_maps(child)
        check_maps(maps, child.pid)
        assert [(r.inside, r.outside, r.count) for r in maps.users] == users
        assert len(maps.groups) == 340
        assert maps.setgroups == "allow"


@pytest.mark.unprivileged
def test_ids_that_the_caller_does_not_have() -> None:
    # From inside, the initial one's ids have no number.
    outer, inner = inside("user", _from_inside, os.getppid(), map_root_user=True)
    assert outer == 2**32 - 1 or outer == 0
    assert inner == os.geteuid()


def _from_inside(pid: int) -> tuple[int, int]:
    return nslab.id_maps(pid).users[0].outside, nslab.id_maps().users[0].outside


def check_capabilities(found: Capabilities, pid: int | str) -> None:
    """Compare with the bits in /proc."""
    text = Path(f"/proc/{pid}/status").read_text()
    for field, key in SETS.items():
        match = re.search(rf"^{key}:\t([0-9a-f]+)$", text, re.MULTILINE)
        assert match
        names = getattr(found, field)
        assert sum(1 << NAMES.index(name) for name in names) == int(match[1], 16)
        assert list(names) == sorted(names, key=NAMES.index)
    assert found.known == int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1
    assert f"NoNewPrivs:\t{int(found.no_new_privs)}" in text


@pytest.mark.unprivileged
def test_the_capabilities_of_the_caller() -> None:
    check_capabilities(nslab.capabilities(), "self")


@pytest.mark.unprivileged
def test_all_capabilities_in_a_new_user_namespace() -> None:
    with spawn("user", ["cat"], map_root_user=True, stdin=nslab.PIPE) as child:
        found = nslab.capabilities(child)
        check_capabilities(found, child.pid)
        assert found.effective == NAMES[: found.known]


@pytest.mark.unprivileged
def test_sets_that_differ() -> None:
    drop = [
        "setpriv",
        "--bounding-set=-sys_admin",
        "--inh-caps=+kill,+chown",
        "--ambient-caps=+chown",
        "--no-new-privs",
    ]
    argv = [*drop, "sh", "-c", "echo ready; read line"]
    with spawn("user", argv, map_root_user=True, stdin=nslab.PIPE, stdout=nslab.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        found = nslab.capabilities(child)
        check_capabilities(found, child.pid)
        assert found.inheritable == ("CAP_CHOWN", "CAP_KILL")
        assert found.ambient == ("CAP_CHOWN",)
        assert "CAP_SYS_ADMIN" not in found.bounding
        assert found.no_new_privs


def test_an_ordinary_user_has_none() -> None:
    found = as_nobody(nslab.capabilities)
    assert (found.effective, found.permitted) == ((), ())
    # Who is it that one may look at, too: the file is for all.
    assert as_nobody(nslab.capabilities, os.getpid()) == nslab.capabilities()


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed")
def test_the_names_are_those_of_the_header() -> None:
    rows = re.findall(r"^#define (CAP_\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE)
    header = {int(number): name for name, number in rows}
    assert {number: NAMES[number] for number in header} == header
    # What is not there is newer than the header.
    assert set(range(len(NAMES))) >= set(header)


@pytest.mark.unprivileged
def test_the_names_are_those_of_setpriv() -> None:
    text = subprocess.run(["setpriv", "--list-caps"], stdout=nslab.PIPE, text=True, check=True).stdout
    assert ["CAP_" + line.upper() for line in text.split()] == list(NAMES[: len(text.split())])


def test_one_that_is_too_new_has_a_number() -> None:
    assert _names(1 << 63 | 1 << 41 | 1 << 40 | 1) == ("CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "CAP_41", "CAP_63")
    assert _names(0) == ()


@pytest.mark.unprivileged
def test_who_has_ended() -> None:
    child = spawn("user", ["true"])
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    # A zombie still has its user namespace, and nothing else.
    assert nslab.id_maps(child).namespace == child.namespaces["user"]
    failures: list[Callable[..., object]] = [nslab.clocks, nslab.mounts]
    for what in failures:
        with pytest.raises(ProcessLookupError, match=f"process {child.pid} has ended"):
            what(child.pid)
    child.wait()
    for what in [*failures, nslab.id_maps, nslab.capabilities, nslab.processes]:
        with pytest.raises(ProcessLookupError, match=f"process {child.pid} has ended"):
            what(child)
        with pytest.raises(ProcessLookupError, match=f"there is no process {child.pid}"):
            what(child.pid)
