"""Submissions and checks that crash, hang or make a noise: one check is lost, never more, and nothing is written."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from commands import COMMAND
from grading import CHECKS, grade, lab, verb, write
from notebook import processes

# -------------------------------------------------------------------------------------------------------- submissions


def test_a_submission_that_hangs(tmp_path: Path) -> None:
    hangs = lab() + "import subprocess\nprint('so far', flush=True)\nsubprocess.run(['sleep', '4712.5'])\n"
    write(tmp_path, submission=hangs)
    checks = CHECKS + "def test_other(): pass\n"
    began = time.monotonic()
    found = grade(tmp_path, checks, timeout=10)
    assert time.monotonic() - began < 120
    assert [check["status"] for check in found["checks"]] == ["failed", "failed", "passed"]
    message = found["by_name"]["ends"]["message"]
    assert message == (
        "expected submission.py to end, but it did not within 10 s and was killed. Its last output:\nso far"
    )
    assert not processes("4712.5")


@pytest.mark.parametrize(
    ("last", "code", "says"),
    [
        ("1/0", 1, "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", 3, "noise"),
        ("import os; os._exit(4)", 4, "noise"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, "noise"),
        ("def f(:", 1, "SyntaxError: invalid syntax"),
    ],
)
def test_a_submission_that_breaks(tmp_path: Path, last: str, code: int, says: str) -> None:
    noise = "import sys, os\nprint('noise', file=sys.stderr, flush=True)\nos.write(2, b'noise\\n')\n"
    write(tmp_path, submission=f"{noise}{lab()}\n{last}\n")
    found = grade(tmp_path, CHECKS)["by_name"]
    message = found["ends"]["message"]
    assert f"to end with 0, but it ended with {code}. Hint: it wrote" in message
    assert says in message
    if "def" not in last:
        # What it has done until then counts: the process, and, if Python came to its end, what was in its namespaces.
        whole = code in (1, 3)
        assert found["isolated"]["status"] == ("passed" if whole else "error")
        assert whole or found["isolated"]["message"] == (
            "submission.py ended before its variables and namespaces could be looked at: which process 'lab' is, "
            "nobody could see"
        )


def test_a_submission_that_writes_without_end(tmp_path: Path) -> None:
    write(tmp_path, submission="while True: print('x' * 1000)\n")
    checks = "def test_it(submission): submission.run()\n"
    found = grade(tmp_path, checks, timeout=2)
    assert found["checks"][0]["status"] == "failed"
    assert len(found["checks"][0]["message"]) < 1000


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path, submission="import os\nos.write(1, b'\\xff\\x00\\xe4')\n")
    checks = "def test_it(submission):\n    print(submission.run().stdout)\n    assert 0\n"
    write(tmp_path, checks=checks)
    for form in ("text", "json", "junit", "prairielearn", "gradescope"):
        status, _ = verb(tmp_path, "grade", "checks.py", "--submission", "submission.py", "--format", form)
        assert status == 1


def test_a_program_that_cannot_be_executed(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/no/such/interpreter\n")
    (tmp_path / "program").chmod(0o755)
    found = grade(tmp_path, "def test_it(submission): submission.run()\n", "program")["checks"][0]
    assert found["status"] == "failed"
    assert found["message"].startswith("expected program to run, but it cannot be executed: ")


def test_no_process_where_one_was_expected(tmp_path: Path) -> None:
    write(tmp_path, none="", two=lab() + "other = nslab.spawn(0, ['true'])\nother.wait()\n")
    message = grade(tmp_path, CHECKS, "none.py")["by_name"]["isolated"]["message"]
    assert message.startswith("expected a process in the variable 'lab' of none.py, but there is none. Hint: lab = ")
    message = grade(tmp_path, CHECKS.replace('"lab"', ""), "two.py")["by_name"]["isolated"]["message"]
    assert "expected one process of two.py, but there is lab (pid " in message


# ------------------------------------------------------------------------------------------------------------- checks

TROUBLE = """
import os, signal, sys, time
import pytest
from nslab import check

def test_first(): pass
def test_exit(): os._exit(0)
def test_signal(): os.kill(os.getpid(), signal.SIGSEGV)
def test_hang(): time.sleep(1000)
def test_leave(): pytest.exit("over")
def test_close(): os.closerange(3, 256)
def test_noise():
    os.write(2, b"raw\\n")
    print("noise", file=sys.stderr)
    assert False
@pytest.fixture
def late():
    yield
    raise RuntimeError("too late")
def test_late(late): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
def test_parts(subtests):
    for number in range(2):
        with subtests.test(number=number):
            assert number == 0
def test_last(submission): check.exited(submission.run())
def test_the_very_last(): os._exit(1)
"""


def test_checks_that_break(tmp_path: Path) -> None:
    write(tmp_path, submission="open('/dev/null')\n")
    found = grade(tmp_path, TROUBLE, timeout=5)
    statuses = {check["name"]: check["status"] for check in found["checks"]}
    assert statuses == {
        "first": "passed",
        "exit": "error",
        "signal": "error",
        "hang": "error",
        "leave": "error",
        "close": "error",
        "noise": "failed",
        "late": "error",
        "known": "skipped",
        "parts": "failed",
        "last": "passed",
        "the very last": "error",
    }
    messages = {check["name"]: check["message"] for check in found["checks"]}
    assert messages["exit"] == "the check ended the whole run with status 0"
    assert messages["signal"] == "the check was ended by SIGSEGV (signal 11)"
    assert messages["hang"] == "the check did not end within 5 s and was stopped"
    assert messages["late"] == "RuntimeError: too late"
    assert messages["known"] == "expected to fail known"
    assert messages["parts"].startswith("[number=")
    assert found["points"] == 2


def test_the_submission_runs_once_for_all_checks(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    write(tmp_path, submission=f"with open({str(counter)!r}, 'a') as file: file.write('x')\n")
    checks = """
import os
def test_one(submission): submission.run()
def test_exit(): os._exit(0)
def test_two(submission): submission.run()
def test_with_an_argument(submission): assert submission.run("x").args == ("x",)
def test_with_an_input(submission): assert submission.run(input="y").input == "y"
"""
    found = grade(tmp_path, checks)
    assert found["points"] == 4
    assert counter.read_text() == "xxx"


def test_arguments_and_input_arrive(tmp_path: Path) -> None:
    write(tmp_path, submission="import sys\nprint(sys.argv[1:], sys.stdin.read())\n")
    checks = """
def test_it(submission):
    assert submission.run("a", "--b", input="中文").stdout == "['a', '--b'] 中文\\n"
    assert submission.run().stdout == "[] \\n"
"""
    assert grade(tmp_path, checks)["score"] == 1


def test_a_check_in_namespaces_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, submission="")
    checks = """
import os, pytest
from nslab import check
@pytest.mark.namespaces("uts", hostname="inside")
class TestInside:
    def test_name(self, submission):
        assert os.uname().nodename == "inside"
        check.exited(submission.run())
    @pytest.mark.points(2)
    def test_credit(self, credit):
        credit(0.5)
        assert False, "wrong"
"""
    found = grade(tmp_path, checks)
    assert [(check["status"], check["points"]) for check in found["checks"]] == [("passed", 1), ("failed", 0.5)]


def test_checks_that_hang_while_they_are_read(tmp_path: Path) -> None:
    write(tmp_path, submission="", checks="import time\ntime.sleep(1000)\n")
    words = ["grade", "checks.py", "--submission", "submission.py", "--timeout", "0.5"]
    status, text = verb(tmp_path, *words)
    assert (status, text) == (2, "nslab grade: checks.py did not come to an end, and no check was running\n")


def test_what_is_said_can_be_read(tmp_path: Path) -> None:
    write(tmp_path, submission="print('\\033[31mred')\n")
    write(
        tmp_path,
        checks="def test_it(submission):\n    run = submission.run()\n    assert 0, (run, run.stdout)\n",
    )
    status, said = verb(tmp_path, "grade", "checks.py", "--submission", "submission.py")
    assert status == 1
    assert "<run of submission.py: ended with 0>" in said
    assert "red" in said and "\033" not in said


@pytest.mark.parametrize("words", [["checks.py", "--submission", "submission.py"], []], ids=["grade", "usage error"])
def test_an_output_that_cannot_be_written(tmp_path: Path, words: list[str]) -> None:
    write(tmp_path, submission="", checks="def test_it(): pass\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "grade", *words],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, b"")
