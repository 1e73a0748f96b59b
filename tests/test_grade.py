"""``nslab grade``: a submission, checks, and the grade in every format."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from commands import COMMAND
from conftest import ROOT
from grading import CHECKS, grade, lab, verb, write
from notebook import processes

EXAMPLE = Path(__file__).parent.parent / "examples" / "grading"


# ------------------------------------------------------------------------------------------------------------- points


@pytest.mark.unprivileged
def test_right_and_wrong(tmp_path: Path) -> None:
    write(tmp_path, right=lab("container"), wrong=lab("other"))
    right = grade(tmp_path, CHECKS, "right.py")
    assert (right["score"], right["points"], right["max_points"]) == (1, 4, 4)
    assert right["submission"] == "right.py"
    isolated = right["by_name"]["isolated"]
    assert isolated["description"] == "A host name of its own."
    assert isolated["output"].count("✓") == 2
    wrong = grade(tmp_path, CHECKS, "wrong.py")
    assert (wrong["points"], wrong["score"]) == (1, 0.25)
    assert "expected the host name 'container' for lab (pid " in wrong["by_name"]["isolated"]["message"]
    assert "\n" not in wrong["by_name"]["isolated"]["message"]


@pytest.mark.unprivileged
def test_the_example() -> None:
    status, text = verb(EXAMPLE, "grade", "checks.py", "--submission", "right.py")
    assert (status, text.splitlines()[-1]) == (0, "right.py: 11 of 11 points")
    status, text = verb(EXAMPLE, "grade", "checks.py", "--submission", "wrong.py")
    assert (status, text.splitlines()[-1]) == (1, "wrong.py: 7 of 11 points")
    assert 'Hint: add "pid" to the flags.' in text.replace("\n    ", " ")
    assert not (EXAMPLE / "__pycache__").exists()


def test_the_closest_points_count(tmp_path: Path) -> None:
    write(tmp_path, submission="")
    checks = """
import pytest
pytestmark = pytest.mark.points(2)
def test_module(): pass
@pytest.mark.points(3)
class TestGroup:
    def test_of_the_class(self): pass
    @pytest.mark.points(0.5)
    def test_own(self): pass
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.points(7))])
def test_many(n): assert n == 2
"""
    found = {check["name"]: (check["points"], check["max_points"]) for check in grade(tmp_path, checks)["checks"]}
    assert found == {
        "module": (2, 2),
        "Group: of the class": (3, 3),
        "Group: own": (0.5, 0.5),
        "many [1]": (0, 2),
        "many [2]": (7, 7),
    }


def test_partial_credit(tmp_path: Path) -> None:
    write(tmp_path, submission="")
    checks = """
import pytest
pytestmark = pytest.mark.points(4)
def test_some(credit):
    credit(1); credit(0.1); credit(0.2)
    assert False
def test_all(credit): credit(1)
def test_none(): assert False
def test_too_much(credit): credit(4.5)
def test_negative(credit): credit(-1)
"""
    found = grade(tmp_path, checks)["by_name"]
    assert {name: check["points"] for name, check in found.items()} == {
        "some": 1.3,
        "all": 4,
        "none": 0,
        "too much": 0,
        "negative": 0,
    }
    assert "credit of 4.5 points for a check that is worth 4" in found["too much"]["message"]
    assert "from 0 on, not -1" in found["negative"]["message"]


@pytest.mark.parametrize("points", ["-1", "'3'", "True", "None", "float('nan')", "float('inf')", "", "1, 2", "n=1"])
def test_points_that_are_none(tmp_path: Path, points: str) -> None:
    write(tmp_path, submission="", checks=f"import pytest\n@pytest.mark.points({points})\ndef test_it(): pass\n")
    status, text = verb(tmp_path, "grade", "checks.py", "--submission", "submission.py")
    assert status == 2
    assert text.startswith("nslab grade: the checks are not right: checks.py::test_it: @pytest.mark.points takes ")
    assert text.count("\n") == 1


def test_nothing_to_earn(tmp_path: Path) -> None:
    write(tmp_path, submission="")
    checks = "import pytest\npytestmark = pytest.mark.points(0)\ndef test_it(): pass\n"
    assert grade(tmp_path, checks)["score"] == 1
    assert grade(tmp_path, checks.replace("pass", "assert 0"))["score"] == 0


# ------------------------------------------------------------------------------------------------------------ formats

MIXED = """
import pytest
from nslab import check
@pytest.mark.points(3)
def test_name(submission, credit):
    "What is asked for."
    print("\\x00\\x1b[31m ✓ 中文")
    credit(1)
    check.hostname(submission.run().process("lab"), "container")
def test_skipped(): pytest.skip("not here")
def test_error(submission): submission.nothing
@pytest.fixture
def broken(): raise RuntimeError("oh")
def test_broken(broken): pass
def test_fine(): pass
"""


def formatted(directory: Path, form: str) -> str:
    write(directory, submission=lab("other"), checks=MIXED)
    words = ["grade", "checks.py", "--submission", "submission.py", "--format", form]
    status, text = verb(directory, *words)
    assert status == 1
    status, nothing = verb(directory, *words, "--output", "out")
    assert (status, nothing) == (1, "")
    assert (directory / "out").read_text()[:20] == text[:20]
    return text


def test_text(tmp_path: Path) -> None:
    lines = formatted(tmp_path, "text").splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "✗ name     1/3",
        "– skipped  0/1",
        "✗ error    0/1",
        "! broken   0/1",
        "✓ fine     1/1",
        "submission.py: 2 of 7 points",
    ]
    assert "    skipped: not here" in lines
    assert "    not judged: RuntimeError: oh" in lines
    assert max(map(len, lines)) <= 100


def test_prairielearn(tmp_path: Path) -> None:
    """See https://docs.prairielearn.com/externalGrading/#grading-results."""
    text = formatted(tmp_path, "prairielearn")
    assert len(text) < 1_000_000
    found = json.loads(text)
    assert found["gradable"] is True
    assert found["score"] == pytest.approx(2 / 7)
    assert isinstance(found["message"], str)
    for test in found["tests"]:
        assert set(test) == {"name", "description", "points", "max_points", "message", "output"}
        assert all(isinstance(test[name], str) for name in ("name", "description", "message", "output"))
        assert 0 <= test["points"] <= test["max_points"]
    assert found["score"] == pytest.approx(
        sum(test["points"] for test in found["tests"]) / sum(test["max_points"] for test in found["tests"])
    )
    assert found["tests"][0]["description"] == "What is asked for."


def test_prairielearn_is_told_what_cannot_be_graded(tmp_path: Path) -> None:
    write(tmp_path, checks=CHECKS)
    words = ["grade", "checks.py", "--submission", "nothing.py", "--format", "prairielearn"]
    status, text = verb(tmp_path, *words)
    assert status == 2
    assert json.loads(text) == {"gradable": False, "format_errors": ["there is no submission at nothing.py"]}
    assert verb(tmp_path, *words, "--output", "results.json") == (2, "")
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(text)


def test_gradescope(tmp_path: Path) -> None:
    """See https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format."""
    found = json.loads(formatted(tmp_path, "gradescope"))
    assert found["score"] == 2
    assert found["execution_time"] >= 0
    for test in found["tests"]:
        assert set(test) == {"name", "score", "max_score", "status", "output", "output_format", "visibility"}
        assert 0 <= test["score"] <= test["max_score"]
        assert test["status"] in ("passed", "failed")
        assert test["visibility"] in ("visible", "hidden", "after_due_date", "after_published")
        assert test["output_format"] in ("text", "html", "simple_format", "md", "ansi")
    assert sum(test["score"] for test in found["tests"]) == found["score"]
    assert "Hint: " in found["tests"][0]["output"]


def test_junit(tmp_path: Path) -> None:
    text = formatted(tmp_path, "junit")
    suite = ElementTree.fromstring(text).find("testsuite")
    assert suite is not None
    counts = [suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["5", "2", "1", "1"]
    assert ElementTree.parse(tmp_path / "out").getroot().tag == "testsuites"
    tags = {case.attrib["name"]: {child.tag for child in case} - {"properties"} for case in suite}
    assert tags["name"] == {"failure", "system-out"}
    assert (tags["skipped"], tags["broken"], tags["fine"]) == ({"skipped"}, {"error"}, set())
    points = {each.attrib["name"]: each.attrib["value"] for each in suite[0].iter("property")}
    assert points == {"points": "1", "max_points": "3"}
    assert "中文" in (suite[0].findtext("system-out") or "")


def test_a_terminal_of_another_encoding(tmp_path: Path) -> None:
    write(tmp_path, submission=lab(), checks=CHECKS)
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for form in ("text", "junit", "json"):
        words = ["grade", "checks.py", "--submission", "submission.py", "--format", form]
        status, text = verb(tmp_path, *words, env=env)
        assert status == 0, text
        assert text.isascii()


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    write(tmp_path, submission="", checks=CHECKS)
    words = [*COMMAND, "grade", "checks.py", "--submission", "submission.py"]
    read, write_end = os.pipe()
    os.close(read)
    done = subprocess.run(words, cwd=tmp_path, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing.py", "--submission", "submission.py"], "there are no checks at nothing.py"),
        (["checks.py", "--submission", "nothing.py"], "there is no submission at nothing.py"),
        (["checks.py", "--submission", "empty"], "the submission at empty is empty"),
        (["submission.py", "--submission", "submission.py"], "there are no checks in submission.py: "),
        (["empty", "--submission", "submission.py"], "there are no checks in empty: "),
        (["checks.py", "--submission", "text.txt"], "text.txt cannot be run: it is no .py, no .ipynb, no .sh, "),
        (["checks.py"], "the following arguments are required: --submission"),
        (["checks.py", "--submission", "submission.py", "--format", "xml"], "argument --format: invalid choice"),
        (["checks.py", "--submission", "submission.py", "--timeout", "0"], "argument --timeout: must be a number of "),
        (["checks.py", "--submission", "submission.py", "--timeout", "soon"], "argument --timeout: must be a number"),
        (["checks.py", "--submission", "submission.py", "--output", "."], ". cannot be written: it is a directory"),
        (["checks.py", "--submission", "submission.py", "--output", "no/x"], "no/x cannot be written: there is no "),
        (["checks.py", "--submission", "submission.py", "--record", "x"], "argument --record: the name of the "),
        (["checks.py", "--submission", "submission.py", "--bogus"], "unrecognized arguments: --bogus"),
        (["broken.py", "--submission", "submission.py"], "the checks are not right: broken.py: ModuleNotFoundError"),
        (["syntax.py", "--submission", "submission.py"], "the checks are not right: syntax.py: "),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    write(tmp_path, submission="", checks=CHECKS, broken="import no_such_module\n", syntax="def test_it(:\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("text")
    status, text = verb(tmp_path, "grade", *words)
    assert status == 2
    assert text.startswith(f"nslab grade: {sentence}"), text
    assert text.count("\n") == 1


@pytest.mark.unprivileged
@pytest.mark.skipif(ROOT, reason="root may read everything")
@pytest.mark.parametrize("name", ["checks", "submission"])
def test_what_may_not_be_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, submission="", checks=CHECKS)
    (tmp_path / f"{name}.py").chmod(0)
    status, text = verb(tmp_path, "grade", "checks.py", "--submission", "submission.py")
    assert (status, "may not be read" in text, text.count("\n")) == (2, True, 1)


def test_without_pytest(tmp_path: Path) -> None:
    write(tmp_path, submission="", checks=CHECKS, hide="import sys; sys.modules['pytest'] = None\n")
    script = (
        "import sys, importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'pytest' else found(name, *rest)\n"
        "from nslab._cli import main; sys.exit(main())"
    )
    words = [sys.executable, "-c", script, "grade", "checks.py", "--submission", "submission.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "nslab grade: checks take pytest to run: pip install 'nslab[grade]'\n"


def test_the_settings_of_a_surrounding_project_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -x --nonsense\nfilterwarnings = error\n")
    write(tmp_path, submission="")
    checks = "import warnings\ndef test_it(): warnings.warn('x')\ndef test_other(): assert 0\ndef test_last(): pass\n"
    found = grade(tmp_path, checks)
    assert [check["status"] for check in found["checks"]] == ["passed", "failed", "passed"]


def test_a_directory_of_checks_with_fixtures_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, submission="print('hello')")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef run(submission): return submission.run()\n"
    )
    for name in ("one", "two"):
        (tmp_path / "all" / f"test_{name}.py").write_text("def test_it(run): assert run.stdout == 'hello\\n'\n")
    status, text = verb(tmp_path, "grade", "all", "--submission", "submission.py", "--format", "json")
    assert status == 0
    files = [check["id"].partition("::")[0] for check in json.loads(text)["checks"]]
    assert [os.path.basename(file) for file in files] == ["test_one.py", "test_two.py"]


def test_nothing_is_left(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    script = "import subprocess\nsubprocess.Popen(['sleep', '4711.25'], start_new_session=True)\n"
    write(tmp_path, submission=script, checks=CHECKS)
    verb(tmp_path, "grade", "checks.py", "--submission", "submission.py", env={**os.environ, "TMPDIR": str(temporary)})
    assert not processes("4711.25")
    assert os.listdir(temporary) == []
    assert sorted(os.listdir(tmp_path)) == ["checks.py", "submission.py", "tmp"]


def test_a_grader_that_is_ended(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"import subprocess\nopen({str(ready)!r}, 'w').close()\nsubprocess.run(['sleep', '4714.25'])\n"
    write(tmp_path, submission=script, checks=CHECKS)
    words = [*COMMAND, "grade", "checks.py", "--submission", "submission.py"]
    env = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as grader:
        ready.open().close()
        grader.terminate()
        assert grader.communicate() == (b"", b"")
    assert grader.returncode == 128 + signal.SIGTERM
    assert not processes("4714.25")
    assert os.listdir(temporary) == []


def test_the_numbers_are_numbers(tmp_path: Path) -> None:
    write(tmp_path, submission="")
    checks = "import pytest\n@pytest.mark.points(0.1)\n@pytest.mark.parametrize('n', range(3))\ndef test_it(n): pass\n"
    found: dict[str, Any] = grade(tmp_path, checks)
    assert (found["points"], found["max_points"], found["score"]) == (0.3, 0.3, 1)
    assert math.isfinite(found["score"])
