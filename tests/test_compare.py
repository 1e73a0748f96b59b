"""Which of the eight two processes share."""

from __future__ import annotations

import os
from typing import Any

import pytest
from conftest import ROOT, inode, spawn
from nested import as_nobody

import nslab
from nslab._inspect.compare import Comparison

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


@pytest.mark.unprivileged
@pytest.mark.parametrize("kinds", ["", *KINDS, "uts net time", "all"])
def test_what_differs_is_what_was_asked_for(kinds: str) -> None:
    with spawn(kinds, ["cat"], stdin=nslab.PIPE) as child:
        found = nslab.compare(None, child)
        differ = set(KINDS if kinds == "all" else kinds.split()) | ({"user"} if kinds and not ROOT else set())
        assert found.different == tuple(sorted(differ))
        assert found.names == ("host", f"pid {child.pid}")
        assert tuple(row.type for row in found.rows) == KINDS
        for row in found.rows:
            assert row.same is (row.type not in differ)
            by_hand = (inode(row.type), inode(row.type, child.pid))
            assert tuple(namespace and namespace.inode for namespace in row.namespaces) == by_hand


@pytest.mark.unprivileged
def test_several_processes() -> None:
    with spawn("uts", ["cat"], stdin=nslab.PIPE) as a, spawn("uts", ["cat"], stdin=nslab.PIPE) as b:
        found = nslab.compare(a.pid, b, a, "self")
        assert found.names == (f"pid {a.pid}", f"pid {b.pid}", f"pid {a.pid}", "host")
        assert "uts" in found.different
        uts = found.rows[-1]
        assert uts.namespaces == (a.namespaces["uts"], b.namespaces["uts"], a.namespaces["uts"], own("uts"))
        assert nslab.compare(a, a.pid).different == ()


def own(kind: str) -> nslab.NamespaceId:
    return nslab.namespaces(os.getpid())[kind]


@pytest.mark.unprivileged
def test_one_that_has_ended() -> None:
    with spawn("uts", ["true"]) as child:
        pass
    assert "uts" in nslab.compare(None, child).different
    with pytest.raises(ProcessLookupError, match=f"there is no process {child.pid}"):
        nslab.compare(None, child.pid)


def test_one_that_may_not_be_looked_at() -> None:
    found = as_nobody(compare_with, os.getpid())
    assert found.names == ("host", f"pid {os.getpid()}")
    assert found.different == ()
    assert {row.same for row in found.rows} == {None}
    assert {row.namespaces[1] for row in found.rows} == {None}
    assert None not in {row.namespaces[0] for row in found.rows}


def compare_with(pid: int) -> Comparison:
    return nslab.compare("self", pid)


@pytest.mark.unprivileged
@pytest.mark.parametrize("wrong", ["other", 1.5, []])
def test_what_is_no_process(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a process is given by its pid"):
        nslab.compare(None, wrong)


@pytest.mark.unprivileged
def test_it_takes_two() -> None:
    with pytest.raises(TypeError, match="compare takes at least two processes"):
        nslab.compare(None)
