"""`nslab.call`: what goes in, what comes back, and everything that can go wrong with a function."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import called
import pytest
from conftest import ROOT, with_user

import nslab

HERE = str(Path(__file__).parent)


def call(flags: Any, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`nslab.call`, for an ordinary user with the user namespace."""
    bits, options = with_user(flags, options)
    return nslab.call(bits, fn, *args, **options)


def wait_for(path: Path) -> str:
    """Return what a function has written, once it is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return path.read_text()


def script(tmp_path: Path, text: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script that has `called` and a `call` for this user; return what it printed, errors included."""
    path = tmp_path / "script.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {HERE!r})\nimport called, nslab\nfrom test_call import call\n{text}"
    )
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    options["env"] = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, str(path)], check=False, **options)


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python buffer what it prints, whatever the tests are run with."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


WITHOUT_CLOUDPICKLE = "sys.modules['cloudpickle'] = None\n"


@pytest.mark.unprivileged
def test_a_function_runs_inside() -> None:
    assert call("pid uts user", called.about, hostname="lab", map_root_user=True) == (1, "lab", 0)


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["", "uts", "pid", "net", "user", "mnt ipc cgroup", "time", "all"])
def test_any_mix_of_namespaces(flags: str) -> None:
    options = {"map_root_user": True} if flags in ("user", "all") else {}
    assert call(flags, called.double, 21, **options) == 42


def test_keyword_arguments_by_partial() -> None:
    assert call("uts", functools.partial(sorted, reverse=True), [1, 3, 2]) == [3, 2, 1]


@pytest.mark.unprivileged
@pytest.mark.parametrize("value", [b"", b"x" * 50_000_000, bytearray(b"y" * 1_000_000), "ü" * 1000, None, [{}, (1,)]])
def test_values_go_there_and_back(value: Any) -> None:
    found = call("uts", called.same, value)
    assert found == value
    assert type(found) is type(value)


def test_large_buffers_are_not_pickled_into_the_message() -> None:
    buffers = [pickle.PickleBuffer(bytearray([number % 256]) * number) for number in range(1500)]
    found = call("uts", called.same, buffers)
    assert [bytes(buffer) for buffer in found] == [bytes(buffer) for buffer in buffers]
    found[-1][0] = 7


@pytest.mark.unprivileged
def test_lambdas_and_closures_by_cloudpickle() -> None:
    factor = 3
    assert call("uts", lambda value: value * factor, 5) == 15


def test_objects_of_a_local_class_come_back_as_that_class() -> None:
    class Local:
        def __init__(self) -> None:
            self.where = os.uname().nodename

    found = call("uts", Local, hostname="lab")
    assert type(found) is Local
    assert found.where == "lab"


def test_modules_are_found_where_this_process_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("import os\ndef where(): return os.getcwd()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    assert call("uts", only_here.where, cwd="/") == "/"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path[1:]])
    assert call("uts", only_here.where, cwd="/") == "/"


def test_what_another_interpreter_cannot_import_says_where_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone.py").write_text("def nothing(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import gone  # type: ignore[import-not-found]

    (tmp_path / "gone.py").unlink()
    with pytest.raises(ModuleNotFoundError, match="gone") as caught:
        call("uts", gone.nothing)
    assert any("fresh interpreter loads" in note for note in caught.value.__notes__)


def test_a_call_imports_little_over_there() -> None:
    assert not call("uts", called.modules) & {"nslab", "pickle", "socket", "cloudpickle", "asyncio", "traceback"}
    assert "_worker" not in call("uts", called.modules)


@pytest.mark.unprivileged
def test_a_function_may_call_another_one() -> None:
    assert call("uts", call, "uts", call, "uts", called.double, 2) == 4


def test_threads_may_call_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: call("uts", called.double, number), range(40))) == list(range(0, 80, 2))


def test_options_of_spawn(tmp_path: Path) -> None:
    assert call("", os.getcwd, cwd=tmp_path) == str(tmp_path)
    assert call("", os.getenv, "HERE", env={"HERE": "there"}) == "there"
    read, write = os.pipe()
    with open(read), open(write, "w"):
        assert call("", os.path.exists, f"/proc/self/fd/{write}", pass_fds=[write])
        assert not call("", os.path.exists, f"/proc/self/fd/{write}")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shell": True}, "shell is for programs"),
        ({"text": True}, "text is for programs"),
        ({"executable": "/bin/sh"}, "executable is for programs"),
        ({"preexec_fn": print}, "preexec_fn is for programs"),
        ({"stdout": nslab.PIPE}, "stdout=PIPE"),
        ({"stdin": nslab.PIPE}, "stdin=PIPE"),
        ({"hostname": "x"}, "needs the uts namespace"),
    ],
)
def test_what_means_nothing_to_a_function_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        nslab.call("", called.about, **options)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="a function is needed, not str"):
        nslab.call("uts", "about")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="hostnam"):
        nslab.call("uts", called.about, hostnam="lab")


@pytest.mark.unprivileged
def test_what_the_kernel_refuses_is_a_spawn_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nslab.SpawnError) as caught:
        call("", called.about, cwd="/nowhere")
    assert caught.value.step == "chdir"


# ------------------------------------------------------------------------------------------------------- exceptions


@pytest.mark.unprivileged
def test_an_exception_comes_with_its_traceback_as_the_cause() -> None:
    with pytest.raises(ValueError, match="no good") as caught:
        call("uts", called.fail, "no good")
    assert caught.value.__notes__ == ["a note"]
    remote = str(caught.value.__cause__)
    assert "in fail\n" in remote
    assert "called.py" in remote
    assert "_worker.py" not in remote


def test_a_chain_of_exceptions_is_in_the_traceback() -> None:
    with pytest.raises(LookupError) as caught:
        call("uts", called.fail_from, "the second one")
    remote = str(caught.value.__cause__)
    assert remote.index("ValueError: the first one") < remote.index("direct cause") < remote.index("the second one")


@pytest.mark.unprivileged
def test_an_exception_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(pickle.PicklingError, match=r"fail_badly raised .* TwoArgumentsError: one and two") as caught:
        call("uts", called.fail_badly)
    assert "raise TwoArgumentsError" in str(caught.value.__cause__)


def test_a_result_that_cannot_be_loaded_says_so() -> None:
    with pytest.raises(AttributeError, match="only_there") as caught:
        call("uts", called.broken)
    assert caught.value.__notes__ == ["This was raised where what broken returned is loaded."]


@pytest.mark.unprivileged
def test_a_result_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(pickle.PicklingError, match="what lock returned, of type lock, cannot be pickled"):
        call("uts", called.lock)


@pytest.mark.unprivileged
def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(pickle.PicklingError, match="same or an argument cannot be pickled"):
        call("uts", called.same, threading.Lock())


@pytest.mark.parametrize("code", [3, "a message", None])
def test_sys_exit_is_an_exception_like_any_other(code: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        call("uts", called.leave, code)
    assert caught.value.code == code


# ---------------------------------------------------------------------------------------------- ends of interpreters


@pytest.mark.unprivileged
@pytest.mark.parametrize("status", [0, 3])
def test_a_function_that_ends_its_interpreter(status: int) -> None:
    with pytest.raises(nslab.WorkerDied, match=f"ended with status {status} before _exit returned") as caught:
        call("uts pid", os._exit, status)
    assert caught.value.returncode == status


@pytest.mark.unprivileged
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_function_that_is_killed(number: signal.Signals) -> None:
    with pytest.raises(nslab.WorkerDied, match=f"was killed by {number.name} before die returned") as caught:
        call("uts", called.die, number)
    assert caught.value.returncode == -number


def test_a_function_that_closes_everything() -> None:
    with pytest.raises(nslab.WorkerDied, match="before close_everything returned"):
        call("uts", called.close_everything, stderr=nslab.DEVNULL)


def test_a_python_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(nslab.WorkerDied, match="ended with status 1 before it could take about"):
        call("uts", called.about)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match=r"sys\.executable"):
        call("uts", called.about)


@pytest.mark.skipif(not ROOT, reason="only root may become somebody else")
def test_a_user_who_may_not_reach_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "closed" / "python"
    python.parent.mkdir(mode=0o700)
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(PermissionError) as caught:
        nslab.call("", os.getuid, user=65534)
    assert isinstance(caught.value, nslab.SpawnError)
    assert (caught.value.step, caught.value.filename) == ("execve", str(python))


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["uts", "uts pid"])
def test_a_function_that_hangs_is_killed_with_its_children(flags: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as ends:
        with open(write, "wb"), pytest.raises(TimeoutError, match="hang_with_a_child did not return within 10 seconds"):
            call(flags, called.hang_with_a_child, str(tmp_path / "started"), write, pass_fds=[write], timeout=10)
        assert (tmp_path / "started").exists()
        # Nobody has the other end any more.
        assert select.select([ends], [], [], 10)[0]
        assert ends.read() == b""


def test_a_timeout_counts_from_the_start_to_the_end() -> None:
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        call("uts", time.sleep, 60, timeout=0.01)
    assert time.monotonic() - before < 5
    with pytest.raises(TimeoutError):
        call("uts", called.about, timeout=0)
    assert call("uts", called.double, 1, timeout=60) == 2


@pytest.mark.unprivileged
def test_a_timeout_of_the_function_itself_is_its_own() -> None:
    with pytest.raises(TimeoutError, match="mine") as caught:
        call("uts", called.raise_, TimeoutError("mine"), timeout=60)
    assert caught.value.__cause__ is not None


@pytest.mark.unprivileged
def test_what_is_registered_for_the_end_is_done(tmp_path: Path) -> None:
    call("uts", called.at_exit, str(tmp_path / "end"))
    assert (tmp_path / "end").read_text() == "done"


@pytest.mark.unprivileged
def test_a_function_that_returns_twice_returns_once() -> None:
    assert call("uts", called.fork_and_return) == "parent"


def test_what_a_function_starts_has_not_got_the_wire() -> None:
    assert "socket:" not in call("uts", called.links_of_a_program)


@pytest.mark.unprivileged
def test_an_interrupt_ends_the_function(tmp_path: Path) -> None:
    path, main = tmp_path / "pid", threading.get_ident()
    pidfds: list[int] = []

    def interrupt() -> None:
        pidfds.append(os.pidfd_open(int(wait_for(path))))
        signal.pthread_kill(main, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        interrupting = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            call("uts", called.write_pid_and_hang, str(path))
        interrupting.result()
    assert select.select(pidfds, [], [], 10)[0]
    os.close(pidfds[0])


@pytest.mark.unprivileged
def test_the_function_ends_with_this_process_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    text = f"call('uts', called.write_pid_and_hang, {str(tmp_path / 'pid')!r})"
    path.write_text(f"import sys; sys.path.insert(0, {HERE!r})\nimport called\nfrom test_call import call\n{text}\n")
    with subprocess.Popen([sys.executable, str(path)]) as parent:
        pidfd = os.pidfd_open(int(wait_for(tmp_path / "pid")))
        parent.kill()
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)


def test_a_program_that_dies_of_broken_pipes_does_not_die_of_a_dead_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    try:
        with pytest.raises(nslab.WorkerDied):
            call("uts", called.same, b"x" * 10_000_000)
    finally:
        signal.signal(signal.SIGPIPE, before)


# ----------------------------------------------------------------------------------------------------- what it prints


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
    path.write_text(f"import sys; sys.path.insert(0, {HERE!r})\nimport called\nfrom test_call import call\n{text}")
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


# ----------------------------------------------------------------------------------------------- the main module


OWN = """
class Point:
    def __init__(self, x): self.x = x

def move(point): return Point(point.x + 1)
"""


@pytest.mark.unprivileged
@pytest.mark.parametrize("without", ["", WITHOUT_CLOUDPICKLE])
def test_functions_and_classes_of_a_script(tmp_path: Path, without: str) -> None:
    text = f"{OWN}{without}\nif __name__ == '__main__':\n    found = call('uts', move, Point(1))\n"
    done = script(tmp_path, text + "    print(type(found) is Point, found.x)\n")
    assert done.stdout == "True 2\n"


def test_a_script_without_a_guard(tmp_path: Path) -> None:
    assert script(tmp_path, f"{OWN}\nprint(call('uts', move, Point(1)).x)").stdout == "2\n"
    done = script(tmp_path, f"{WITHOUT_CLOUDPICKLE}{OWN}\nprint(call('uts', move, Point(1)).x)")
    assert done.returncode == 1
    assert "RuntimeError" in done.stdout
    assert "__main__" in done.stdout


@pytest.mark.parametrize("by", ["-c", "-"])
def test_a_main_module_that_is_no_file_needs_cloudpickle(by: str) -> None:
    text = f"import sys, nslab\n{WITHOUT_CLOUDPICKLE}\ndef f(): pass\ntry: nslab.call('uts', f)\n"
    text += "except Exception as error: print(repr(error))\n"
    argv = [sys.executable, by, *([text] if by == "-c" else [])]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("PicklingError('f or an argument is defined in __main__")
    assert "pip install cloudpickle" in done.stdout


def test_the_mere_name_of_the_main_module_is_no_reference_to_it() -> None:
    text = f"import sys, nslab\n{WITHOUT_CLOUDPICKLE}\nprint(nslab.call('uts', str.upper, '__main__'))"
    assert subprocess.check_output([sys.executable, "-c", text], text=True) == "__MAIN__\n"


def test_a_lambda_without_cloudpickle_says_what_to_install(tmp_path: Path) -> None:
    text = f"{WITHOUT_CLOUDPICKLE}\ntry: call('uts', lambda: 1)\nexcept Exception as error: print(repr(error))"
    assert "pip install cloudpickle" in script(tmp_path, text).stdout


# ------------------------------------------------------------------------------------------------------------ hosts


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["user uts", "user uts pid", "all"])
def test_a_function_in_a_host(flags: str) -> None:
    with nslab.Host(flags, map_root_user=True, hostname="kept") as host:
        pid, name, uid = host.call(called.about)
        assert (name, uid) == ("kept", 0)
        assert (pid < 100) == (flags != "user uts")
        with pytest.raises(ValueError, match="no good"):
            host.call(called.fail, "no good")
        with pytest.raises(TimeoutError, match="hang did not return"):
            host.call(called.hang, timeout=0.3)
        with pytest.raises(nslab.WorkerDied, match="status 3"):
            host.call(os._exit, 3)
        assert host.alive
        assert host.pids() == []


@pytest.mark.unprivileged
def test_an_executor_in_a_host() -> None:
    with nslab.Host("user uts", map_root_user=True, hostname="kept") as host:
        with nslab.Executor(0, 2, join=host) as executor:
            assert set(executor.map(called.hostname_after, ["changed"] * 8)) <= {"kept", "changed"}
            assert host.call(os.uname).nodename == "changed"
        with nslab.Executor("net", 1, join=host) as executor:
            assert executor.submit(called.about).result()[1] == "changed"
        done = asyncio.run(nslab.arun(0, ["uname", "-n"], join=host, capture_output=True, text=True))
        assert done.stdout == "changed\n"


def test_a_host_that_has_ended_or_is_named_twice() -> None:
    with nslab.Host("uts") as host, pytest.raises(TypeError, match="join"):
        host.call(called.about, join=host)
    with pytest.raises(ProcessLookupError):
        host.call(called.about)


def test_a_host_that_ends_ends_its_functions(tmp_path: Path) -> None:
    with nslab.Host("uts pid") as host, ThreadPoolExecutor(1) as pool:
        future = pool.submit(host.call, called.touch_and_hang, str(tmp_path / "started"))
        wait_for(tmp_path / "started")
        host.close()
        with pytest.raises(nslab.WorkerDied, match="SIGKILL"):
            future.result()


@pytest.mark.unprivileged
def test_under_an_init() -> None:
    assert call("pid", called.about, init=True)[0] == 2
    with pytest.raises(nslab.WorkerDied, match="ended with status 3"):
        call("pid", os._exit, 3, init=True)
    with pytest.raises(TimeoutError):
        call("pid", called.hang, init=True, timeout=0.3)
