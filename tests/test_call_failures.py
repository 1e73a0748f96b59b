"""`nslab.call` where the function fails: exceptions, and interpreters that die, hang or are interrupted."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import called
import pytest
from calling import HERE, call, wait_for
from conftest import ROOT

import nslab

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
    path.write_text(f"import sys; sys.path.insert(0, {HERE!r})\nimport called\nfrom calling import call\n{text}\n")
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
