"""`nslab.snapshot`: one process's answers to all the questions, held against what a program inside sees."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, inode, spawn
from nested import as_nobody

import nslab
from nslab._inspect.processes import ProcessInfo, ProcessTree
from nslab._inspect.snapshot import Snapshot

LOOK = """
id -u; id -g; uname -n; cat /proc/sys/kernel/domainname; cut -d ' ' -f 5 /proc/self/mountinfo | tr '\\n' ' '; echo
ls /sys/class/net 2>/dev/null | tr '\\n' ' '; echo; echo ready; exec cat
"""
EVERYTHING: dict[str, Any] = {
    "hostname": "lab",
    "domainname": "nis",
    "map_root_user": True,
    "mount_proc": True,
    "loopback": True,
    "monotonic": 1000,
    "boottime": 5000,
}


@contextmanager
def lab(script: str = LOOK, flags: str = "all", **options: Any) -> Iterator[tuple[nslab.Process, list[str]]]:
    """A shell in all namespaces, and what it printed."""
    argv = ["/bin/sh", "-c", script]
    with spawn(flags, argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True, **options) as process:
        assert process.stdout
        lines: list[str] = []
        while (line := process.stdout.readline()) != "ready\n":
            assert line, lines
            lines.append(line.rstrip("\n"))
        try:
            yield process, lines
        finally:
            process.kill()


@pytest.mark.unprivileged
def test_what_a_program_inside_sees() -> None:
    with lab(**EVERYTHING) as (process, lines):
        seen = nslab.snapshot(process)
        uid, gid, hostname, domainname, mounts, *_ = lines
        assert (str(seen.uid), str(seen.gid)) == (uid, gid) == ("0", "0")
        assert (seen.hostname, seen.domainname) == (hostname, domainname) == ("lab", "nis")
        assert (seen.name, seen.pid, dict(seen.notes)) == (f"pid {process.pid}", process.pid, {})
        assert dict(seen.namespaces) == dict(nslab.namespaces(process.pid)) == dict(process.namespaces)
        assert seen.mounts is not None
        assert [mount.target for mount in seen.mounts] == mounts.split()
        assert seen.processes is not None
        assert [(info.pid, info.pids) for info in seen.processes.roots] == [(process.pid, (process.pid, 1))]
        assert seen.clocks is not None
        assert seen.clocks.monotonic_offset == 1000 * 10**9
        assert seen.capabilities is not None
        assert len(seen.capabilities.effective) == seen.capabilities.known
        assert seen.network is not None
        assert seen.network.links[0].name == "lo"
        assert seen.network.links[0].up
        assert seen.ipc is not None
        assert seen.ipc.note is None
        assert seen.cgroup is not None
        assert {path.inside for path in seen.cgroup.paths} == {"/"}


@pytest.mark.unprivileged
def test_every_part_is_what_its_own_function_says() -> None:
    with lab(**EVERYTHING) as (process, _):
        seen = nslab.snapshot(process.pid)
        assert seen.mounts == nslab.mounts(process)
        assert seen.id_maps == nslab.id_maps(process)
        assert seen.capabilities == nslab.capabilities(process)
        assert seen.network == nslab.network(process)
        assert seen.ipc == nslab.ipc(process)
        assert seen.cgroup == nslab.cgroup(process)
        assert seen.clocks is not None
        clocks = nslab.clocks(process)
        assert clocks.namespace == seen.clocks.namespace
        assert 0 < clocks.monotonic - seen.clocks.monotonic < 60 * 10**9


@pytest.mark.unprivileged
def test_the_caller() -> None:
    seen = nslab.snapshot()
    assert (seen.name, seen.pid, seen.notes.keys() - {"ipc"}) == ("host", os.getpid(), set())
    assert (seen.uid, seen.gid) == (os.geteuid(), os.getegid())
    assert seen.hostname == os.uname().nodename
    assert seen.domainname == Path("/proc/sys/kernel/domainname").read_text().strip()
    assert {kind: found.inode for kind, found in seen.namespaces.items()} == {
        kind: inode(kind) for kind in seen.namespaces
    }
    assert seen.processes is not None
    assert os.getpid() in pids(seen.processes)


def pids(tree: ProcessTree | None) -> dict[int, tuple[int, ...]]:
    """Return the pids on all levels of the processes of a tree."""
    assert tree is not None
    order: list[ProcessInfo] = list(tree.roots)
    for info in order:
        order += info.children
    return {info.pid: info.pids for info in order}


@pytest.mark.unprivileged
def test_the_processes_are_those_of_its_pid_namespace_and_below() -> None:
    script = "sleep 1000 & unshare --pid --fork sleep 1001 & echo ready; exec cat"
    with lab(script, "pid mnt", mount_proc=True) as (process, _):
        user = [] if ROOT else [process.namespaces["user"]]
        join: dict[str, Any] = {"join": [process.namespaces["pid"], *user]}
        with nslab.spawn(0, ["cat"], stdin=nslab.PIPE, **join) as entered:
            # The shell, both that it started, the one in a namespace of its own, and the one that came from outside.
            while len(found := pids(nslab.snapshot(process).processes)) < 5:
                os.sched_yield()
            assert sorted(len(chain) for chain in found.values()) == [2, 2, 2, 2, 3]
            assert len({chain[1] for chain in found.values()}) == 5
            assert found[process.pid] == (process.pid, 1)
            roots = nslab.snapshot(process).processes
            assert roots is not None
            # One that came from outside has its parent there.
            assert {info.pid for info in roots.roots} == {process.pid, entered.pid}
            assert os.getpid() not in found
        everybody = pids(nslab.snapshot().processes)
        assert everybody.items() >= {process.pid: (process.pid, 1)}.items()
        [below] = [pid for pid, chain in found.items() if len(chain) == 3]
        assert list(pids(nslab.snapshot(below).processes)) == [below]


@pytest.mark.skipif(not ROOT, reason="only root may map several ids")
def test_ids_are_as_the_process_has_them() -> None:
    maps: dict[str, Any] = {"map_users": [(0, 0, 1), (5, 7000, 10)], "map_groups": [(0, 0, 1), (6, 8000, 10)]}
    script = "setpriv --reuid 7 --regid 9 --clear-groups sh -c 'id -u; id -g; echo ready; exec cat'"
    with lab(f"exec {script}", "user", **maps) as (process, lines):
        seen = nslab.snapshot(process)
        assert [str(seen.uid), str(seen.gid)] == lines == ["7", "9"]
    unmapped: dict[str, Any] = {"map_users": [(5, 7000, 1)], "map_groups": [(5, 7000, 1)]}
    with lab("id -u; id -g; echo ready; exec cat", "user", **unmapped) as (process, lines):
        seen = nslab.snapshot(process)
        assert [str(seen.uid), str(seen.gid)] == lines == ["65534", "65534"]


def seen_by_nobody(pid: int) -> Snapshot:
    return unproxied(nslab.snapshot(pid))


def unproxied(seen: Snapshot) -> Snapshot:
    """Return one that can be pickled, without what holds read-only mappings."""
    return dataclasses.replace(seen, namespaces=dict(seen.namespaces), notes=dict(seen.notes), processes=None)


@pytest.mark.skipif(not ROOT, reason="needs a process of root")
def test_another_users_process() -> None:
    with nslab.spawn("uts net", ["cat"], stdin=nslab.PIPE, hostname="lab") as process:
        seen = as_nobody(seen_by_nobody, process.pid)
    refused = f"process {process.pid} may not be inspected: it belongs to another user (uid 0)"
    hidden = {"namespaces", "hostname", "domainname", "processes", "network", "ipc"}
    assert {field for field, note in seen.notes.items() if note == refused} >= hidden
    assert (seen.hostname, seen.network, seen.ipc, dict(seen.namespaces)) == (None, None, None, {})
    assert (seen.uid, seen.gid) == (0, 0)
    assert seen.capabilities is not None
    assert seen.cgroup is not None
    for field in seen.notes:
        assert not getattr(seen, field), field


@pytest.mark.unprivileged
def test_to_dict_is_json() -> None:
    with lab(**EVERYTHING) as (process, _):
        found = json.loads(json.dumps(nslab.snapshot(process).to_dict()))
    assert found["hostname"] == "lab"
    assert found["network"]["links"][0]["name"] == "lo"
    assert found["namespaces"]["uts"]["inode"] == process.namespaces["uts"].inode
    assert found["processes"]["roots"][0]["pids"] == [process.pid, 1]


@pytest.mark.unprivileged
def test_who_is_gone() -> None:
    with spawn("uts", ["cat"], stdin=nslab.PIPE) as process:
        pass
    for target in (process, process.pid):
        with pytest.raises(ProcessLookupError, match=str(process.pid)):
            nslab.snapshot(target)


@pytest.mark.unprivileged
def test_one_that_ends_meanwhile() -> None:
    outcomes: set[str] = set()
    for _ in range(30):
        with spawn("uts net ipc", ["cat"], stdin=nslab.PIPE) as process:
            thread = threading.Thread(target=process.send_signal, args=(signal.SIGKILL,))
            thread.start()
            try:
                outcomes.add(str(dict(nslab.snapshot(process).notes)))
            except ProcessLookupError as error:
                outcomes.add(str(error).replace(str(process.pid), "PID"))
            thread.join()
    assert outcomes <= {"{}", "[Errno 3] process PID has ended", "[Errno 3] there is no process PID"}


@pytest.mark.unprivileged
def test_a_popen_of_subprocess() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        seen = nslab.snapshot(process)
        assert (seen.pid, seen.namespaces["net"].inode) == (process.pid, inode("net"))


@pytest.mark.unprivileged
@pytest.mark.parametrize(("target", "error"), [("1", TypeError), (-1, ValueError)])
def test_what_is_no_process(target: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        nslab.snapshot(target)
