"""What `nslab.cgroup` says, held against /proc/PID/cgroup read by hand outside and inside."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import seccomp
from conftest import ROOT, inode, spawn
from nested import as_nobody, inside, mount

import nslab
from nslab._inspect.cgroup import CgroupView


def lines(text: str) -> list[tuple[int, tuple[str, ...], str]]:
    """Return hierarchy, controllers and path of each line of a /proc/PID/cgroup."""
    rows = [line.split(":", 2) for line in text.splitlines()]
    return [(int(number), tuple(filter(None, names.split(","))), path) for number, names, path in rows]


def check(process: nslab.Process) -> CgroupView:
    """Hold every field against what is read in both namespaces."""
    found = nslab.cgroup(process)
    join = [process.namespaces["cgroup"]] + ([] if ROOT else [process.namespaces["user"]])
    argv = ["cat", f"/proc/{process.pid}/cgroup"]
    within = os.fsdecode(nslab.run(0, argv, stdout=nslab.PIPE, check=True, join=join).stdout)
    outside = lines(os.fsdecode(Path(f"/proc/{process.pid}/cgroup").read_bytes()))
    assert [(path.hierarchy, path.controllers, path.outside) for path in found.paths] == outside
    assert [(path.hierarchy, path.controllers, path.inside) for path in found.paths] == lines(within)
    assert found.namespace == process.namespaces["cgroup"]
    assert (found.pid, found.note) == (process.pid, None)
    return found


@pytest.mark.unprivileged
def test_a_namespace_of_its_own() -> None:
    with spawn("cgroup", ["cat"], stdin=nslab.PIPE) as process:
        found = check(process)
        assert {path.inside for path in found.paths} == {"/"}
        assert nslab.cgroup(process.pid) == found


@pytest.mark.unprivileged
def test_in_the_callers_namespace_both_are_the_same() -> None:
    with nslab.spawn("", ["cat"], stdin=nslab.PIPE) as process:
        for found in (nslab.cgroup(process), nslab.cgroup()):
            assert found.namespace is not None
            assert found.namespace.inode == inode("cgroup")
            assert [path.inside for path in found.paths] == [path.outside for path in found.paths]
        assert nslab.cgroup().pid == os.getpid()


@contextmanager
def unified(directory: str) -> Iterator[Path]:
    """A control group of our own for a while, in a cgroup2 that only this mount namespace sees mounted."""
    mount("none", directory, "cgroup2")
    cgroup = Path(directory, f"nslab-view-{os.getpid()}")
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        for below in sorted(cgroup.rglob("*/"), reverse=True):
            below.rmdir()
        cgroup.rmdir()


def view(process: nslab.Process) -> tuple[str, str | None]:
    """Return its place in the unified hierarchy, outside and inside."""
    [path] = [path for path in check(process).paths if path.hierarchy == 0]
    return path.outside, path.inside


def seen_in(directory: str, names: list[str]) -> list[tuple[str, str | None]]:
    """Make a namespace in a control group, move its process on, and return how it is seen in each."""
    before = next(path.outside for path in nslab.cgroup().paths if path.hierarchy == 0)
    seen = []
    with unified(directory) as cgroup:
        (cgroup / "cgroup.procs").write_text("0")
        try:
            with nslab.spawn("cgroup", ["cat"], stdin=nslab.PIPE) as process:
                for name in names:
                    place = Path(os.path.normpath(cgroup / name))
                    place.mkdir(exist_ok=True)
                    (place / "cgroup.procs").write_text(str(process.pid))
                    outside, inside = view(process)
                    seen.append((outside.replace(f"/{cgroup.name}", "/OWN"), inside))
        finally:
            Path(directory + before, "cgroup.procs").write_text("0")
    return seen


@pytest.mark.skipif(not ROOT, reason="only root may make a control group here")
def test_a_process_that_moves(tmp_path: Path) -> None:
    names = [".", "below", "below/deeper", "..", "with space", "a:b", "\udcff\udcfe", "(deleted)"]
    assert inside("mnt", seen_in, str(tmp_path), names) == [
        ("/OWN", "/"),
        ("/OWN/below", "/below"),
        ("/OWN/below/deeper", "/below/deeper"),
        ("/", "/.."),
        ("/OWN/with space", "/with space"),
        ("/OWN/a:b", "/a:b"),
        ("/OWN/\udcff\udcfe", "/\udcff\udcfe"),
        ("/OWN/(deleted)", "/(deleted)"),
    ]


def seen_by_one_below(pid: int) -> list[str]:
    return [path.outside for path in nslab.cgroup(pid).paths if path.hierarchy == 0]


def in_a_group(directory: str) -> list[str]:
    before = next(path.outside for path in nslab.cgroup().paths if path.hierarchy == 0)
    with unified(directory) as cgroup, nslab.spawn("", ["cat"], stdin=nslab.PIPE) as other:
        (cgroup / "cgroup.procs").write_text("0")
        try:
            return inside("cgroup", seen_by_one_below, other.pid)
        finally:
            Path(directory + before, "cgroup.procs").write_text("0")


@pytest.mark.skipif(not ROOT, reason="only root may make a control group here")
def test_outside_is_as_the_caller_has_it(tmp_path: Path) -> None:
    assert inside("mnt", in_a_group, str(tmp_path)) == ["/.."]


def of_others(pid: int) -> tuple[bool, set[str | None], str | None]:
    found = nslab.cgroup(pid)
    outside = lines(Path(f"/proc/{pid}/cgroup").read_text())
    assert [(path.hierarchy, path.controllers, path.outside) for path in found.paths] == outside
    return found.namespace is None, {path.inside for path in found.paths}, found.note


@pytest.mark.skipif(not ROOT, reason="needs a process of root")
def test_another_users_process_is_seen_from_outside() -> None:
    with nslab.spawn("cgroup", ["cat"], stdin=nslab.PIPE) as process:
        seen = as_nobody(of_others, process.pid)
    assert seen == (True, {None}, "the paths inside: the process may not be inspected")


@pytest.mark.skipif(not ROOT, reason="only root may make one without a user namespace")
def test_what_may_not_be_entered_is_seen_from_outside() -> None:
    with nslab.spawn("cgroup", ["cat"], stdin=nslab.PIPE, user=65534, group=65534, extra_groups=[]) as process:
        hidden, paths, note = as_nobody(of_others, process.pid)
    assert (hidden, paths) == (False, {None})
    assert note == (
        "the paths inside: to enter the cgroup namespace takes CAP_SYS_ADMIN in the user namespace that owns it"
    )


def without_clone3() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    test_a_namespace_of_its_own()


@pytest.mark.unprivileged
def test_where_clone3_is_refused() -> None:
    inside("", without_clone3)


@pytest.mark.unprivileged
def test_who_is_gone() -> None:
    with spawn("cgroup", ["cat"], stdin=nslab.PIPE) as process:
        pass
    for target in (process, process.pid):
        with pytest.raises(ProcessLookupError, match=str(process.pid)):
            nslab.cgroup(target)


@pytest.mark.unprivileged
def test_a_zombie_has_ended() -> None:
    with spawn("cgroup", ["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError, match="has ended"):
            nslab.cgroup(process.pid)


@pytest.mark.unprivileged
@pytest.mark.parametrize("target", ["1", 1.5, nslab.Namespace])
def test_what_is_no_process(target: Any) -> None:
    with pytest.raises(TypeError):
        nslab.cgroup(target)
