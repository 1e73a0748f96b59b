"""`nslab.call`: what goes in, what comes back, from any main module, and on hosts."""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import called
import pytest
from calling import WITHOUT_CLOUDPICKLE, call, script, wait_for

import nslab


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
