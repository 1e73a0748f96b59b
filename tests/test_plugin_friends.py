"""Marked tests together with what else people use: debugger, xdist, asyncio, coverage, timeouts, reruns."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import inner_pytest
import pytest

pytestmark = pytest.mark.unprivileged

FAILS = """
import os, pytest
pytestmark = pytest.mark.namespaces("uts", hostname="inside", timeout=3)
@pytest.fixture
def made():
    yield 41
    print("torn down")
def test_fails(made):
    value = made + 1
    assert value == 0
def test_after(): ...
"""


def test_debugger_takes_the_terminal(tmp_path: Path) -> None:
    # Slower than the timeout: its clock stands while somebody thinks.
    commands = "import time; time.sleep(4)\np 'value', value, __import__('os').uname().nodename\nc\n"
    run = inner_pytest.run(tmp_path, FAILS, "--pdb", stdin=commands)
    assert "('value', 42, 'inside')" in run.output
    assert run.outcomes() == {"test_fails": "failure", "test_after": "passed"}
    run = inner_pytest.run(tmp_path, FAILS, "--pdb", stdin="q\n")
    assert "_pytest.outcomes.Exit: Quitting debugger" in run.output
    assert run.summary() == {"failed": 1} and run.status == 2


def test_breakpoint_and_trace(tmp_path: Path) -> None:
    text = FAILS.replace("    assert value", "    breakpoint()\n    assert value")
    run = inner_pytest.run(tmp_path, text, stdin="p 'here', value\nc\n")
    assert "('here', 42)" in run.output and run.outcomes()["test_fails"] == "failure"
    run = inner_pytest.run(tmp_path, FAILS, "--trace", stdin="c\nc\nc\nc\n")
    assert run.outcomes() == {"test_fails": "failure", "test_after": "passed"}


def test_shell_where_a_test_has_failed(tmp_path: Path) -> None:
    run = inner_pytest.run(
        tmp_path, FAILS, "--nslab-shell-on-fail", stdin="echo it is $(uname -n)\nsleep 1.5\n", SHELL="/bin/sh"
    )
    assert "it is inside" in run.output
    assert run.outcomes() == {"test_fails": "failure", "test_after": "passed"}


def test_no_shell_without_a_terminal(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, FAILS, "--nslab-shell-on-fail", "-n", "2")
    assert run.status == 4
    assert "ERROR: --nslab-shell-on-fail needs the terminal, which the workers of -n do not have" in run.output


MANY = """
import os, time, warnings, pytest
pytestmark = pytest.mark.namespaces("uts", "pid")
@pytest.fixture(scope="session")
def session(worker_id):
    with open(os.environ["LOG"], "a") as log: print("made", file=log)
    yield
    with open(os.environ["LOG"], "a") as log: print("ended", file=log)
@pytest.mark.parametrize("number", range(40))
def test_many(session, number):
    print("output of", number)
    assert os.getpid() == 1
    warnings.warn(f"careful {number}")
    if number == 7: os.abort()
    assert number != 11, "eleven"
"""


def test_workers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = inner_pytest.run(tmp_path, MANY, "-n", "2", LOG=str(log))
    assert run.summary() == {"failed": 2, "passed": 38, "warning": 39}  # the one that crashed
    assert "AssertionError: eleven" in run.output and "output of 11" in run.output
    # Each of the workers is a pytest of its own.
    assert sorted(log.read_text().split()) == ["ended", "ended", "made", "made"]


def test_junit(tmp_path: Path) -> None:
    inner_pytest.run(
        tmp_path, MANY.replace("(session, ", "(record_property, "), "-o", "junit_logging=all", LOG=os.devnull
    )
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("40", "2")
    case = suite.findall("testcase")[11]
    assert case.attrib["classname"] == "test_inner" and "output of 11" in (case.findtext("system-out") or "")


def test_junit_of_the_suite(tmp_path: Path) -> None:
    text = """
    import pytest
    @pytest.mark.namespaces("uts")
    @pytest.mark.parametrize("number", range(2))
    def test(record_testsuite_property, number): record_testsuite_property("inside", number)
    def test_outside(record_testsuite_property): record_testsuite_property("outside", 2)
    """
    inner_pytest.run(tmp_path, textwrap.dedent(text))
    found = [each.attrib for each in ElementTree.parse(tmp_path / "junit.xml").iter("property")]
    assert [(each["name"], each["value"]) for each in found] == [("inside", "0"), ("inside", "1"), ("outside", "2")]


ASYNC = """
import asyncio, os, pytest
pytestmark = pytest.mark.namespaces("net", loopback=True)

@pytest.fixture
async def server(anyio_backend=None):
    async def answer(reader, writer):
        writer.write(await reader.readline()); writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 7)
    yield server
    server.close()
    await server.wait_closed()

async def echo():
    reader, writer = await asyncio.open_connection("127.0.0.1", 7)
    writer.write(b"hello\\n")
    assert await reader.readline() == b"hello\\n"
    writer.close(); await writer.wait_closed()

{mark}
async def test_one(server): await echo()
{mark}
async def test_two(server): await echo()
{mark}
async def test_fails(server):
    await asyncio.sleep(0)
    assert 1 == 2
"""


@pytest.mark.parametrize(
    ("plugin", "fixture", "mark"),
    [("pytest_asyncio", "pytest_asyncio.fixture", "asyncio"), ("anyio", "pytest.fixture", "anyio")],
)
def test_async(tmp_path: Path, plugin: str, fixture: str, mark: str) -> None:
    text = f"import {plugin}\n" + ASYNC.format(mark=f"@pytest.mark.{mark}").replace("pytest.fixture", fixture)
    if mark == "anyio":
        text = text.replace("(anyio_backend=None)", "(anyio_backend)")
        text += "\n@pytest.fixture(scope='module')\ndef anyio_backend(): return 'asyncio'\n"
    run = inner_pytest.run(tmp_path, text)
    assert run.outcomes() == {"test_one": "passed", "test_two": "passed", "test_fails": "failure"}
    assert "assert 1 == 2" in run.output


@pytest.mark.skipif(not importlib.util.find_spec("coverage"), reason="coverage is not installed")
def test_coverage_in_the_child(tmp_path: Path) -> None:
    (tmp_path / "measured.py").write_text("def inside():\n    return 1\n\ndef outside():\n    return 2\n")
    (tmp_path / ".coveragerc").write_text(
        "[run]\nsource = measured\nparallel = true\npatch =\n    fork\n    _exit\n    subprocess\n"
    )
    text = """
import pytest, measured
@pytest.mark.namespaces("uts", "pid", hostname="inside")
def test_inside(): assert measured.inside() == 1
def test_outside(): assert measured.outside() == 2
"""
    run = inner_pytest.run(tmp_path, text, program=("-m", "coverage", "run", "-m", "pytest"))
    assert run.status == 0
    subprocess.run([sys.executable, "-m", "coverage", "combine", "-q"], cwd=tmp_path, check=True)
    report = subprocess.run(
        [sys.executable, "-m", "coverage", "report", "-m"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert re.search(r"measured.py +4 +0 +100%", report.stdout), report.stdout


def test_timeout_of_another_plugin(tmp_path: Path) -> None:
    text = """
import time, pytest
pytestmark = [pytest.mark.namespaces("pid"), pytest.mark.timeout(5)]
def test_hangs():
    print("before")
    time.sleep(30)
def test_after(): time.sleep(0.01)
"""
    run = inner_pytest.run(tmp_path, text)
    assert run.outcomes() == {"test_hangs": "failure", "test_after": "passed"}
    # From inside, so with the line.
    assert ">       time.sleep(30)\nE       Failed: Timeout" in run.output


@pytest.mark.skipif(not importlib.util.find_spec("pytest_rerunfailures"), reason="it is not installed")
def test_reruns(tmp_path: Path) -> None:
    text = """
import pathlib, pytest
@pytest.mark.namespaces("uts")
@pytest.mark.flaky(reruns=3)
def test_flaky():
    file = pathlib.Path("runs"); runs = len(file.read_text()) if file.exists() else 0
    file.write_text("x" * (runs + 1))
    assert runs == 2
"""
    run = inner_pytest.run(tmp_path, text)
    assert run.summary() == {"passed": 1, "rerun": 2}
