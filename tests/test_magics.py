"""``%%ns`` and ``%ns`` in IPython: options, output, errors, pictures."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, inode, with_user
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from notebook import interrupted_when, processes, until_seen
from traitlets.config import Config

import nslab
from nslab import _warden
from nslab._magics import kept, words
from nslab._magics.cell import Cell

pytestmark = pytest.mark.unprivileged
PID1_HAS_NO_HANDLER = "has no handler for SIGINT and SIGTERM"


@pytest.fixture(scope="module")
def ipython() -> Iterator[Any]:
    config = Config()
    config.HistoryManager.enabled = False
    shell: Any = InteractiveShell(config=config)  # type: ignore[no-untyped-call]
    shell.extension_manager.load_extension("nslab")
    yield shell
    shell.extension_manager.unload_extension("nslab")


@pytest.fixture
def cell(ipython: Any) -> Iterator[Callable[..., None]]:
    """Run a ``%%ns`` cell."""

    def run(line: str, *lines: str) -> None:
        ipython.run_cell_magic("ns", line, "\n".join(lines) + "\n")

    yield run
    # What a test leaves running, and the warden, are children of this process.
    magics = ipython.magics_manager.registry["NamespaceMagics"]
    for made in [magics.last, *magics._background, *ipython.user_ns.values()]:
        if isinstance(made, Cell):
            made.end()
    _warden.stop()
    magics.last, magics._background = None, []
    ipython.user_ns.clear()


@pytest.fixture
def look(ipython: Any, cell: Callable[..., None]) -> Callable[[str], None]:
    """Run a ``%ns`` line."""
    return lambda line: ipython.run_line_magic("ns", line)


Run = Callable[..., None]


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the standard output; there is nothing on standard error."""
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


# ---------------------------------------------------------------------------------------------------------- the child


def test_the_cell_runs_in_new_namespaces(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts pid --hostname lab", "hostname", "echo $$", "readlink /proc/$$/ns/uts 2>/dev/null || true")
    assert shown(capsys).splitlines()[:2] == ["lab", "1"]


@pytest.mark.parametrize(
    ("line", "own"),
    [
        ("uts", "uts"),
        ("uts,ipc", "uts ipc"),
        ("--uts --ipc", "uts ipc"),
        ("uts -i", "uts ipc"),
        ("mount", "mnt"),
        ("--mount-proc pid", "mnt pid"),
        ("pid --mount-proc", "mnt pid"),
        ("--map-root-user", "user"),
        ("time --boottime 86400", "time"),
        ("", ""),
    ],
)
def test_flags_and_switches_name_the_namespaces(cell: Run, ipython: Any, line: str, own: str) -> None:
    cell(f"{line} --proc p", "true")
    made = ipython.user_ns["p"].namespaces
    new = {kind for kind, namespace in made.items() if namespace.inode != inode(kind)}
    assert new - {"user"} == set(own.split()) - {"user"}
    assert ("user" in new) == ("user" in own.split() or (bool(own) and not ROOT))


def test_the_options_are_those_of_the_command(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("net time --loopback --boottime 1000000 --wd /", "pwd", "cat /proc/self/timens_offsets", "ip -br addr show up")
    out = shown(capsys).split()
    assert out[0] == "/"
    assert out[out.index("boottime") + 1] == "1000000"
    assert "127.0.0.1/8" in out


@pytest.mark.unprivileged
def test_a_cell_on_a_host(cell: Callable[..., None], ipython: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with nslab.Host("user uts", name="magic", map_root_user=True, hostname="kept") as host:
        cell("--on magic", "hostname; hostname changed")
        ipython.user_ns["mine"] = host
        cell("pid --on mine", "hostname; echo $$")
        assert capsys.readouterr().out == "kept\nchanged\n1\n"
        del ipython.user_ns["mine"]
    with pytest.raises(UsageError, match="no host has the name magic"):
        cell("--on magic", "true")


def test_a_variable_can_be_joined(cell: Run, ipython: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts pid mnt --hostname outer --mount-proc --shell lab", "true")
    cell("--join lab", "hostname")
    assert shown(capsys) == "outer\n"
    ipython.user_ns["lab"].close()


def test_another_program_gets_the_cell(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts --hostname lab -- python3 -", "import os", "print(os.uname().nodename)")
    cell("-- cat", "x" * 200_000)
    assert shown(capsys) == "lab\n" + "x" * 200_000 + "\n"


def test_a_script_longer_than_an_argument_may_be(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts", "# " + "x" * 200_000, "echo end")
    assert shown(capsys) == "end\n"


def test_the_namespaces_of_the_shortest_script_are_held(cell: Run, ipython: Any) -> None:
    for _ in range(50):
        cell("uts net --proc p", ":")
        assert {"uts", "net"} <= set(ipython.user_ns["p"].held.types)


def test_the_environment_is_the_kernels(
    cell: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    rc = tmp_path / "it's mine"
    rc.write_text("greet() { echo hello; }")
    monkeypatch.setenv("BASH_ENV", str(rc))
    cell("", "greet", 'echo "$BASH_ENV"', "ls -l /proc/self/fd | grep -c pipe")
    assert shown(capsys).splitlines() == ["hello", str(rc), "2"]


# --------------------------------------------------------------------------------------------------------- the output


def test_both_streams_arrive(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts", "echo out; echo err >&2")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")


def test_the_output_goes_into_variables(cell: Run, ipython: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts --out o --err e", "echo out; echo err >&2; head -c 300000 /dev/zero | tr '\\0' x")
    assert ipython.user_ns["o"] == "out\n" + "x" * 300_000
    assert ipython.user_ns["e"] == "err\n"
    assert shown(capsys) == ""


def test_output_that_is_no_text(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("", "printf 'h\\303'; sleep 0.05; printf '\\251 \\377 \\303'")
    assert shown(capsys) == "h\u00e9 \ufffd \ufffd"


@pytest.mark.parametrize("stream", ["out", "err"])
def test_ten_megabytes(cell: Run, capsys: pytest.CaptureFixture[str], stream: str) -> None:
    target = "" if stream == "out" else ">&2"
    cell("uts", f"head -c 10000000 /dev/zero | tr '\\0' x {target}")
    assert getattr(capsys.readouterr(), stream) == "x" * 10_000_000


def test_a_script_that_reads_gets_nothing(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("", "cat", "read x || echo nothing", "echo end")
    assert shown(capsys) == "nothing\nend\n"


def test_a_script_that_closes_its_output(cell: Run, ipython: Any) -> None:
    cell("--proc p", "exec >&- 2>&-", "sleep 0.1")
    assert ipython.user_ns["p"].returncode == 0


# ------------------------------------------------------------------------------------------------------------ the end


def test_a_failure_is_an_error_in_one_line(cell: Run) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        cell("uts", "exit 3")
    assert caught.value.returncode == 3
    assert rendered(caught.value) == ["CalledProcessError: the cell returned non-zero exit status 3"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        cell("uts", "kill -KILL $$")
    assert rendered(caught.value) == ["CalledProcessError: the cell was ended by SIGKILL"]


def rendered(error: BaseException) -> Any:
    return error._render_traceback_()  # type: ignore[attr-defined]


def test_a_failure_that_is_wanted(cell: Run, ipython: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell("--no-raise-error --proc p", "exit 3")
    assert ipython.user_ns["p"].returncode == 3
    assert shown(capsys) == ""


def test_a_timeout_ends_the_whole_tree(cell: Run) -> None:
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        cell("uts --timeout 0.2", "setsid sleep 60 & sleep 60")
    assert time.monotonic() - start < 30
    assert _warden.marked(_warden.owner()) == []
    assert rendered(caught.value) == ["TimeoutExpired: the cell was killed after 0.2 seconds"]


def test_a_daemon_does_not_hold_the_cell(
    cell: Run, look: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell("uts --proc p", f"echo now; ({until_seen('go', tmp_path)}; echo late; sleep 60) &")
    out = shown(capsys)
    assert out.startswith("now\nstill running: ")
    assert "late" not in out
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 30
    while not (out := shown(capsys)) and time.monotonic() < deadline:
        look("show")
    assert out == "late\n"
    look("kill")
    assert _warden.marked(_warden.owner()) == []


def test_a_daemon_in_a_pid_namespace_ends_with_it(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("pid", "setsid sleep 60 & echo now")
    assert shown(capsys) == "now\n"
    assert _warden.marked(_warden.owner()) == []


def test_a_full_file_system_is_the_scripts_problem(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        cell("mnt", "mount -t tmpfs -o size=1m none /mnt; head -c 2000000 /dev/zero > /mnt/full")
    assert "No space left on device" in capsys.readouterr().err
    cell("mnt", "echo next")
    assert shown(capsys) == "next\n"


def test_the_namespaces_of_a_child_are_let_go_with_the_next(cell: Run, ipython: Any) -> None:
    magics = ipython.magics_manager.registry["NamespaceMagics"]
    cell("mnt uts net", "true")
    files = dict(magics.last.held._files)
    assert {"mnt", "net", "uts"} <= set(files)
    names = {os.readlink(f"/proc/self/fd/{file}") for file in files.values()}
    cell("", "true")
    assert not names & {os.readlink(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd") if alive(file)}


def alive(file: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{file}")


# ------------------------------------------------------------------------------------------------------ the interrupt


@pytest.mark.parametrize(
    ("flags", "script", "moment", "said"),
    [
        ("uts", "sleep {}", 10, "SIGINT ended it"),
        ("uts", "trap '' INT; sleep {}", 2, "SIGTERM ended it"),
        (
            "uts",
            "trap '' INT TERM; setsid sleep {} & sleep {}; sleep 60",
            0.3,
            "SIGKILL ended it, and 2 more processes",
        ),
        ("pid", "sleep {}", 0.3, PID1_HAS_NO_HANDLER),
        ("pid", "trap '' INT TERM; sleep {} & sleep {}; sleep 60", 0.3, "and 2 more processes"),
    ],
)
def test_an_interrupt_ends_the_whole_tree(
    cell: Run, lasting: str, monkeypatch: pytest.MonkeyPatch, flags: str, script: str, moment: float, said: str
) -> None:
    monkeypatch.setattr("nslab._magics.interrupt._MOMENT", moment)
    sleeping, start = script.count("{}"), time.monotonic()
    with (
        interrupted_when(lambda: len(processes(f"sleep\0{lasting}")) == sleeping),
        pytest.raises(KeyboardInterrupt) as caught,
    ):
        cell(flags, script.replace("{}", lasting))
    assert time.monotonic() - start < 30
    assert said in str(caught.value)
    assert rendered(caught.value) == [f"KeyboardInterrupt: {caught.value}"]
    assert _warden.marked(_warden.owner()) == []


# ----------------------------------------------------------------------------------------------------- the background


def test_the_output_of_the_background_is_kept(cell: Run, ipython: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts --bg --proc p", "echo out; echo err >&2")
    process = ipython.user_ns["p"]
    process.wait()
    process._kept.join(10)
    assert shown(capsys) == ""
    process.show()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")


def test_the_background_gives_its_pipe(cell: Run, ipython: Any) -> None:
    cell("uts --bg --out o --proc p", "echo out")
    with ipython.user_ns["o"] as pipe:
        assert pipe.read() == b"out\n"
    assert ipython.user_ns["p"].wait() == 0
    ipython.user_ns["p"]._kept.join(10)


def test_a_timeout_in_the_background(cell: Run, ipython: Any) -> None:
    cell("uts --bg --timeout 0.1 --proc p", "sleep 60")
    assert ipython.user_ns["p"].wait(10) == -signal.SIGKILL


def test_who_writes_too_much_waits(
    cell: Run, ipython: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LIMIT", 100_000)
    cell("uts --bg --proc p", "head -c 1000000 /dev/zero | tr '\\0' x")
    process, out = ipython.user_ns["p"], ""
    deadline = time.monotonic() + 30
    while len(out) < 1_000_000 and time.monotonic() < deadline:
        process.show()
        out += capsys.readouterr().out
    assert out == "x" * 1_000_000
    assert process.wait() == 0
    process._kept.join(10)


def test_many_in_the_background_leave_no_zombie(cell: Run, look: Callable[[str], None]) -> None:
    for _ in range(5):
        cell("uts --bg", "true")
    time.sleep(0.2)
    cell("", "true")


# ------------------------------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("utss", "unknown namespace 'utss': did you mean 'uts'?"),
        (
            "uts nonsense",
            "unknown namespace 'nonsense': the names are cgroup, ipc, mnt, net, pid, time, user, uts, all",
        ),
        ("uts --host lab", "unrecognized arguments: --host"),
        ("uts --hostname", "argument --hostname: expected one argument"),
        ("--hostname lab", 'hostname needs the uts namespace (add "uts" to the flags)'),
        ("uts --hostname " + "x" * 65, "hostname is 65 bytes long; the kernel takes at most 64"),
        ("--out 1x", "argument --out: '1x' is not a name for a variable"),
        ("--timeout soon", "argument --timeout: invalid float value: 'soon'"),
        ("--timeout 0", "--timeout: 0.0 is not a time to wait"),
        ("--shell x --bg", "--shell: a terminal has one output and runs one script"),
        ("user --map-users 1:2", "argument --map-users: '1:2' is neither INSIDE:OUTSIDE:COUNT"),
    ],
)
def test_a_mistake_is_a_usage_line(cell: Run, line: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        cell(line, "touch /tmp/nslab-must-not-exist")
    message, usage, help_line = str(caught.value).splitlines()
    assert message.startswith(sentence)
    assert usage == "usage: %%ns [flag ...] [options] [-- program [argument ...]]"
    assert help_line == "Help: %%ns?"
    assert not os.path.exists("/tmp/nslab-must-not-exist")


def test_an_empty_cell(cell: Run) -> None:
    with pytest.raises(UsageError, match="the cell is empty"):
        cell("uts", "  ")


@pytest.mark.parametrize("line", ["", "cards", "card nothing", "card 4 x"])
def test_a_mistake_in_the_line(look: Callable[[str], None], line: str) -> None:
    with pytest.raises(UsageError):
        look(line)


def test_what_the_kernel_refuses_is_one_sentence(cell: Run) -> None:
    with pytest.raises(nslab.SpawnError) as caught:
        cell("--join /proc/self/ns/nothing", "true")
    (line,) = rendered(caught.value)
    assert "open_ns" in line
    assert "%ns doctor" in line


def test_a_program_that_is_missing(cell: Run) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cell("uts -- no-such-program", "x")
    assert "no-such-program" in rendered(caught.value)[0]


def test_the_help_names_every_option(ipython: Any) -> None:
    text = ipython.find_cell_magic("ns").__doc__ or ""
    assert {"--out", "--bg", "--hostname", "--propagation", "--shell"} <= set(text.replace(",", " ").split())


# ------------------------------------------------------------------------------------------------------- the pictures


WORDS = ["card", "mounts", "users", "net", "ipc", "clocks"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("ended", [False, True])
def test_a_picture(
    cell: Run,
    look: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    word: str,
    ended: bool,
) -> None:
    script = "ip link set lo up; ipcmk -Q >/dev/null; mount -t tmpfs none /mnt; echo ready"
    cell("uts pid mnt net ipc time --boottime 86400" + " --bg" * (not ended), script, "sleep 60" if not ended else ":")
    deadline = time.monotonic() + 10
    while "ready" not in capsys.readouterr().out and time.monotonic() < deadline:
        look("show")
    look(word)
    out = shown(capsys)
    expected = {"card": "≠ different", "mounts": "/mnt", "users": "0", "net": "lo", "ipc": "0x", "clocks": "86400"}
    assert expected[word] in out.replace("1 d", "86400"), out
    look("kill")


def test_the_processes_of_a_child_that_lives(
    cell: Run, look: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    cell("pid --bg", "sleep 60 & sleep 60; :")
    look("pids")
    assert "1 deeper" in shown(capsys)
    look("kill")


def test_the_processes_of_a_child_that_has_ended(cell: Run, look: Callable[[str], None]) -> None:
    cell("pid", "true")
    with pytest.raises(ProcessLookupError, match="which was 1 in its pid namespace, has ended"):
        look("pids")


def test_a_picture_of_nobody(look: Callable[[str], None]) -> None:
    with pytest.raises(LookupError, match="there is no child yet"):
        look("card")


def test_pictures_of_processes_that_are_named(
    cell: Run, look: Callable[[str], None], ipython: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, options = with_user("uts", {})
    with nslab.spawn(flags, ["cat"], stdin=nslab.PIPE, **options) as process:
        ipython.user_ns["p"] = process
        look(f"card p {os.getpid()}")
        assert "≠ 1 of 2" in shown(capsys)


def test_the_doctor(look: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    look("doctor")
    assert "uts" in shown(capsys)


def test_every_namespace(look: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    look("tree")
    assert "user" in shown(capsys)


def test_the_plan_comes_first(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("uts --hostname lab --show", "hostname")
    out = shown(capsys)
    assert 'sethostname("lab", 3)' in out
    assert "unshare" in out
    assert out.endswith("lab\n")


def test_a_cell_is_a_process() -> None:
    assert issubclass(Cell, nslab.Process)


# ---------------------------------------------------------------------------------------------------------- the shell


def test_a_shell_is_kept_between_cells(
    cell: Run, ipython: Any, look: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    cell("uts pid --hostname box --shell box", "cd /; x=5; hostname")
    cell("--shell box", "echo $x $PWD $$")
    assert shown(capsys) == "box\n5 / 1\n"
    cell("--shell box --out o", "echo kept")
    assert ipython.user_ns["o"] == "kept\n"
    with pytest.raises(subprocess.CalledProcessError):
        cell("--shell box", "false")
    with pytest.raises(UsageError, match="has its namespaces already"):
        cell("--shell box net", "true")
    look("pids")
    assert "bash" in shown(capsys)
    look("kill")
    with pytest.raises(nslab.ShellEndedError):
        cell("--shell box", "true")
    ipython.user_ns["box"].close()


def test_a_variable_that_is_no_shell(cell: Run, ipython: Any) -> None:
    ipython.user_ns["box"] = 5
    with pytest.raises(UsageError, match="box is a int, not a shell"):
        cell("--shell box", "true")


def test_its_help_is_not_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # Since Python 3.14 argparse would colour it, as ipykernel asks for colours.
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in words.parser()[0].format_help()
