"""The judgement of what was seen elsewhere, without a namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND
from conftest import ROOT
from grading import CHECKS, CONTAINER, WHOLE, grade, lab, verb, write

import nslab
from nslab._grade.evidence import load
from nslab._grade.judge import GradeError, judge
from nslab._grade.plain import from_plain, to_plain

pytestmark = pytest.mark.unprivileged


# ------------------------------------------------------------------------------------------------------------- judging


def recorded(directory: Path, text: str) -> Path:
    write(directory, submission=text)
    status, said = verb(directory, "record", "submission.py", "--output", "evidence.json")
    assert status == 0
    assert said.startswith("evidence.json: submission.py ended with ")
    return directory / "evidence.json"


def in_a_container(directory: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Grade where every call that has to do with namespaces ends its caller, as an ordinary user."""
    done = subprocess.run(
        [*DROPPED, *CONTAINER, *COMMAND, "grade", *words, "--format", "json"],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


# Who has the interpreter in a closed directory (root's home) stays root: the filter is what counts.
DROPPED = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"] if ROOT else []


def test_judging_takes_no_namespace(tmp_path: Path) -> None:
    recorded(tmp_path, WHOLE)
    checks = (
        CHECKS
        + """
def test_all(submission):
    lab = submission.run().process("lab")
    check.isolated(lab, "all")
    check.is_pid1(lab)
    check.link_up(lab)
    check.mounted(lab, "/proc", "proc")
    check.clock_offset(lab, boottime=86_400)
    check.no_mount_leak(submission.run().before.mounts, submission.run().after.mounts)
"""
    )
    write(tmp_path, checks=checks)
    status, found = in_a_container(tmp_path, "checks.py", "--submission", "evidence.json")
    assert [check["message"] for check in found["checks"]] == ["", "", ""]
    assert (status, found["score"], found["submission"]) == (0, 1, "submission.py")


def test_the_container_of_these_tests_refuses(tmp_path: Path) -> None:
    for word in ("--uts", "--user"):
        done = subprocess.run([*CONTAINER, *COMMAND, "run", word, "true"], capture_output=True)
        assert done.returncode == -31  # SIGSYS


def test_the_judgement_is_the_same_here_and_there(tmp_path: Path) -> None:
    write(tmp_path, submission=lab("other") + "1/0\n")
    write(tmp_path, checks=CHECKS)
    words = ["grade", "checks.py", "--format", "json", "--submission"]
    status, text = verb(tmp_path, *words, "submission.py", "--record", "evidence.json")
    assert status == 1
    here, there = json.loads(text), json.loads(verb(tmp_path, *words, "evidence.json")[1])
    for found in (here, there):
        for one in found["checks"]:
            del one["seconds"]
    assert here == there
    assert here["points"] == 0
    assert there["submission"] == "submission.py"


def test_the_machine_of_the_submission_is_what_counts(tmp_path: Path) -> None:
    recorded(tmp_path, "import nslab\nlab = nslab.spawn(0, ['true'])\nlab.wait()\n")
    checks = """
from nslab import check
def test_it(submission):
    lab = submission.run().process("lab")
    check.shares(lab, "uts", "net", "time")
    check.clock_offset(lab, boottime=0)
"""
    write(tmp_path, checks=checks)
    elsewhere = ["run", "--user", "-r", "--uts", "--net", "--time", "--boottime", "1000", *COMMAND]
    status, text = verb(tmp_path, *elsewhere, "grade", "checks.py", "--submission", "evidence.json")
    assert (status, text) == (0, "✓ it  1/1\n\nsubmission.py: 1 of 1 points\n")


def test_a_check_that_needs_more_than_evidence_says_so(tmp_path: Path) -> None:
    recorded(tmp_path, lab())
    checks = """
import errno, os, sys
import nslab, pytest
from nslab import check
def test_another_run(submission): submission.run("--fast")
def test_live(submission):
    assert not submission.live
    check.hostname(submission.run().process("lab").pid, "container")
def test_processes(submission): submission.run().process("lab").recall("processes")
def test_own(submission): nslab.run("uts user", ["true"], join=[10**6])
@pytest.mark.skipif(True, reason="only live")
def test_skipped(): pass
"""
    found = grade(tmp_path, checks, "evidence.json")["by_name"]
    assert {one["status"] for one in found.values()} == {"error", "failed", "skipped"}
    assert found["another run"]["status"] == "error"
    assert found["another run"]["message"] == (
        "the evidence has no run of `… --fast` (it has: submission.py), and cannot be run here"
    )
    assert "the evidence does not have the processes of lab (pid " in found["processes"]["message"]
    assert found["skipped"]["message"] == "only live"
    assert all(one["points"] == 0 for one in found.values())


def test_a_marked_check_where_namespaces_are_refused(tmp_path: Path) -> None:
    recorded(tmp_path, lab())
    checks = """
import pytest, nslab
@pytest.mark.namespaces("uts")
def test_marked(): pass
def test_spawn(): nslab.run("user uts", ["true"])
"""
    write(tmp_path, checks=checks)
    refusing = [*CONTAINER[:2], CONTAINER[2].replace("kill('clone'", "refuse('clone', errno.EPERM")]
    words = [*refusing, *COMMAND, "grade", "checks.py", "--submission", "evidence.json", "--format", "json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    marked, spawned = json.loads(done.stdout)["checks"]
    assert marked["status"] == spawned["status"] == "error"
    assert "no uts namespace here: " in marked["message"]
    assert spawned["message"].startswith("the check makes a process of its own, and that is refused here: ")


# ------------------------------------------------------------------------------------------------------------ the file


def test_evidence_is_what_it_was(tmp_path: Path) -> None:
    path = recorded(tmp_path, WHOLE)
    found = load(path)
    assert (found.format, found.version, found.submission) == ("nslab-evidence", 1, "submission.py")
    assert found.made_by == f"nslab {nslab.__version__}"
    assert found.to_json() == path.read_text()
    (run,) = found.runs
    assert run.source == WHOLE
    assert run.process("lab").namespaces["uts"] != run.before.namespaces["uts"]
    assert run.before.processes is None  # those of the machine are nobody's business


def test_every_value_of_nslab_comes_back(tmp_path: Path) -> None:
    snapshot = nslab.snapshot()
    plain = json.loads(json.dumps(to_plain(snapshot)))
    assert to_plain(from_plain(type(snapshot), plain)) == plain
    assert from_plain(type(snapshot), plain).namespaces == snapshot.namespaces


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no evidence of nslab: it is not JSON"),
        ("\xff\xfe", "is no evidence of nslab: it is not JSON"),
        ("[" * 100_000, "is no evidence of nslab: it is not JSON"),
        ("[]", "is no evidence of nslab: `nslab record` writes one"),
        ('{"format": "other"}', "is no evidence of nslab: `nslab record` writes one"),
        ('{"format": "nslab-evidence", "version": 2}', "has version 2 of the format, and this nslab reads 1"),
        ('{"format": "nslab-evidence", "version": 1}', "is damaged: made_by is missing"),
    ],
)
def test_a_file_that_is_no_evidence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "evidence.json").write_text(text, encoding="latin-1")
    write(tmp_path, checks=CHECKS)
    with pytest.raises(GradeError) as caught:
        judge(tmp_path / "checks.py", tmp_path / "evidence.json", timeout=60)
    assert str(caught.value) == f"{tmp_path / 'evidence.json'} {sentence}"


DAMAGE: list[tuple[Callable[[Any], Any], str]] = [
    (lambda run: run.update(returncode="0"), "runs[0].returncode is no int"),
    (lambda run: run.update(returncode=True), "runs[0].returncode is no int"),
    (lambda run: run.update(processes={}), "runs[0].processes is no list"),
    (lambda run: run["processes"][0].update(pids=[1, None]), "runs[0].processes[0].pids[1] is no int"),
    (lambda run: run["before"].pop("mounts"), "runs[0].before.mounts is missing"),
    (lambda run: run["before"]["namespaces"]["uts"].pop("inode"), "runs[0].before.namespaces['uts'].inode is miss"),
]


def test_evidence_that_is_damaged(tmp_path: Path) -> None:
    path = recorded(tmp_path, lab())
    text = path.read_text()
    for change, sentence in DAMAGE:
        content = json.loads(text)
        change(content["runs"][0])
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="is damaged: ") as caught:
            load(path)
        assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing.py", "--output", "e.json"], "there is no submission at nothing.py"),
        (["submission.py"], "the following arguments are required: --output"),
        (["submission.py", "--output", "e.txt"], "argument --output: the name of the evidence must end in .json"),
        (["evidence.json", "--output", "e.json"], "evidence.json is evidence already"),
        (["two", "--output", "e.json"], "two has several programs, a.py, b.py"),
    ],
)
def test_what_cannot_be_recorded(tmp_path: Path, words: list[str], sentence: str) -> None:
    recorded(tmp_path, "")
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        (tmp_path / "two" / f"{name}.py").write_text("")
    status, text = verb(tmp_path, "record", *words)
    assert status == 2
    assert text.startswith(f"nslab record: {sentence}")
    assert text.count("\n") == 1


def test_arguments_are_recorded(tmp_path: Path) -> None:
    write(tmp_path, submission="import sys\nprint(sys.argv[1:])\n")
    status, _ = verb(tmp_path, "record", "submission.py", "--output", "evidence.json", "--", "--count", "3")
    assert status == 0
    (run,) = load(tmp_path / "evidence.json").runs
    assert (run.args, run.stdout) == (("--count", "3"), "['--count', '3']\n")
