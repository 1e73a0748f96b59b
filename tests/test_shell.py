"""`nslab.shell`: one bash on a terminal of its own, between calls."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import with_user
from nested import fork
from notebook import interrupted_when, processes, until_seen

import nslab
from nslab import _warden

pytestmark = pytest.mark.unprivileged


@pytest.fixture
def sh() -> Iterator[nslab.Shell]:
    flags, options = with_user("uts pid mnt", {"hostname": "lab", "mount_proc": True})
    with nslab.shell(flags, **options) as shell:
        yield shell
    # pytest keeps the fixture's value a while longer, and with it the pidfd.
    vars(shell).clear()
    _warden.stop()


def test_what_one_script_leaves_the_next_finds(sh: nslab.Shell) -> None:
    assert sh.run("cd /; x=5; export Y=6; f() { echo f; }; alias g='echo g'; false").returncode == 1
    done = sh.run("echo $? $x $PWD; f; g\nbash -c 'echo $Y'")
    assert (done.returncode, done.stdout) == (0, "1 5 /\nf\ng\n6\n")


def test_it_is_the_init_of_its_namespaces(sh: nslab.Shell) -> None:
    assert sh.run("echo $$ $(hostname)").stdout == "1 lab\n"
    assert sh.namespaces["uts"] != nslab.namespaces(os.getpid())["uts"]
    assert nslab.processes(sh.process).roots[0].pids[-1] == 1


def test_it_has_a_terminal_and_job_control(sh: nslab.Shell) -> None:
    assert sh.run("test -t 0 && test -t 1 && test -t 2 && stty size").stdout == "24 80\n"
    assert "Running" in sh.run("sleep 60 & jobs").stdout
    assert sh.run("kill %1; wait %1; echo $?").stdout.endswith("143\n")


@pytest.mark.parametrize(
    "script",
    [
        "PS1='$ '; PS2='> '",
        "PROMPT_COMMAND='echo prompt'",
        "unset PS1 PROMPT_COMMAND",
        "exec 2>&1",
        "set -x; set +x",
        "set -u",
        "trap 'true' DEBUG",
    ],
)
def test_a_prompt_never_shows(sh: nslab.Shell, script: str) -> None:
    sh.run(script)
    assert sh.run("echo first\necho second").stdout == "first\nsecond\n"


@pytest.mark.parametrize(
    ("script", "status", "output"),
    [
        ("", 0, ""),
        ("# nothing", 0, ""),
        ("echo 'unfinished", 2, "unexpected EOF"),
        ("if", 2, "syntax error"),
        ("cat <<END\nhere\nEND", 0, "here\n"),
        ("for i in 1 2; do break; done; break 2>/dev/null; echo on", 0, "on\n"),
        ("declare -A a; a[x]=1; echo ${a[x]}", 0, "1\n"),
        ("echo '!x' !!", 0, "!x !!\n"),
        ("printf 'h\\303\\251 \\377'", 0, "h\u00e9 \ufffd"),
        ("no-such-program", 127, "command not found"),
        ("return 3 2>/dev/null", 2, ""),
    ],
)
def test_what_a_script_may_be(sh: nslab.Shell, script: str, status: int, output: str) -> None:
    done = sh.run(script)
    assert (done.returncode, output in done.stdout) == (status, True), done
    assert sh.run("echo on").stdout == "on\n"


def test_who_reads_gets_what_is_typed_and_then_nothing(sh: nslab.Shell) -> None:
    assert sh.run("cat; read x || echo end").stdout == "end\n"
    assert sh.run("read x; echo got $x; cat", input="one\ntwo\n").stdout == "got one\ntwo\n"
    assert sh.run("echo $x").stdout == "one\n"


def test_ten_megabytes(sh: nslab.Shell) -> None:
    assert sh.run("head -c 10000000 /dev/zero | tr '\\0' x").stdout == "x" * 10_000_000


def test_the_output_streams(sh: nslab.Shell, tmp_path: Path) -> None:
    def take(text: str) -> None:
        pieces.append(text)
        (tmp_path / "go").touch()

    pieces: list[str] = []
    done = sh.run(f"echo 1; {until_seen('go', tmp_path)}; echo 2", output=take)
    assert done.stdout is None
    assert pieces == ["1\n", "2\n"]


def test_a_program_that_leaves_the_terminal_raw(sh: nslab.Shell) -> None:
    sh.run("stty raw echo; printf '\\033[?1049h'")
    assert sh.run("echo one; echo two; stty -a | grep -o -- ' -echo '").stdout == "one\ntwo\n -echo \n"


def test_a_failure_can_be_an_error(sh: nslab.Shell) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        sh.run("echo out; exit_with() { return 4; }; exit_with", check=True)
    assert (caught.value.returncode, caught.value.output) == (4, "out\n")


@pytest.mark.parametrize("script", ["sleep 60", "while :; do :; done", "trap '' INT; sleep 60", "stty raw; sleep 60"])
def test_a_timeout_leaves_the_shell_alive(sh: nslab.Shell, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nslab._shell._MOMENT", 3)
    sh.run("x=5")
    with pytest.raises(subprocess.TimeoutExpired):
        sh.run(f"{script}; echo not reached", timeout=0.2)
    assert sh.run("trap - INT; echo $x").stdout in ("5\n", "not reached\n5\n")


def test_an_interrupt_leaves_the_shell_alive(sh: nslab.Shell, lasting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nslab._shell._MOMENT", 30)
    with (
        interrupted_when(lambda: processes(f"sleep\0{lasting}")),
        pytest.raises(KeyboardInterrupt, match="Ctrl-C ended it; the shell lives"),
    ):
        sh.run(f"sleep {lasting}; echo not reached")
    assert sh.run("echo $?").stdout == "130\n"


def test_what_jobs_write_between_scripts_is_kept(
    sh: nslab.Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    sh.run(f"({until_seen('go', tmp_path)}; echo late; touch {done}) &")
    go.touch()
    while not done.exists():
        time.sleep(0.01)
    # What is said of the job is another matter.
    assert sh.run("echo now").stdout.replace("\n", " ").split()[-1] == "now"
    sh.show()
    assert "late" in capsys.readouterr().out


def test_a_script_cannot_reach_the_channel(sh: nslab.Shell) -> None:
    assert "socket" not in sh.run("ls -l /proc/self/fd").stdout


def test_nothing_is_written_into_the_history(tmp_path: Path) -> None:
    flags, options = with_user("uts", {})
    with nslab.shell(flags, env={**os.environ, "HOME": str(tmp_path)}, **options) as shell:
        shell.run("echo secret")
        shell.run("exit")
    _warden.stop()
    assert list(tmp_path.iterdir()) == []


def test_the_end(sh: nslab.Shell) -> None:
    assert sh.run("exit 3").returncode == 3
    assert sh.poll() == 3
    with pytest.raises(nslab.ShellEndedError, match="the shell has ended with 3"):
        sh.run("true")
    assert "ended with 3" in repr(sh)


def test_closing_ends_what_was_started_in_it() -> None:
    flags, options = with_user("uts", {})
    shell = nslab.shell(flags, **options)
    shell.run("setsid sleep 60 & sleep 60 &")
    shell.close()
    shell.close()
    assert _warden.marked(_warden.owner()) == []
    with pytest.raises(nslab.ShellEndedError):
        shell.run("true")
    _warden.stop()


def test_another_process_can_join_it(sh: nslab.Shell) -> None:
    done = nslab.run(0, ["hostname"], join=sh, capture_output=True, text=True)
    assert done.stdout == "lab\n"


@pytest.mark.parametrize("option", ["stdin", "stdout", "text", "bufsize", "start_new_session", "shell", "executable"])
def test_what_is_not_for_a_shell(option: str) -> None:
    with pytest.raises(TypeError, match=f"{option} is not for a shell: it is a bash with a terminal of its own"):
        nslab.shell(0, **{option: None})


def test_its_environment_and_its_descriptors_are_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "leaked")
    with open("/etc/hostname") as file, nslab.shell(0, env={}, pass_fds=[file.fileno()]) as shell:
        assert shell.run("echo [$SECRET]").stdout == "[]\n"
        assert shell.run(f"readlink /proc/$$/fd/{file.fileno()}").stdout == "/etc/hostname\n"
    vars(shell).clear()
    _warden.stop()


def test_input_that_a_terminal_has_no_room_for_at_once(sh: nslab.Shell) -> None:
    assert sh.run("wc -c", input="x\n" * 100_000).stdout == "200000\n"
    assert sh.run("head -n 1; wc -c", input="x" * 4095 + "\n").stdout == "x" * 4095 + "\n0\n"
    with pytest.raises(ValueError, match="a line of input has more than 4095 bytes: a terminal cuts it"):
        sh.run("cat", input="x" * 4096)
    # Nobody reads the rest, and the next script does not get it.
    assert sh.run("head -n 1 >/dev/null; echo on", input="x\n" * 100_000).stdout == "on\n"
    assert sh.run("cat", input="mine\n").stdout == "mine\n"


def test_a_timeout_of_who_never_stops_writing(sh: nslab.Shell) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        sh.run("yes", timeout=0.2, output=lambda text: None)
    assert sh.run("echo on").stdout.endswith("on\n")


def test_a_script_is_text(sh: nslab.Shell) -> None:
    with pytest.raises(TypeError, match="a script is text, not list"):
        sh.run(["echo", "x"])  # type: ignore[arg-type]


def test_a_fork_has_no_shell_to_end(sh: nslab.Shell) -> None:
    if not (pid := fork()):
        sh.close()
        # As when nobody refers to it any more.
        vars(sh).clear()
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert sh.run("echo on").stdout == "on\n"


def test_with_standard_input_closed() -> None:
    flags, options = with_user("uts", {})
    script = (
        f"import nslab, time; sh = nslab.shell({flags}, **{options}); time.sleep(1); print(sh.run('echo on').stdout)"
    )
    closed = ["sh", "-c", '"$@" <&-', "sh", sys.executable, "-c", script]
    assert subprocess.run(closed, capture_output=True, text=True, check=True).stdout == "on\n\n"


def test_a_script_may_take_any_descriptor(sh: nslab.Shell) -> None:
    for number in range(3, 10):
        assert sh.run(f"exec {number}>/dev/null; echo {number}").stdout == f"{number}\n"
        assert sh.run(f"readlink /proc/$$/fd/{number}").stdout == "/dev/null\n"


def test_a_script_with_nul(sh: nslab.Shell) -> None:
    with pytest.raises(ValueError, match="NUL"):
        sh.run("echo \0")


def test_what_is_refused_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="hostname needs the uts namespace"):
        nslab.shell("pid", hostname="lab")
    with pytest.raises(nslab.SpawnError):
        nslab.shell(0, cwd="/nonexistent")
    _warden.stop()


def test_who_is_just_being_executed_is_found() -> None:
    # It has memory then, but no environment yet.
    word = f"{_warden.owner()}/executed"
    for _ in range(100):
        with subprocess.Popen(["sh", "-c", "exec sleep 60"], env=_warden.environment(word)) as process:
            try:
                assert _warden.marked(word) == [process.pid]
            finally:
                process.kill()


def test_an_environment_that_is_not_there_yet_is_waited_for() -> None:
    # posix_spawn(3) comes back at that moment.
    word = f"{_warden.owner()}/executed"
    environment = _warden.environment(word)
    for number in range(2000):
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exec sleep 60"], environment)
        try:
            assert _warden._has(_warden._environment(pid), word), number
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_who_has_no_environment_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_warden, "_PATIENCE", math.inf)
    with subprocess.Popen(["sleep", "60"], env={}) as process:
        try:
            assert _warden._environment(process.pid) == b""
        finally:
            process.kill()
