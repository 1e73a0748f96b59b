"""`nslab.Executor`: what `concurrent.futures` promises, inside namespaces, and workers that die."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import select
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import called
import pytest
from calling import executor, wait_for

import nslab


@pytest.mark.unprivileged
def test_functions_run_inside() -> None:
    with executor("pid uts user", hostname="lab", map_root_user=True) as crew:
        assert isinstance(crew, concurrent.futures.Executor)
        assert crew.submit(called.about).result() == (1, "lab", 0)
        assert crew.submit(sorted, [1, 3, 2], reverse=True).result() == [3, 2, 1]


@pytest.mark.unprivileged
def test_map_in_order_and_in_chunks() -> None:
    with executor("uts") as crew:
        expected = list(range(0, 200, 2))
        assert list(crew.map(called.double, range(100))) == expected
        assert list(crew.map(called.double, range(100), chunksize=7)) == expected
        assert list(crew.map(pow, [2, 3], [3, 2], chunksize=2)) == [8, 9]
        assert list(crew.map(called.double, [], chunksize=2)) == []
        with pytest.raises(ValueError, match="chunksize"):
            crew.map(called.double, [1], chunksize=0)
        with pytest.raises(ValueError, match="no good"):
            list(crew.map(called.fail, ["no good"] * 4, chunksize=2))


@pytest.mark.unprivileged
def test_workers_are_used_again() -> None:
    with executor("uts", 1) as crew:
        first = crew.submit(called.remember, 1).result()
        assert crew.submit(called.remember, 2).result() == [*first, 2]
        assert len({crew.submit(os.getpid).result() for _ in range(20)}) == 1


@pytest.mark.unprivileged
def test_fresh_workers_have_namespaces_of_their_own() -> None:
    with executor("uts", hostname="new", fresh=True) as crew:
        assert list(crew.map(called.hostname_after, ["dirty"] * 6)) == ["new"] * 6
    with executor("uts", 1, hostname="new") as crew:
        assert list(crew.map(called.hostname_after, ["dirty"] * 3)) == ["new", "dirty", "dirty"]


def test_workers_have_namespaces_of_their_own(tmp_path: Path) -> None:
    with executor("uts", 2) as crew:
        first = crew.submit(called.touch_and_wait_for, str(tmp_path / "1"), str(tmp_path / "2"))
        second = crew.submit(called.touch_and_wait_for, str(tmp_path / "2"), str(tmp_path / "1"))
        first.result(), second.result()
        links = set(crew.map(os.readlink, ["/proc/self/ns/uts"] * 100))
    assert os.readlink("/proc/self/ns/uts") not in links


def test_no_more_workers_than_are_needed_or_allowed() -> None:
    with executor("uts", 8) as crew:
        for _ in range(10):
            crew.submit(called.double, 1).result()
        assert len(crew._crew._workers) == 1
    with executor("uts", 3) as crew:
        assert len(set(crew.map(called.pid_of, range(100)))) <= 3
    with executor("uts", None) as crew:
        assert crew._crew._size == len(os.sched_getaffinity(0))


def test_one_thread_looks_after_all_workers(tmp_path: Path) -> None:
    before = threading.active_count()
    with executor("uts", 6) as crew:
        futures = [
            crew.submit(called.touch_and_wait_for, str(tmp_path / f"{n}"), str(tmp_path / "go")) for n in range(6)
        ]
        for number in range(6):
            wait_for(tmp_path / f"{number}")
        assert threading.active_count() == before + 1
        (tmp_path / "go").touch()
        concurrent.futures.wait(futures)
    assert threading.active_count() == before


@pytest.mark.unprivileged
def test_an_initializer_comes_first() -> None:
    with executor("uts", 2, initializer=called.remember, initargs=("first",)) as crew:
        assert crew.submit(called.remember, 1).result() == ["first", 1]
    with executor("uts", 2, initializer=called.fail, initargs=("no good",)) as crew:
        for _ in range(2):
            with pytest.raises(nslab.WorkerDied, match="the initializer failed: no good") as caught:
                crew.submit(called.double, 1).result()
            assert isinstance(caught.value.__cause__, ValueError)
    with (
        executor("uts", 1, initializer=os._exit, initargs=(4,)) as crew,
        pytest.raises(nslab.WorkerDied, match="ended with status 4 before the initializer returned"),
    ):
        crew.submit(called.double, 1).result()


def test_without_its_initializer_no_function_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = tmp_path / "ran"
    with executor("uts", 1, initializer=called.fail, initargs=("no good",)) as crew:
        assert isinstance(crew.submit(ran.touch).exception(), nslab.WorkerDied)
    assert not ran.exists()
    assert capfd.readouterr().err == ""


def test_what_could_never_work_is_refused() -> None:
    for options, error, why in [
        ({"hostname": "lab"}, ValueError, "needs the uts namespace"),
        ({"hostnam": "lab"}, TypeError, "hostnam"),
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"shell": True}, ValueError, "shell is for programs"),
        ({"stdout": nslab.PIPE}, ValueError, "stdout=PIPE"),
        ({"initializer": "print"}, TypeError, "a function is needed"),
    ]:
        with pytest.raises(error, match=why):
            nslab.Executor("pid", **options)  # type: ignore[arg-type]


@pytest.mark.unprivileged
def test_what_the_kernel_refuses_is_told_to_the_future() -> None:
    with executor("", cwd="/nowhere") as crew:
        for _ in range(2):
            with pytest.raises(nslab.SpawnError, match="nowhere"):
                crew.submit(called.double, 1).result()


# ---------------------------------------------------------------------------------------------- functions that fail


@pytest.mark.unprivileged
def test_exceptions_come_with_their_traceback_and_the_worker_goes_on() -> None:
    with executor("uts", 1) as crew:
        worker = crew.submit(os.getpid).result()
        with pytest.raises(ValueError, match="no good") as caught:
            crew.submit(called.fail, "no good").result()
        assert "in fail\n" in str(caught.value.__cause__)
        assert isinstance(crew.submit(called.leave, 3).exception(), SystemExit)
        for broken in (called.lock, called.fail_badly):
            assert isinstance(crew.submit(broken).exception(), pickle.PicklingError)
        assert crew.submit(os.getpid).result() == worker


@pytest.mark.unprivileged
def test_what_cannot_be_sent_is_told_to_the_future() -> None:
    with executor("uts", 1) as crew:
        with pytest.raises(pickle.PicklingError, match="same or an argument"):
            crew.submit(called.same, threading.Lock()).result()
        with pytest.raises(TypeError, match="a function is needed"):
            crew.submit("same").result()  # type: ignore[arg-type]
        assert crew.submit(lambda: 1).result() == 1


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["uts", "uts pid"])
def test_a_worker_that_dies_fails_its_function_and_no_other(flags: str, tmp_path: Path) -> None:
    with executor(flags, 2) as crew:
        other = crew.submit(called.touch_and_wait_for, str(tmp_path / "started"), str(tmp_path / "go"))
        wait_for(tmp_path / "started")
        dying = [crew.submit(os._exit, 3) for _ in range(3)]
        after = crew.submit(called.double, 4)
        for future in dying:
            with pytest.raises(concurrent.futures.BrokenExecutor, match="status 3 before _exit returned") as caught:
                future.result()
            assert isinstance(caught.value, nslab.WorkerDied)
            assert caught.value.returncode == 3
        assert after.result() == 8
        (tmp_path / "go").touch()
        assert other.result() == str(tmp_path / "go")


@pytest.mark.unprivileged
def test_a_function_that_returns_twice_answers_once() -> None:
    with executor("uts", 1) as crew:
        for number in range(5):
            assert crew.submit(called.fork_and_return).result() == "parent"
            assert crew.submit(called.double, number).result() == 2 * number


def test_an_idle_worker_that_dies_harms_nobody() -> None:
    with executor("uts", 1) as crew:
        for _ in range(20):
            os.kill(crew.submit(os.getpid).result(), signal.SIGKILL)
            assert crew.submit(called.double, 1).result() == 2


def test_a_worker_killed_from_outside_says_by_what(tmp_path: Path) -> None:
    with executor("uts", 1) as crew:
        future = crew.submit(called.write_pid_and_hang, str(tmp_path / "pid"))
        os.kill(int(wait_for(tmp_path / "pid")), signal.SIGKILL)
        with pytest.raises(
            nslab.WorkerDied, match="was killed by SIGKILL before write_pid_and_hang returned"
        ) as caught:
            future.result()
        assert caught.value.returncode == -signal.SIGKILL


def test_a_python_that_does_not_start_fails_each_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with executor("uts", 1) as crew:
        for _ in range(2):
            with pytest.raises(nslab.WorkerDied, match="before it could take double"):
                crew.submit(called.double, 1).result()


def _in_time(future: Future[int]) -> int | None:
    try:
        return future.result()
    except TimeoutError:
        return None


@pytest.mark.unprivileged
def test_a_function_that_hangs_is_killed_after_the_timeout(tmp_path: Path) -> None:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as ends:
        with executor("uts", 1, timeout=1.5, pass_fds=[write]) as crew:
            hanging = crew.submit(called.hang_with_a_child, str(tmp_path / "started"), write)
            with pytest.raises(TimeoutError, match=r"hang_with_a_child did not return within 1.5 seconds"):
                hanging.result()
            # Its time begins with the start of a new Python.
            while _in_time(crew.submit(called.double, 1)) != 2:
                pass
        os.close(write)
        assert select.select([ends], [], [], 10)[0]
