"""`nslab.call` and what the function prints."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import called
import pytest
from calling import HERE, call, script

import nslab


def test_prints_appear_in_order(tmp_path: Path) -> None:
    text = "print('before')\ncall('uts', called.say, 'inside')\nprint('after')\n"
    assert script(tmp_path, text).stdout == "before\ninside\nafter\n"
    with open(tmp_path / "out", "w+") as out:
        script(tmp_path, text, stdout=out)
        out.seek(0)
        assert out.read() == "before\ninside\nafter\n"


@pytest.mark.unprivileged
def test_prints_go_where_those_of_this_process_go() -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        print("before")
        call("uts pid", called.say, "out", "err")
        call("uts pid", called.say_by_a_program, "ü")
        print(" after")
    assert out.getvalue() == "before\nout\nfirst\nü\nlast after\n"
    assert err.getvalue() == "err\n"


def test_prints_of_a_notebook() -> None:
    class OutStream(io.StringIO):
        """As in ipykernel, where the number is that of the terminal."""

        def fileno(self) -> int:
            return terminal

    terminal = os.open("/dev/null", os.O_WRONLY)
    try:
        with contextlib.redirect_stdout(OutStream()) as stream:
            call("uts", called.say, "to the notebook")
    finally:
        os.close(terminal)
    assert stream.getvalue() == "to the notebook\n"


def test_large_outputs_and_split_characters(capsys: pytest.CaptureFixture[str]) -> None:
    text = "aü€𝄞" * 300_000
    call("uts", called.write, text.encode())
    call("uts", called.write, b"\xff\n")
    assert capsys.readouterr().out == text + "\N{REPLACEMENT CHARACTER}\n"


def test_prints_come_while_it_runs(tmp_path: Path) -> None:
    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            (tmp_path / "seen").touch()
            return super().write(text)

    with contextlib.redirect_stdout(Stream()):
        call("uts", called.say_and_wait_for, str(tmp_path / "seen"), timeout=30)


def test_a_child_that_keeps_the_output_open_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    pid = call("uts", called.leave_a_child)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.unprivileged
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_program_without_standard_streams(tmp_path: Path, closed: str) -> None:
    text = "import nslab\nfound = call('uts', called.double, 21, stderr=nslab.DEVNULL)\n"
    text += f"open({str(tmp_path / 'found')!r}, 'w').write(str(found))"
    path = tmp_path / "script.py"
    path.write_text(f"import sys; sys.path.insert(0, {HERE!r})\nimport called\nfrom calling import call\n{text}")
    subprocess.run(["sh", "-c", f'exec "$0" "$1" {closed}', sys.executable, str(path)], check=True)
    assert (tmp_path / "found").read_text() == "42"


def test_closed_streams() -> None:
    out = io.StringIO()
    out.close()
    with contextlib.redirect_stdout(out):
        assert call("uts", called.double, 2) == 4


def test_outputs_may_be_named(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+") as out:
        call("uts", called.say, "out", "err", stdout=out, stderr=nslab.STDOUT)
        out.seek(0)
        assert sorted(out.read().split()) == ["err", "out"]
    call("uts", called.say, "nowhere", stdout=nslab.DEVNULL)


@pytest.mark.unprivileged
def test_standard_input_stays_the_users(tmp_path: Path) -> None:
    assert script(tmp_path, "print(call('uts', called.read_line))", input="a line\n").stdout == "a line\n"
