"""The experiments of the classroom text: every verdict, and that a verdict can be false."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, as_ordinary_user, sh

from nslab.experiments import EXPERIMENTS, Check, run

NAMES = ["clone", "uts", "ipc", "pid", "mount", "net", "user", "cgroup", "time"]


@pytest.fixture(autouse=True)
def no_ipc_object_is_left() -> Iterator[None]:
    """Beside what every test checks: hostname, mounts, namespaces."""
    tables = [Path(f"/proc/sysvipc/{kind}") for kind in ("msg", "sem", "shm")]
    before = [len(table.read_text().splitlines()) for table in tables]
    yield
    assert [len(table.read_text().splitlines()) for table in tables] == before


def tour(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "nslab", "tour", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, **options)


def seen(name: str) -> list[dict[str, tuple[str, str]]]:
    """Make an experiment; return, for each call, what both sides answered."""
    outcome = run(EXPERIMENTS[name])
    assert outcome.holds, outcome.reasons
    return [{row.what: (row.child, row.host) for row in made.seen} for made in outcome.made]


def test_the_experiments_of_the_text_in_its_order() -> None:
    assert list(EXPERIMENTS) == NAMES
    assert [experiment.name for experiment in EXPERIMENTS.values()] == NAMES


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_is_true(name: str) -> None:
    outcome = run(EXPERIMENTS[name])
    assert outcome.holds, outcome.reasons
    assert outcome.made
    assert all(made.seen for made in outcome.made)
    for made in outcome.made:
        compile(made.call, "call", "eval")
    assert outcome.made[0].user_added == (not ROOT and name not in ("clone", "user"))


# What the text says about each, read off what was seen; the verdicts themselves are not asked.


@pytest.mark.unprivileged
def test_the_text_on_clone() -> None:
    (call,) = seen("clone")
    assert call["pid: $$"][0] == call["pid: $$"][1]
    assert call["parent: $PPID"] == (str(os.getpid()), str(os.getpid()))
    assert call["exit status"] == ("7", "7")


@pytest.mark.unprivileged
def test_the_text_on_uts() -> None:
    for call in seen("uts"):
        assert call["hostname"] == ("container", os.uname().nodename)
        assert call["the host's name"] == ("", "unchanged")


@pytest.mark.unprivileged
def test_the_text_on_ipc() -> None:
    (call,) = seen("ipc")
    assert call["ipcmk -Q"][0] == "Message queue id: 0"
    child, host = call["ipcs -q"]
    key = child.splitlines()[-1].split()[0]
    assert key.startswith("0x")
    assert key not in host


@pytest.mark.unprivileged
def test_the_text_on_pid() -> None:
    (call,) = seen("pid")
    assert call["pid: $$"][0] == "1"
    assert int(call["pid: $$"][1]) > 1
    assert call["parent: $PPID"] == ("0", str(os.getpid()))


@pytest.mark.unprivileged
def test_the_text_on_mount() -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    host, leak, cure = seen("mount")
    assert host["/ is"][0] == "shared"
    assert leak["ps ax"][0].split()[:4] == ["PID", "COMMAND", "1", "sh"]
    assert "PID COMMAND" not in leak["ps ax"][1]
    assert cure["ps ax"][0].split()[:4] == ["PID", "COMMAND", "1", "sh"]
    assert "python" in cure["ps ax"][1]
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.unprivileged
def test_the_text_on_net() -> None:
    down, up = seen("net")
    assert down["ip -br link"][0].split()[:2] == ["lo", "DOWN"]
    assert "127.0.0.1/8" in up["ip -br addr show up"][0]


@pytest.mark.unprivileged
def test_beyond_the_text_user() -> None:
    call = seen("user")[0]
    assert call["uid"] == ("0", str(os.geteuid()))
    assert call["/proc/self/uid_map"][0].split() == ["0", str(os.geteuid()), "1"]


@pytest.mark.unprivileged
def test_beyond_the_text_cgroup() -> None:
    (call,) = seen("cgroup")
    child, host = call["/proc/PID/cgroup"]
    assert {line.split(":", 2)[2] for line in child.splitlines()} == {"/"}
    assert host == Path("/proc/self/cgroup").read_text().strip()


@pytest.mark.unprivileged
def test_beyond_the_text_time() -> None:
    (call,) = seen("time")
    child, host = map(float, call["/proc/uptime"])
    assert child - host == pytest.approx(86400, abs=5)


# ---------------------------------------------------------------------------------------------- verdicts that are false


@pytest.mark.unprivileged
def test_without_the_namespace_the_verdict_is_false() -> None:
    experiment = EXPERIMENTS["pid"]
    outcome = run(replace(experiment, trials=(replace(experiment.trials[0], flags=""),)))
    assert not outcome.holds
    assert "not so: the child is process 1" in outcome.reasons
    assert "not so: the child is in a pid namespace of its own" in outcome.reasons


@pytest.mark.unprivileged
def test_without_the_leak_the_verdict_is_false() -> None:
    # Only inside: the nested host reads its rows anew, so the row is tried here, where a private mount leaks nowhere.
    (outer,) = EXPERIMENTS["mount"].trials
    cure = outer.inside[1]
    always = Check("the host's ps is broken", lambda _, host: "PID" not in host["ps ax"])
    outcome = run(replace(EXPERIMENTS["mount"], trials=(replace(cure, checks=(always,)),)))
    assert outcome.reasons == ("not so: the host's ps is broken",)


@pytest.mark.unprivileged
def test_an_answer_that_is_none_is_a_false_verdict() -> None:
    experiment = EXPERIMENTS["time"]
    (trial,) = experiment.trials
    looks = tuple(replace(look, child="true") for look in trial.looks)
    outcome = run(replace(experiment, trials=(replace(trial, looks=looks),)))
    assert "not so: the child's uptime is a day longer" in outcome.reasons


@pytest.mark.unprivileged
def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = run(EXPERIMENTS["ipc"])
    assert not outcome.holds
    assert outcome.reasons[0] == "no ipcmk here: apt-get install util-linux"


@pytest.mark.unprivileged
def test_what_the_kernel_refuses_is_a_false_verdict() -> None:
    # The limits are each user namespace's own.
    refuse = "echo 0 > /proc/sys/user/max_uts_namespaces && exec"
    status, said = sh("user", f"{refuse} {sys.executable} -m nslab tour uts pid", map_root_user=True)
    assert status == 1
    assert "false: [Errno 28] clone" in said
    assert "user.max_uts_namespaces is 0" in " ".join(said.split())
    assert said.endswith("2 verdicts, 1 false: uts")
    assert "Traceback" not in said


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.mark.unprivileged
def test_the_whole_tour() -> None:
    done = tour()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n9 verdicts, all true\n")
    assert done.stdout.count("\n  true: ") == 9


@pytest.mark.unprivileged
def test_a_user_namespace_is_said() -> None:
    said = tour("uts").stdout
    assert ("the user namespace and map_root_user are added" in said) == (not ROOT)
    assert ('nslab.run("uts"' in said) == ROOT


@pytest.mark.skipif(not ROOT, reason="this is an ordinary user already")
def test_as_an_ordinary_user() -> None:
    done = as_ordinary_user("id -u; $PYTHON -m nslab tour")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("65534\n")
    assert done.stdout.endswith("9 verdicts, all true\n")


@pytest.mark.unprivileged
def test_some_experiments() -> None:
    done = tour("pid", "uts")
    assert done.stdout.index("pid  ") == 0
    assert done.stdout.index("\nuts  ") > 0
    assert done.stdout.endswith("2 verdicts, all true\n")
    assert tour("pid").stdout.endswith("\n1 verdict, true\n")


@pytest.mark.unprivileged
def test_as_json() -> None:
    found = json.loads(tour("--json").stdout)
    assert [row["name"] for row in found["experiments"]] == NAMES
    assert all(row["verdict"] is True for row in found["experiments"])
    assert found["false"] == []
    (call,) = found["experiments"][3]["calls"]
    assert call["seen"][0] == {"what": "pid: $$", "child": "1", "host": call["seen"][0]["host"]}


@pytest.mark.unprivileged
def test_the_list() -> None:
    assert [line.split()[0] for line in tour("--list").stdout.splitlines()] == NAMES
    assert [row["name"] for row in json.loads(tour("--list", "--json").stdout)] == NAMES


@pytest.mark.unprivileged
def test_side_by_side_where_the_terminal_is_wide_enough() -> None:
    narrow = tour("ipc", env={**os.environ, "COLUMNS": "60"}).stdout
    assert "\n      child  ------ Message Queues" in narrow
    assert "\n      host   ------ Message Queues" in narrow
    wide = tour("ipc", env={**os.environ, "COLUMNS": "200"}).stdout
    assert any(line.count("Message Queues") == 2 for line in wide.splitlines())
