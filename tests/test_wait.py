"""Waiting: the status, the pidfd, asyncio, what the child used, what each step cost."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import seccomp
from conftest import spawn
from kernel import needs_linux
from nested import inside, interpreter

import nslab

exit_after_reap = needs_linux(6, 15, "PIDFD_INFO_EXIT, by which a status is known that somebody else has reaped")


def shell(script: str) -> nslab.Process:
    return spawn("uts", ["sh", "-c", script])


def cat() -> nslab.Process:
    return spawn("uts", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE)


def readable(child: nslab.Process, milliseconds: int | None = 10_000) -> bool:
    poll = select.poll()
    poll.register(child, select.POLLIN)
    return bool(poll.poll(milliseconds))


@pytest.mark.unprivileged
@pytest.mark.parametrize(("status", "returncode"), [(0, 0), (1, 1), (255, 255), (256, 0), (-1, 255)])
def test_wai_01_exit_statuses(status: int, returncode: int) -> None:
    child = spawn("uts", [sys.executable, "-c", f"import os; os._exit({status})"])
    assert child.wait() == returncode


@pytest.mark.unprivileged
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSYS, signal.SIGRTMAX])
def test_wai_02_killed_by_a_signal_is_negative(number: int) -> None:
    with cat() as child:
        child.send_signal(number)
        assert child.wait() == -number


@pytest.mark.unprivileged
@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
def test_wai_02_so_is_one_that_leaves_a_core(number: int) -> None:
    with cat() as child:
        resource.prlimit(child.pid, resource.RLIMIT_CORE, (0, 0))
        child.send_signal(number)
        assert child.wait() == -number


@pytest.mark.unprivileged
def test_wai_03_the_status_can_be_asked_for_again() -> None:
    child = shell("exit 3")
    assert [child.wait(), child.wait(), child.wait(timeout=0), child.poll(), child.returncode] == [3] * 5


@pytest.mark.unprivileged
def test_wai_04_a_signal_to_a_zombie_changes_nothing() -> None:
    child = shell("exit 3")
    assert readable(child)
    child.kill()
    assert child.wait() == 3


@pytest.mark.unprivileged
def test_wai_05_a_wait_that_times_out_leaves_the_child_alone() -> None:
    with cat() as child:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            child.wait(timeout=0.01)
        assert (caught.value.cmd, caught.value.timeout) == (["cat"], 0.01)
        assert child.poll() is None
        assert child.communicate(b"alive") == (b"alive", None)


@pytest.mark.unprivileged
def test_wai_05_a_wait_with_a_timeout_sleeps_once() -> None:
    def switches() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    with cat() as child:
        before = switches()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.2)
        # The loop of subprocess would wake up ten times.
        assert switches() - before <= 6


@pytest.mark.unprivileged
def test_nothing_is_reaped_before_it_is_waited_for() -> None:
    child = shell("exit 3")
    assert readable(child)
    waited = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert waited is not None
    assert waited.si_status == 3
    assert child.returncode is None
    assert child.poll() == 3


@pytest.mark.unprivileged
def test_wai_08_twenty_threads_wait_for_one_child() -> None:
    found: list[int] = []
    with cat() as child:
        threads = [threading.Thread(target=lambda: found.append(child.wait())) for _ in range(20)]
        for thread in threads:
            thread.start()
        child.kill()
        for thread in threads:
            thread.join()
    assert found == [-9] * 20


@pytest.mark.unprivileged
def test_wai_09_the_pidfd_tells_the_end_and_nothing_else() -> None:
    with cat() as child:
        assert child.fileno() == child.pidfd
        for number, event in ((signal.SIGSTOP, os.WSTOPPED), (signal.SIGCONT, os.WCONTINUED)):
            child.send_signal(number)
            os.waitid(os.P_PID, child.pid, event)
            assert not readable(child, 0)
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        assert readable(child)
        assert child.wait() == -9


@pytest.mark.unprivileged
def test_wait_async() -> None:
    async def main() -> list[int]:
        children = [shell(f"exit {status}") for status in range(5)]
        return list(await asyncio.gather(*(child.wait_async() for child in children)))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


@pytest.mark.unprivileged
def test_wait_async_of_several_tasks_for_one_child() -> None:
    async def main() -> list[int]:
        with cat() as child:
            tasks = [asyncio.create_task(child.wait_async()) for _ in range(3)]
            await asyncio.sleep(0)
            child.kill()
            return [*await asyncio.gather(*tasks), await child.wait_async()]

    assert asyncio.run(main()) == [-9] * 4


@pytest.mark.unprivileged
def test_wait_async_can_be_cancelled_and_asked_again() -> None:
    async def main() -> int:
        with cat() as child:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(child.wait_async(), 0.01)
            assert child.poll() is None
            child.kill()
            return await child.wait_async()

    assert asyncio.run(main()) == -9


@pytest.mark.unprivileged
def test_wait_async_lets_the_loop_work() -> None:
    async def main() -> int:
        with cat() as child:
            ended = asyncio.create_task(child.wait_async())
            await asyncio.sleep(0)
            assert not ended.done()
            child.communicate(b"")
            return await ended

    assert asyncio.run(main()) == 0


def test_wai_13_killed_during_set_up_is_no_return_code() -> None:
    inside(0, _killed_in_set_up)


def _killed_in_set_up() -> None:
    held = seccomp.Held("sethostname")
    threading.Thread(target=lambda: os.kill(held.wait(), signal.SIGKILL)).start()
    with pytest.raises(nslab.SpawnError) as caught:
        nslab.spawn("uts", ["true"], hostname="lab")
    assert (caught.value.signal, caught.value.errno, caught.value.step) == (9, None, "sethostname")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)


@pytest.mark.unprivileged
def test_wai_14_what_it_used() -> None:
    child = spawn("uts", [sys.executable, "-c", "import time\nwhile time.process_time() < .05: pass"])
    assert child.rusage is None
    child.wait()
    used = child.rusage
    assert isinstance(used, resource.struct_rusage)
    assert 0.04 < used.ru_utime + used.ru_stime < 5
    assert used.ru_maxrss > 1000
    assert used.ru_minflt > 0


@pytest.mark.unprivileged
def test_the_timeline_has_every_step_in_its_order_within_the_call() -> None:
    before = time.monotonic_ns()
    child = spawn("uts", ["true"], hostname="lab")
    after = time.monotonic_ns()
    child.wait()
    assert [row.name for row in child.timeline] == [step.name for step in child.plan.steps]
    assert {"clone", "sethostname", "execve"} <= {row.name for row in child.timeline}
    starts = [row.start for row in child.timeline]
    assert starts == sorted(starts)
    for row in child.timeline:
        assert row.duration >= 0
        assert before <= row.start <= row.start + row.duration <= after, row
    assert sum(row.duration for row in child.timeline) <= after - before


@pytest.mark.unprivileged
def test_a_wait_returns_also_where_the_status_is_lost() -> None:
    # What it returns then is the next tests' matter.
    child = shell("exit 7")
    os.waitpid(-1, 0)
    assert child.wait() is not None


def by_asyncio(child: nslab.Process) -> int:
    return asyncio.run(child.wait_async())


WAYS: dict[str, Callable[[nslab.Process], int | None]] = {
    "wait": nslab.Process.wait,
    "poll": lambda child: child.poll() if readable(child) else None,
    "wait_async": by_asyncio,
}


@exit_after_reap
@pytest.mark.unprivileged
@pytest.mark.parametrize("way", WAYS)
def test_steal_proof_status_of_an_exit(way: str) -> None:
    child = shell("exit 7")
    os.waitpid(-1, 0)
    assert WAYS[way](child) == 7


@exit_after_reap
@pytest.mark.unprivileged
def test_steal_proof_status_of_a_signal() -> None:
    with cat() as child:
        child.kill()
        os.waitpid(-1, 0)
        assert child.wait() == -9


@exit_after_reap
def test_steal_proof_status_while_sigchld_is_ignored() -> None:
    inside(0, _run_ignoring_sigchld)


def _run_ignoring_sigchld() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for way in WAYS.values():
        child = nslab.spawn("uts pid", ["sh", "-c", "exit 7"])
        assert readable(child)
        assert way(child) == 7
    assert nslab.run("uts", ["sh", "-c", "echo out; exit 7"], stdout=nslab.PIPE).returncode == 7
    assert nslab.run("uts", ["sh", "-c", "kill -9 $$"]).returncode == -9
    with pytest.raises(nslab.CalledProcessError):
        nslab.run("uts", ["false"], check=True)
    with pytest.raises(nslab.TimeoutExpired):
        nslab.run("uts", ["sleep", "60"], timeout=0.01)


@pytest.mark.unprivileged
def test_a_return_code_that_the_callers_own_reaper_has_set() -> None:
    child = spawn(0, ["sh", "-c", "exit 3"])
    os.waitpid(child.pid, 0)
    child.returncode = 42
    assert (child.poll(), child.wait(), child.wait(1), child.returncode) == (42, 42, 42, 42)


@pytest.mark.unprivileged
def test_a_status_that_another_thread_has_and_does_not_say_yet() -> None:
    # Each thread comes back from its first wait a second late; and the kernel does not tell how who is reaped ended.
    late = ["-e", "inject=waitid:delay_exit=1000000:when=1", "-e", "inject=ioctl:error=ENOTTY"]
    done = nslab.run(0, ["strace", "-f", "-o", "/dev/null", *late, *interpreter(_polled_too_early)])
    assert done.returncode == 0


def _polled_too_early() -> None:
    nslab.spawn(0, ["true"]).wait()
    child = nslab.spawn(0, ["sh", "-c", "read line; exit 7"], stdin=nslab.PIPE)
    waits = threading.Thread(target=child.wait)
    waits.start()
    assert child.stdin is not None
    child.stdin.close()
    while os.path.exists(f"/proc/{child.pid}"):
        time.sleep(0.001)
    assert waits.is_alive()
    assert child.poll() == 7
    waits.join()
