"""`nslab.Executor`: what `concurrent.futures` promises, inside namespaces, and workers that die."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import io
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import called
import pytest
from conftest import with_user
from nested import fork
from test_call import HERE, WITHOUT_CLOUDPICKLE, buffered, script, wait_for

import nslab

assert buffered


def executor(flags: Any, max_workers: int | None = 2, **options: Any) -> nslab.Executor:
    """`nslab.Executor`, for an ordinary user with the user namespace."""
    bits, options = with_user(flags, options)
    return nslab.Executor(bits, max_workers, **options)


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


@pytest.mark.unprivileged
def test_a_function_that_hangs_is_killed_after_the_timeout(tmp_path: Path) -> None:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as ends:
        with executor("uts", 1, timeout=1.5, pass_fds=[write]) as crew:
            hanging = crew.submit(called.hang_with_a_child, str(tmp_path / "started"), write)
            with pytest.raises(TimeoutError, match=r"hang_with_a_child did not return within 1.5 seconds"):
                hanging.result()
            assert crew.submit(called.double, 1).result() == 2
        os.close(write)
        assert select.select([ends], [], [], 10)[0]


# --------------------------------------------------------------------------------------------------- the life of it


def test_futures_that_wait_can_be_cancelled(tmp_path: Path) -> None:
    with executor("uts", 1) as crew:
        running = crew.submit(called.touch_and_wait_for, str(tmp_path / "started"), str(tmp_path / "go"))
        wait_for(tmp_path / "started")
        waiting = [crew.submit(called.double, number) for number in range(4)]
        assert not running.cancel()
        assert waiting[1].cancel()
        (tmp_path / "go").touch()
        assert waiting[3].result() == 6
        assert waiting[1].cancelled()
        assert set(concurrent.futures.as_completed(waiting, timeout=10)) == set(waiting)


def test_shutdown_does_what_was_submitted(tmp_path: Path) -> None:
    crew = executor("uts", 1)
    futures = [crew.submit(called.double, number) for number in range(10)]
    crew.shutdown()
    assert [future.result(0) for future in futures] == list(range(0, 20, 2))
    with pytest.raises(RuntimeError, match="after shutdown"):
        crew.submit(called.double, 1)
    crew.shutdown()


def test_shutdown_may_drop_what_waits(tmp_path: Path) -> None:
    crew = executor("uts", 1)
    running = crew.submit(called.touch_and_wait_for, str(tmp_path / "started"), str(tmp_path / "go"))
    wait_for(tmp_path / "started")
    waiting = [crew.submit(called.double, number) for number in range(4)]
    crew.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert concurrent.futures.wait(waiting, 10).not_done == set()
    (tmp_path / "go").touch()
    assert running.result()
    crew.shutdown()


def test_an_unused_one_costs_nothing() -> None:
    crew = executor("uts")
    assert not crew._crew._workers
    crew.shutdown()
    crew.shutdown()
    del crew
    executor("uts")
    gc.collect()


@pytest.mark.unprivileged
def test_a_forgotten_one_ends(tmp_path: Path) -> None:
    crew = executor("uts", 1)
    future = crew.submit(called.double, 1)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "nslab.Executor")
    del crew
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    assert future.result() == 2


def test_workers_may_be_killed(tmp_path: Path) -> None:
    crew = executor("uts pid", 1)
    running = crew.submit(called.touch_and_hang, str(tmp_path / "started"))
    wait_for(tmp_path / "started")
    waiting = crew.submit(called.double, 1)
    crew.kill_workers()
    with pytest.raises(nslab.WorkerDied, match="SIGKILL"):
        running.result()
    with pytest.raises(CancelledError):
        waiting.result()


@pytest.mark.unprivileged
def test_an_interrupt_kills_the_workers(tmp_path: Path) -> None:
    main = threading.get_ident()

    def interrupt() -> None:
        wait_for(tmp_path / "started")
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), executor("uts", 1) as crew:
        thread.start()
        crew.submit(called.touch_and_hang, str(tmp_path / "started")).result()
    thread.join()


def test_a_callback_may_submit() -> None:
    done: Future[int] = Future()
    with executor("uts", 1) as crew:

        def again(future: Future[int]) -> None:
            crew.submit(called.double, future.result()).add_done_callback(lambda last: done.set_result(last.result()))

        crew.submit(called.double, 1).add_done_callback(again)
        assert done.result(30) == 4


def test_many_threads_may_submit() -> None:
    with executor("uts", 4) as crew, concurrent.futures.ThreadPoolExecutor(8) as threads:

        def many(start: int) -> list[int]:
            futures = [crew.submit(called.double, number) for number in range(start, start + 200)]
            return [future.result() for future in futures]

        for start, found in enumerate(threads.map(many, range(16))):
            assert found == [2 * number for number in range(start, start + 200)]


def test_large_arguments_and_results() -> None:
    data = bytearray(os.urandom(1_000_000)) * 20
    with executor("uts", 2) as crew:
        assert all(found == data for found in crew.map(called.same, [data] * 4))


@pytest.mark.unprivileged
def test_under_asyncio() -> None:
    async def main(crew: nslab.Executor) -> list[int]:
        loop = asyncio.get_running_loop()
        return list(await asyncio.gather(*(loop.run_in_executor(crew, called.double, number) for number in range(50))))

    with executor("uts") as crew:
        assert asyncio.run(main(crew)) == list(range(0, 100, 2))


@pytest.mark.unprivileged
def test_prints_appear_before_the_result() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), executor("uts", 1) as crew:
        for number in range(3):
            crew.submit(called.say, f"inside {number}").result()
            print(f"outside {number}")
    assert out.getvalue() == "".join(f"inside {number}\noutside {number}\n" for number in range(3))


def test_standard_input_is_empty() -> None:
    with executor("uts", 1) as crew:
        assert isinstance(crew.submit(called.read_line).exception(), EOFError)


def test_an_executor_of_a_parent_is_not_that_of_a_fork() -> None:
    with executor("uts", 1) as crew:
        crew.submit(called.double, 1).result()
        pid = fork()
        if pid == 0:
            status = 1
            try:
                crew.shutdown()
                crew.submit(called.double, 1)
            except RuntimeError as error:
                status = "another process" not in str(error)
            del crew
            gc.collect()
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert crew.submit(called.double, 1).result() == 2


# ---------------------------------------------------------------------------------------------------------- scripts


IMPORT = "from test_executor import executor\n"


def test_prints_of_a_script_appear_in_order(tmp_path: Path) -> None:
    text = "with executor('uts', 1) as crew:\n    for n in 'abc':\n"
    text += "        crew.submit(called.say, n).result()\n        print('after', n, flush=True)\n"
    assert script(tmp_path, IMPORT + text).stdout.split("\n") == ["a", "after a", "b", "after b", "c", "after c", ""]


def test_what_was_submitted_is_done_before_the_end_of_a_program(tmp_path: Path) -> None:
    text = IMPORT + "crew = executor('uts', 1)\nfor n in 'abc': crew.submit(called.say, n)\n"
    done = script(tmp_path, text)
    assert (done.returncode, done.stdout) == (0, "a\nb\nc\n")


def test_an_interrupt_of_a_program_does_not_wait(tmp_path: Path) -> None:
    text = f"crew = executor('uts', 1)\ncrew.submit(called.touch_and_hang, {str(tmp_path / 'started')!r}).result()\n"
    path = tmp_path / "script.py"
    path.write_text(f"import sys; sys.path.insert(0, {HERE!r})\nimport called\n{IMPORT}{text}")
    with subprocess.Popen([sys.executable, str(path)], stderr=subprocess.PIPE, text=True) as program:
        wait_for(tmp_path / "started")
        program.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in program.communicate(timeout=30)[1]


@pytest.mark.unprivileged
def test_the_workers_end_with_this_process_however_it_ends(tmp_path: Path) -> None:
    text = IMPORT + "crew = executor('uts', 2)\ncrew.submit(called.double, 1).result()\n"
    text += (
        f"crew.submit(called.write_at_once, {str(tmp_path / 'idle')!r}, str(crew.submit(called.pid_of, 0).result()))\n"
    )
    text += f"crew.submit(called.write_pid_and_hang, {str(tmp_path / 'busy')!r}).result()\n"
    path = tmp_path / "script.py"
    path.write_text(f"import sys; sys.path.insert(0, {HERE!r})\nimport called\n{text}")
    with subprocess.Popen([sys.executable, str(path)]) as parent:
        pidfds = [os.pidfd_open(int(wait_for(tmp_path / name))) for name in ("idle", "busy")]
        parent.kill()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)


@pytest.mark.parametrize("without", ["", WITHOUT_CLOUDPICKLE])
def test_functions_of_a_script(tmp_path: Path, without: str) -> None:
    text = f"{IMPORT}{without}\ndef triple(value): return 3 * value\n"
    text += "if __name__ == '__main__':\n    with executor('uts') as crew: print(list(crew.map(triple, range(4))))\n"
    assert script(tmp_path, text).stdout == "[0, 3, 6, 9]\n"
