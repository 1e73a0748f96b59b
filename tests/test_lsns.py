"""Every namespace on the machine, held against lsns(8)."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from conftest import ROOT, inode, spawn
from listing import COLUMNS, found, lsns, row_of
from nested import inside

import nslab
from nslab import Namespace
from nslab._inspect.lsns import NamespaceInfo

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]

root_only = pytest.mark.skipif(not ROOT, reason="only root sees the namespaces of all")


def as_lsns_has_it(row: NamespaceInfo) -> dict[str, Any]:
    """Return the fields of lsns(8), with its words for what is missing."""
    fields = row.to_dict()
    row_of_lsns = {name.lower(): fields[name.lower()] for name in COLUMNS.split(",")}
    row_of_lsns["nsfs"] = "\n".join(fields["nsfs"]) or None
    row_of_lsns["pns"] = fields["pns"] or 0
    row_of_lsns["ons"] = fields["ons"] or 0
    if row.type == "net" and row.netnsid is None:
        row_of_lsns["netnsid"] = "unassigned"
    return row_of_lsns


@pytest.mark.unprivileged
def test_every_namespace_that_lsns_finds() -> None:
    with spawn("all", ["cat"], stdin=nslab.PIPE, **as_root_inside()):
        before, ours, after = lsns(), found(nslab.lsns()), lsns()
        # An inode that is free again may be another namespace's, so the first process has to be the same.
        lasting = {key for key in before.keys() & after.keys() if before[key]["pid"] == after[key]["pid"] is not None}
        assert lasting - ours.keys() == set()


def as_root_inside() -> dict[str, Any]:
    return {"map_root_user": True} if ROOT else {}


@pytest.mark.unprivileged
def test_every_field_that_lsns_has() -> None:
    script = "exec 9>&1; sleep 60 & sleep 60 & exec cat"
    with spawn("all", ["sh", "-c", script], stdin=nslab.PIPE, stdout=nslab.PIPE, **as_root_inside()) as first:
        assert first.stdin
        assert first.stdout
        first.stdin.write(b"executed\n")
        first.stdin.flush()
        assert first.stdout.readline() == b"executed\n"
        theirs, ours = lsns(), found(nslab.lsns())
        first.kill()
    for kind, namespace in first.namespaces.items():
        key = kind, namespace.inode
        assert as_lsns_has_it(ours[key]) == theirs[key]
        assert ours[key].nprocs == 3
        assert ours[key].namespace == namespace
        assert "process" in ours[key].held_by


@root_only
def test_the_fields_of_the_namespaces_of_the_host() -> None:
    for kind in KINDS:
        row = row_of(nslab.namespaces(os.getpid())[kind], kind)
        assert row.pid
        assert row.path == f"/proc/{row.pid}/ns/{kind}"
        assert inode(kind, row.pid) == inode(kind)
        assert row.nprocs > 1
        assert row.owner_uid == 0


@pytest.mark.unprivileged
def test_the_parent_and_the_owner() -> None:
    with spawn("user pid uts", ["cat"], stdin=nslab.PIPE, map_root_user=True) as child:
        rows = {kind: row_of(child.namespaces[kind]) for kind in ("user", "pid", "uts")}
        own = nslab.namespaces(os.getpid())
        for kind, row in rows.items():
            identity = child.namespaces[kind]
            assert (identity.parent, identity.owner, identity.owner_uid) == (row.parent, row.owner, row.owner_uid)
            assert row.owner_uid == os.geteuid()
        assert rows["user"].parent == rows["user"].owner == own["user"]
        assert rows["pid"].parent == own["pid"]
        assert rows["pid"].owner == rows["uts"].owner == child.namespaces["user"]
        assert rows["uts"].parent is None
    with pytest.raises(ProcessLookupError):
        _ = child.namespaces["uts"].owner


@pytest.mark.unprivileged
def test_what_is_outside_of_the_callers_own_is_not_shown() -> None:
    assert inside("user pid", _relations, map_root_user=True) == {"user": (None, None), "pid": (None, "user")}


def _relations() -> dict[str, tuple[object, object]]:
    own = [row.namespaces[0] for row in nslab.compare(None, None).rows]
    rows = {row.type: row for row in nslab.lsns("user pid") if row.namespace in own}
    assert [row.namespace.parent for row in rows.values()] == [None, None]
    return {kind: (row.parent and row.parent.type, row.owner and row.owner.type) for kind, row in rows.items()}


@pytest.mark.unprivileged
def test_the_order_of_rows() -> None:
    with spawn("uts ipc", ["cat"], stdin=nslab.PIPE):
        rows = [row.namespace for row in nslab.lsns()]
        assert rows == sorted(rows, key=lambda row: (row.type, row.id or row.inode))


@pytest.mark.unprivileged
def test_only_the_types_that_are_asked_for() -> None:
    assert {row.type for row in nslab.lsns("uts,net")} == {"uts", "net"}
    assert {row.type for row in nslab.lsns(Namespace.USER)} == {"user"}
    everything = [row.type for row in nslab.lsns()]
    assert everything == sorted(everything)
    assert set(everything) == set(KINDS)
    for nothing in ("", None, 0):
        with pytest.raises(ValueError, match="types names no namespace"):
            nslab.lsns(nothing)
    with pytest.raises(ValueError, match="did you mean"):
        nslab.lsns("utc")


@pytest.mark.unprivileged
def test_a_row_is_ready_for_json() -> None:
    table = nslab.lsns("uts")
    assert len(json.loads(json.dumps(table.to_dict()))["namespaces"]) == len(table)
    row = table[0].to_dict()
    assert row.keys() >= {"ns", "type", "nprocs", "pid", "ppid", "command", "uid", "user", "path", "netnsid", "nsfs"}
