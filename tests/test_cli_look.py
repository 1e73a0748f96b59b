"""The verbs that look: `ls`, `tree`, `show`, `diff`, `mounts`."""

from __future__ import annotations

import io
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import command, on_terminal, output, usage_error
from conftest import ROOT, as_ordinary_user, inode, spawn

import nslab
from nslab._cli.terminal import Progress


@contextmanager
def living() -> Iterator[nslab.Process]:
    """A process in namespaces of its own, with a host name and a mount that nobody else has."""
    script = "mount -t tmpfs only-here /mnt && echo ready && exec cat"
    pipes = {"stdin": nslab.PIPE, "stdout": nslab.PIPE}
    with spawn("uts mnt pid", ["sh", "-c", script], hostname="look-lab", mount_proc=True, **pipes) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        yield process


def as_json(*words: str) -> Any:
    return json.loads(output(*words, "--json"))


@pytest.mark.unprivileged
def test_ls_lists_what_lsns_does() -> None:
    with living() as lab:
        rows = {row["ns"]: row for row in as_json("ls", "--type", "uts,mnt")["namespaces"]}
        assert {row["type"] for row in rows.values()} == {"uts", "mnt"}
        found = rows[inode("uts", lab.pid)]
        assert (found["pid"], found["nprocs"], found["command"]) == (lab.pid, 1, "cat")
        assert f"{lab.pid}" in output("ls")


@pytest.mark.unprivileged
def test_tree_of_namespaces_and_of_processes() -> None:
    with living() as lab:
        assert str(inode("uts", lab.pid)) in output("tree")
        (root,) = as_json("tree", str(lab.pid))["roots"]
        assert (root["pid"], root["pids"]) == (lab.pid, [lab.pid, 1])
        assert "cat" in output("tree", str(lab.pid))


@pytest.mark.unprivileged
def test_show_what_a_process_sees() -> None:
    with living() as lab:
        seen = as_json("show", str(lab.pid))
        assert seen["hostname"] == "look-lab"
        assert "only-here" in {mount["source"] for mount in seen["mounts"]["mounts"]}
        text = output("show", str(lab.pid))
        assert "look-lab" in text
        assert "different: mnt, pid" in text


@pytest.mark.unprivileged
def test_diff_of_two_processes() -> None:
    with living() as lab:
        mine = str(os.getpid())
        differ = as_json("diff", mine, str(lab.pid))
        assert [mount["source"] for mount in differ["mounts"]["added"]] == ["proc", "only-here"]
        assert [one["hostname"] for one in differ["processes"]] == [os.uname().nodename, "look-lab"]
        text = output("diff", mine, str(lab.pid))
        assert "look-lab" in text
        assert "+ 2 added" in text


@pytest.mark.unprivileged
def test_mounts_and_what_differs() -> None:
    with living() as lab:
        assert "only-here" in output("mounts", str(lab.pid))
        differ = as_json("mounts", str(lab.pid), "--against", str(os.getpid()))
        assert [mount["target"] for mount in differ["added"]] == ["/proc", "/mnt"]


@pytest.mark.unprivileged
@pytest.mark.parametrize("words", ["ls", "tree", "tree {pid}", "show {pid}", "diff {pid} {pid}", "mounts {pid}"])
def test_every_picture_can_be_saved(words: str, tmp_path: Path) -> None:
    with living() as lab:
        file = tmp_path / "picture.svg"
        assert output(*words.format(pid=lab.pid).split(), "--svg", str(file)) == ""
        assert ET.parse(file).getroot().tag.endswith("svg")


def test_a_picture_is_an_svg() -> None:
    assert "--svg" in usage_error("ls", "--svg", "picture.png")


@pytest.mark.unprivileged
@pytest.mark.parametrize("verb", ["tree", "show", "mounts"])
def test_a_process_that_is_gone(verb: str) -> None:
    with spawn("", ["true"]) as gone:
        pass
    done = command(verb, str(gone.pid))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"nslab: there is no process {gone.pid}\n")


@pytest.mark.skipif(not ROOT, reason="only root can have a process that an ordinary user may not look into")
def test_a_process_of_somebody_else() -> None:
    with living() as lab:
        done = as_ordinary_user(f"$PYTHON -m nslab show {lab.pid}")
        assert done.returncode == 0
        assert f"could not be looked at: {', '.join(nslab.namespaces(os.getpid()))}" in done.stdout
        assert "belongs to another user" in done.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_scan_on_a_terminal() -> None:
    said, status = on_terminal("ls")
    assert status == 0
    # Progress, where it took long enough to be drawn, is gone in the end.
    assert not re.search(rb"\d of \d+ processes", said.rpartition(b"\r\033[K")[2])
    assert b"mnt" in said


def test_no_progress_for_a_short_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with Progress("processes", after=60) as progress:
        progress(500, 1000)
    assert terminal.getvalue() == ""


def test_progress_of_a_long_scan_is_wiped_out_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with Progress("processes", after=0) as progress:
        progress(500, 1000)
    assert terminal.getvalue() == "\r\033[K500 of 1000 processes\r\033[K"
