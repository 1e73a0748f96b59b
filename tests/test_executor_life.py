"""`nslab.Executor` from start to end: cancelled, shut down, forgotten, interrupted, forked, in threads and scripts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import io
import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future
from pathlib import Path

import called
import pytest
from calling import HERE, WITHOUT_CLOUDPICKLE, executor, script, wait_for
from nested import fork

import nslab

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


IMPORT = "from calling import executor\n"


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
