"""``pytest --nslab``: the whole run inside; and what becomes of it all where it is not permitted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import inner_pytest
import pytest

pytestmark = pytest.mark.unprivileged

INSIDE = """
import os, socket, threading
import pytest

def test_inside(pytestconfig):
    assert os.getuid() == 0
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    assert os.path.exists(f"/proc/{os.getpid()}/stat")

@pytest.mark.namespaces("uts", "pid", hostname="deeper")
def test_deeper():
    assert (os.getpid(), os.uname().nodename) == (1, "deeper")
"""


@pytest.mark.parametrize("args", [["-q"], ["-n", "2"], ["-s"], ["--capture=sys"]])
def test_whole_run(tmp_path: Path, args: list[str]) -> None:
    run = inner_pytest.run(tmp_path, INSIDE, "--nslab=user mnt net pid", *args)
    assert (run.status, run.summary()) == (0, {"passed": 2})
    assert ("-q" in args) or "nslab: inside new mnt net pid user; cgroup ✓" in run.output


def test_by_the_configuration(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, INSIDE, ini="nslab = user,mnt,net,pid\n")
    assert run.status == 0
    run = inner_pytest.run(tmp_path, INSIDE, "--no-nslab")
    assert run.outcomes() == {"test_inside": "failure", "test_deeper": "passed"}


def test_ends_as_pytest_does(tmp_path: Path) -> None:
    assert inner_pytest.run(tmp_path, "def test(): assert 0", "--nslab=user pid").status == 1
    assert inner_pytest.run(tmp_path, "", "--nslab=user pid").status == 5
    assert inner_pytest.run(tmp_path, "", "--nslab=user pid", "--no-such-option").status == 4
    run = inner_pytest.run(tmp_path, "", "--nslab=user pidd")
    assert run.status == 4 and "ERROR: --nslab: unknown namespace 'pidd': did you mean 'pid'?" in run.output
    run = inner_pytest.run(
        tmp_path, "def test(): value = 42; assert 0", "--nslab=user pid", "--pdb", stdin="p -value\nq\n"
    )
    assert "-42" in run.output and run.status == 2


def test_both_are_pid_1(tmp_path: Path) -> None:
    """The thread that clones for `kill_child` is the run's, and the fork has the same pid."""
    text = """
import os, nslab, pytest
def test_outside(): assert nslab.call(0, os.getpid) > 1
@pytest.mark.namespaces("pid mnt", mount_proc=True, timeout=30)
def test_inside(): assert nslab.call(0, os.getpid) > 1
"""
    run = inner_pytest.run(tmp_path, text, "--nslab=user mnt pid")
    assert run.outcomes() == {"test_outside": "passed", "test_inside": "passed"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ends_by_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "test_inner.py").write_text(
        "import time\ndef test():\n    print('started', flush=True)\n    time.sleep(100)"
    )
    (tmp_path / "pytest.ini").write_text(inner_pytest.INI)
    with subprocess.Popen(
        inner_pytest.command("-s", "--nslab=user,mnt,pid"),
        cwd=tmp_path,
        env=inner_pytest.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any("started" in line for line in process.stdout)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as the keyboard does
        else:
            process.send_signal(number)
        rest = process.stdout.read()  # to its end: nobody is left who could write
    expected = {signal.SIGTERM: 143, signal.SIGINT: 2, signal.SIGKILL: -9}
    assert process.returncode == expected[number]
    assert ("KeyboardInterrupt" in rest) == (number == signal.SIGINT)


# A container's filter, installed before pytest starts.
FILTERED = """
import runpy, sys
sys.path.insert(0, {tests!r})
import seccomp
seccomp.refuse("unshare", 1)
seccomp.refuse("clone3", 38)
seccomp.refuse("clone", 1, bits=(0, {flags:#x}))
sys.argv[0:1] = []
runpy.run_module("pytest", run_name="__main__")
"""

MARKED = """
import pytest
@pytest.mark.namespaces("net")
def test_a(): ...
@pytest.mark.namespaces("uts", "net")
@pytest.mark.parametrize("number", range(3))
def test_b(number): ...
def test_plain(): ...
"""
NEW = 0x7E020000


def filtered(tmp_path: Path, *args: str, **options: str) -> inner_pytest.Run:
    script = tmp_path / "filtered.py"
    script.write_text(FILTERED.format(tests=str(Path(__file__).parent), flags=NEW))
    return inner_pytest.run(tmp_path, MARKED, *args, program=(str(script), "pytest"), **options)  # type: ignore[arg-type]


def test_not_permitted_is_one_grouped_skip(tmp_path: Path) -> None:
    run = filtered(tmp_path, "-rs")
    assert (run.status, run.summary()) == (0, {"passed": 1, "skipped": 4})
    assert "net ✗(EPERM)" in run.output
    lines = [line for line in run.output.splitlines() if line.startswith("SKIPPED")]
    assert len(lines) == 1 and lines[0].startswith("SKIPPED [4]")
    assert "no net namespace here: clone: a seccomp filter is on, as in a container" in " ".join(run.output.split())


def test_not_permitted_fails_where_that_is_wanted(tmp_path: Path) -> None:
    run = filtered(tmp_path, "--nslab-missing=fail")
    assert run.status == 1 and run.summary() == {"passed": 1, "error": 4}
    run = filtered(tmp_path, ini="nslab_missing = fail\n")
    assert run.status == 1
    run = filtered(tmp_path, "--nslab-missing=skip")
    assert run.status == 0
    run = filtered(tmp_path, ini="nslab_missing = maybe\n")
    assert run.status == 1 and "nslab_missing must be skip or fail, not 'maybe'" in run.output


def test_whole_run_not_permitted(tmp_path: Path) -> None:
    run = filtered(tmp_path, "--nslab=net", "-rs")
    assert (run.status, run.summary()) == (0, {"skipped": 5})
    run = filtered(tmp_path, "--nslab=net", "--nslab-missing=fail")
    assert run.status == 4 and "ERROR: --nslab: no net namespace here" in run.output


def test_import_is_light() -> None:
    """What a run does not use is not imported: the rest of the package waits for the first mark."""
    code = (
        "import pytest, sys; before = set(sys.modules); import nslab._pytest.plugin; print(*set(sys.modules) - before)"
    )
    imported = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not {name for name in imported if name.startswith("nslab._pytest")} - {
        "nslab._pytest",
        "nslab._pytest.plugin",
    }
    assert not imported & {"dataclasses", "asyncio", "multiprocessing"}
