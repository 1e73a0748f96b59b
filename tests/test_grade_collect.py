"""What a submission is seen to do, on the student's machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from grading import WHOLE, grade, verb

from nslab import check
from nslab._grade import evidence
from nslab._grade.collect import collect
from nslab._grade.evidence import Run

pytestmark = pytest.mark.unprivileged


def seen(directory: Path, text: str, name: str = "submission.py", timeout: float = 60) -> Run:
    (directory / name).write_text(text)
    return collect(directory / name, name, timeout=timeout)


def test_every_check_holds_of_what_was_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = seen(tmp_path, WHOLE).process("lab")
    assert process.called == f"lab (pid {process.pid})"
    check.isolated(process, "all")
    check.is_pid1(process)
    check.exited(process)
    check.hostname(process, "container")
    check.link_up(process)
    check.mounted(process, "/proc", "proc")
    check.propagation(process, "private", "/proc")
    check.uid_map(process, [(0, os.geteuid(), 1)])
    check.clock_offset(process, boottime=86_400)
    assert capsys.readouterr().out.count(f"lab (pid {process.pid})") == 8 + 8
    with pytest.raises(check.CheckError, match=r"expected lo to be down for lab \(pid \d+\), but it is up"):
        check.link_down(process)
    with pytest.raises(check.CheckError, match="in the host's uts namespace"):
        check.shares(process, "uts")


def test_a_program_that_ends_at_once_is_seen_every_time(tmp_path: Path) -> None:
    text = """
import nslab
many = [nslab.spawn("user uts net", ["true"], map_root_user=True, hostname=f"h{i}") for i in range(40)]
for one in many: one.wait()
"""
    run = seen(tmp_path, text)
    assert [process.note for process in run.processes] == [None] * 40
    assert [process.recall("hostname") for process in run.processes] == [f"h{i}" for i in range(40)]
    assert [process.returncode for process in run.processes] == [0] * 40


def test_all_that_makes_a_process(tmp_path: Path) -> None:
    text = """
import asyncio, nslab
host = nslab.Host("user uts", map_root_user=True, hostname="web")
guest = host.spawn(["true"]); guest.wait()
nslab.run("user uts", ["true"], map_root_user=True, hostname="run")
planned = nslab.plan("user uts", ["true"], map_root_user=True, hostname="planned").spawn(); planned.wait()
below = nslab.spawn("user pid uts", ["true"], map_root_user=True, init=True, hostname="below"); below.wait()
living = nslab.spawn("user pid uts", ["sleep", "60"], map_root_user=True, hostname="living")
async def main():
    global later
    later = await nslab.aspawn("user uts", ["true"], map_root_user=True, hostname="later")
    await later.wait()
asyncio.run(main())
plain = nslab.spawn(0, ["true"]); plain.wait()
nslab.plan("uts", ["true"])
"""
    run = seen(tmp_path, text)
    assert run.stderr == ""
    names = {name: process for process in run.processes for name in process.names}
    hosts = {name: process.recall("hostname") for name, process in names.items()}
    machine = run.before.hostname
    assert hosts == {
        "host": "web",
        "guest": "web",
        "planned": "planned",
        "below": "below",
        "living": "living",
        "later": "later",
        "plain": machine,
    }
    assert [process.recall("hostname") for process in run.processes if not process.names] == ["run"]
    assert names["below"].recall("pids")[-1] == 2
    assert names["living"].returncode is None
    assert [root.name for root in names["living"].recall("processes").roots] == ["sleep"]
    check.is_pid1(names["living"])
    check.shares(names["plain"], "uts", "mnt", "net")
    with pytest.raises(evidence.EvidenceError, match=r"have the processes of guest .*: it had ended"):
        names["guest"].recall("processes")


def test_the_recorder_changes_nothing(tmp_path: Path) -> None:
    text = """
import os, nslab, sys
before = os.listdir("/proc/self/fd")
first = nslab.spawn("user uts", ["false"], map_root_user=True)
try:
    nslab.spawn("user uts", ["/no/such/program"], map_root_user=True)
except FileNotFoundError as error:
    failed = error.step
def inner():
    nslab.spawn("user uts", ["cat", "/proc/self/fd/0"], map_root_user=True, stdin=nslab.DEVNULL).wait()
inner()
status = first.wait()
child = os.fork()
if child == 0:
    nslab.run("user uts", ["true"], map_root_user=True)
    sys.exit(0)
forked = os.waitpid(child, 0)[1]
"""
    run = seen(tmp_path, text)
    assert (run.returncode, run.stderr, run.left) == (0, "", ())
    assert {**run.variables, "before": 0, "child": 0} == {
        "before": 0,
        "child": 0,
        "failed": "execve",
        "status": 1,
        "forked": 0,
    }
    assert [process.args[0] for process in run.processes] == ["false", "cat"]


def test_where_the_kernel_has_no_clone3(tmp_path: Path) -> None:
    text = f"""
import errno, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import seccomp
seccomp.refuse("clone3", errno.ENOSYS)
import nslab
lab = nslab.spawn("user uts pid", ["true"], map_root_user=True, hostname="old")
lab.wait()
"""
    process = seen(tmp_path, text).process("lab")
    assert process.recall("hostname") == "old"
    check.is_pid1(process)


def test_more_processes_than_are_noted(tmp_path: Path) -> None:
    text = "import nslab\nfor _ in range(130): nslab.run('user uts', ['true'], map_root_user=True)\n"
    run = seen(tmp_path, text)
    assert (run.returncode, len(run.processes), run.left_out) == (0, 100, 30)
    with pytest.raises(check.CheckError, match="and 30 more that were not noted"):
        run.process("lab")


def test_other_languages(tmp_path: Path) -> None:
    script = f"{sys.executable} -m nslab run --user -r --uts --hostname inner true; echo done >&2; exit 3\n"
    run = seen(tmp_path, script, "submission.sh")
    assert (run.returncode, run.stderr) == (3, "done\n")
    assert [process.recall("hostname") for process in run.processes] == ["inner"]
    (tmp_path / "program").write_text("#!/bin/sh\necho hello $1\n")
    (tmp_path / "program").chmod(0o755)
    assert collect(tmp_path / "program", "program", ["you"], timeout=60).stdout == "hello you\n"


def test_what_is_left_is_named_and_ended(tmp_path: Path) -> None:
    run = seen(tmp_path, "import subprocess\nsubprocess.Popen(['sleep', '4713.5'], start_new_session=True)\n")
    assert run.left == ("sleep 4713.5",)
    assert run.returncode == 0


def test_the_submission_itself_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "helper.py").write_text("word = 'helped'\n")
    (tmp_path / "work" / "lab.py").write_text("import helper\nopen('made', 'w').close()\nprint(helper.word)\n")
    assert collect(tmp_path / "work", "lab.py", timeout=60).stdout == "helped\n"
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["helper.py", "lab.py"]
    checks = "def test_it(submission): assert submission.run(file='lab.py').stdout == 'helped\\n'\n"
    assert grade(tmp_path, checks, "work")["score"] == 1
    status, said = verb(tmp_path / "work", "record", ".", "--output", "../evidence.json")
    assert (status, "work has several programs" in said or ". has several programs" in said) == (2, True)
    checks = "def test_it(submission): submission.run()\n"
    found = grade(tmp_path, checks, "work")["checks"][0]
    assert found["status"] == "error"
    assert "has several programs, helper.py, lab.py: a check says which" in found["message"]
    checks = "def test_it(submission): submission.run(file='other.py')\n"
    assert "expected the file other.py in work" in grade(tmp_path, checks, "work")["checks"][0]["message"]


# ----------------------------------------------------------------------------------------------------------- notebooks


def notebook(*cells: str) -> str:
    made: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {"tags": ["exercise"] if "exercise" in cell else []},
            "source": cell,
            "execution_count": None,
            "outputs": [],
        }
        for number, cell in enumerate(cells)
    ]
    kernel = {"display_name": "of another machine", "language": "python", "name": "conda-env-student"}
    return json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def test_a_notebook(tmp_path: Path) -> None:
    cells = [
        "%load_ext nslab",
        "%%ns user uts pid --map-root-user --hostname container --proc lab --out said\necho $$ exercise",
        "import sys; print('noise', file=sys.stderr); said",
        "1/0",
        "after = 'the error'",
    ]
    run = seen(tmp_path, notebook(*cells), "submission.ipynb")
    assert (run.returncode, run.stderr, run.last_line) == (1, "noise\n", "ZeroDivisionError: division by zero")
    assert run.variables == {"said": "1 exercise\n", "after": "the error"}
    assert [cell.error for cell in run.cells] == [None] * 3 + ["ZeroDivisionError: division by zero", None]
    assert run.cell("exercise").source == cells[1]
    assert run.cells[2].display == "'1 exercise\\n'"
    with pytest.raises(check.CheckError, match="a cell with the tag 'other' in submission"):
        run.cell("other")
    check.isolated(run.process("lab"), "uts")
    check.hostname(run.process("lab"), "container")
    check.is_pid1(run.process("lab"))


def test_a_notebook_that_hangs_or_kills_its_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    hangs = notebook("print('so far')", "import time; time.sleep(1000)")
    # To start a kernel takes its time.
    for timeout in (5, 20, 80):
        run = seen(tmp_path, hangs, "submission.ipynb", timeout=timeout)
        assert run.timed_out == timeout
        if run.stdout:
            break
    assert run.stdout == "so far\n"
    run = seen(tmp_path, notebook("import os; os._exit(1)", "after = 1"), "submission.ipynb")
    assert run.returncode == 1
    assert "submission.ipynb was not executed to its end" in run.last_line
    assert os.listdir(temporary) == []


def test_what_is_no_notebook(tmp_path: Path) -> None:
    run = seen(tmp_path, "no JSON", "submission.ipynb")
    assert run.returncode == 1
    assert run.stderr.startswith("submission.ipynb was not executed to its end: ")


def test_without_the_libraries_for_notebooks(tmp_path: Path) -> None:
    (tmp_path / "submission.ipynb").write_text(notebook("1"))
    script = (
        "import sys, importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'nbclient' else found(name, *rest)\n"
        "from nslab._cli import main; sys.exit(main())"
    )
    words = [sys.executable, "-c", script, "record", "submission.ipynb", "--output", "evidence.json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "nslab record: a notebook takes nbclient to execute: pip install 'nslab[grade]'\n"
