"""`aspawn` and `arun`: what `asyncio.subprocess` has, cancellation, a thousand children at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import select
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import called
import pytest
from calling import script, wait_for
from conftest import assert_no_child, with_user

import nslab


async def aspawn(flags: Any, argv: Any, **options: Any) -> nslab.AsyncProcess:
    """`nslab.aspawn`, for an ordinary user with the user namespace."""
    bits, options = with_user(flags, options)
    return await nslab.aspawn(bits, argv, **options)


async def arun(flags: Any, argv: Any, **options: Any) -> Any:
    bits, options = with_user(flags, options)
    return await nslab.arun(bits, argv, **options)


def _uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    return pytest.importorskip("uvloop").run(main)


@pytest.fixture(autouse=True, scope="session")
def _what_uvloop_keeps() -> None:
    """It makes a pipe for all of its loops."""
    _uvloop(asyncio.sleep(0))


@pytest.fixture(params=[asyncio.run, _uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine with each of the loops; nothing is left, descriptors included, when it ends."""

    def check(main: Coroutine[Any, Any, Any]) -> Any:
        async def checked() -> Any:
            # What a loop makes for its first child, it keeps.
            await nslab.arun("", ["true"], input=b"", capture_output=True)
            await settle()
            before = descriptors()
            result = await main
            await settle()
            assert descriptors() == before
            assert_no_child()
            return result

        return request.param(checked())

    return check


async def settle() -> None:
    """Let transports close what they have, which is in the turns after."""
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.unprivileged
def test_streams_as_asyncio_has_them(run: Any) -> None:
    async def main() -> None:
        script = "read line; echo $line on $(uname -n); echo no >&2; exit 3"
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), nslab.PIPE)
        process = await aspawn("uts", ["sh", "-c", script], hostname="lab", **pipes)
        assert isinstance(process.stdin, asyncio.StreamWriter)
        assert isinstance(process.stdout, asyncio.StreamReader)
        assert isinstance(process.stderr, asyncio.StreamReader)
        assert process.returncode is None
        process.stdin.write(b"here\n")
        await process.stdin.drain()
        assert await process.stdout.readline() == b"here on lab\n"
        assert await process.stderr.read() == b"no\n"
        assert await process.wait() == 3 == process.returncode
        process.stdin.close()
        await process.stdin.wait_closed()
        async with process:
            pass

    run(main())


def test_the_interface_is_that_of_asyncio_and_of_process() -> None:
    public = {name for name in dir(asyncio.subprocess.Process) if not name.startswith("_")}
    ours = set(dir(nslab.AsyncProcess)) | set(inspect.getsource(nslab.AsyncProcess.__init__).split("self."))
    assert public <= {name.split(":")[0] for name in ours}
    assert {"stdin", "stdout", "stderr", "pid", "returncode"} <= {name.split(":")[0] for name in ours}
    assert {"namespaces", "plan", "timeline", "pidfd", "fileno", "rusage", "stop"} <= ours


@pytest.mark.unprivileged
def test_what_process_has_on_top(run: Any) -> None:
    async def main() -> None:
        async with await aspawn("uts", ["true"], hostname="lab") as process:
            assert os.readlink(f"/proc/self/fd/{process.fileno()}").startswith("anon_inode:[pidfd]") or process.pidfd
            assert process.plan.steps[0].name == "clone"
            assert {step.name for step in process.timeline} >= {"clone", "sethostname", "execve"}
            assert process.args == ["true"]
        assert process.namespaces["uts"] != nslab.namespaces(os.getpid())["uts"]
        assert process.rusage is not None
        assert repr(process) == f"<AsyncProcess {process.pid}>"

    run(main())


@pytest.mark.unprivileged
def test_a_thousand_children_at_once(run: Any) -> None:
    async def main() -> list[int]:
        async def one(number: int) -> int:
            process = await aspawn("", ["sh", "-c", f"read line; exit {number % 200}"], stdin=read)
            here.append(process.pid)
            if len(here) == 1000:
                # Now they may go.
                os.close(write)
            return await process.wait()

        here: list[int] = []
        threads = len(os.listdir("/proc/self/task"))
        read, write = os.pipe()
        with open(read):
            statuses = await asyncio.gather(*map(one, range(1000)))
        assert len(set(here)) == 1000
        # Fewer, if one of before was on its way out.
        assert len(os.listdir("/proc/self/task")) <= threads
        return statuses

    assert run(main()) == [number % 200 for number in range(1000)]


@pytest.mark.unprivileged
def test_the_loop_goes_on_while_many_are_spawned(run: Any) -> None:
    async def main() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(others())
        for _ in range(50):
            await (await aspawn("uts", ["true"])).wait()
        task.cancel()
        return turns

    assert run(main()) >= 50


@pytest.mark.unprivileged
def test_several_tasks_may_wait_and_be_cancelled(run: Any) -> None:
    async def main() -> None:
        process = await aspawn("pid", ["cat"], stdin=nslab.PIPE)
        waiting = [asyncio.ensure_future(process.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        assert process.returncode is None
        process.kill()
        assert await asyncio.gather(*waiting[1:]) == [-9] * 4
        assert await process.wait() == -9
        process.kill()
        process.send_signal(signal.SIGTERM)
        async with process:
            pass

    run(main())


@pytest.mark.unprivileged
def test_signals(run: Any) -> None:
    async def main() -> list[int]:
        statuses = []
        for action in ("terminate", "kill"):
            process = await aspawn("uts", ["sleep", "60"])
            getattr(process, action)()
            statuses.append(await process.wait())
        statuses.append(await (await aspawn("uts", ["sleep", "60"])).stop())
        # PID 1 does not hear the first one.
        statuses.append(await (await aspawn("pid", ["sleep", "60"])).stop(timeout=0.05))
        return statuses

    assert run(main()) == [-15, -9, -15, -9]


@pytest.mark.unprivileged
def test_communicate(run: Any) -> None:
    async def main() -> None:
        data = os.urandom(3_000_000)
        process = await aspawn("pid", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE)
        assert await process.communicate(data) == (data, None)
        process = await aspawn("uts", ["sh", "-c", "echo out; echo err >&2"], stdout=nslab.PIPE, stderr=nslab.STDOUT)
        assert await process.communicate() == (b"out\nerr\n", None)
        process = await aspawn("uts", ["true"], stdin=nslab.PIPE)
        assert await process.communicate(data) == (None, None)

    run(main())


@pytest.mark.unprivileged
def test_input_that_is_not_read_leaves_nothing_to_collect_and_to_complain_of(run: Any) -> None:
    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        before = descriptors()
        gc.disable()
        try:
            for _ in range(5):
                process = await aspawn("uts", ["true"], stdin=nslab.PIPE)
                await process.communicate(bytes(3_000_000))
                del process
                await asyncio.sleep(0)
                assert descriptors() == before
        finally:
            gc.enable()
        gc.collect()
        assert complaints == []

    run(main())


@pytest.mark.unprivileged
def test_a_cancelled_communicate_loses_nothing(run: Any) -> None:
    async def main() -> tuple[bytes | None, bytes | None]:
        pipes = dict.fromkeys(("stdin", "stdout"), nslab.PIPE)
        async with await aspawn("pid", ["sh", "-c", "echo first; read line; echo $line"], **pipes) as process:
            assert process.stdin is not None
            stdin, process.stdin = process.stdin, None
            first = asyncio.ensure_future(process.communicate())
            while not process._output:
                await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            process.stdin = stdin
            return await process.communicate(b"second\n")

    assert run(main()) == (b"first\nsecond\n", None)


@pytest.mark.unprivileged
def test_arun_is_run(run: Any) -> None:
    async def main() -> None:
        done = await arun("pid", ["sh", "-c", "cat; echo $$ >&2"], input="a\r\nü\n", capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "a\nü\n", "1\n")
        done = await arun("uts", ["cat"], input=b"a\r\n", stdout=nslab.PIPE)
        assert (done.stdout, done.stderr) == (b"a\r\n", None)
        done = await arun("uts", ["printf", r"\344"], stdout=nslab.PIPE, encoding="latin-1")
        assert done.stdout == "ä"
        with pytest.raises(nslab.CalledProcessError) as failed:
            await arun("uts", ["sh", "-c", "echo why; exit 4"], capture_output=True, check=True)
        assert (failed.value.returncode, failed.value.output) == (4, b"why\n")
        with pytest.raises(nslab.TimeoutExpired) as expired:
            await arun("pid", ["sh", "-c", "echo so far; sleep 60"], capture_output=True, timeout=0.3)
        assert expired.value.timeout == 0.3
        assert expired.value.output in (b"so far\n", None)

    run(main())


@pytest.mark.parametrize("text", [{"text": True}, {"universal_newlines": True}, {"encoding": "utf-8"}, {"bufsize": 1}])
def test_what_asyncio_refuses_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(text))):
        asyncio.run(nslab.aspawn("uts", ["true"], **text))


def test_what_run_refuses_is_refused() -> None:
    for options in ({"input": b"", "stdin": nslab.PIPE}, {"capture_output": True, "stdout": nslab.PIPE}):
        with pytest.raises(ValueError, match="arguments may not"):
            asyncio.run(nslab.arun("uts", ["true"], **options))


def test_without_a_loop_it_is_refused_before_anything_is_cloned() -> None:
    spawning = nslab.aspawn("uts", ["true"])
    with pytest.raises(RuntimeError, match="no running event loop"):
        spawning.send(None)


@pytest.mark.unprivileged
def test_failures_leave_nothing(run: Any) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await aspawn("uts", ["/no/such/program"], stdout=nslab.PIPE, stdin=nslab.PIPE)
        with pytest.raises(ValueError, match="needs the uts namespace"):
            await aspawn("pid", ["true"], hostname="lab")

    run(main())


# ----------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.unprivileged
def test_a_cancelled_arun_kills_and_reaps(run: Any) -> None:
    async def main() -> None:
        read, write = os.pipe()
        with open(read, "rb", buffering=0) as ends:
            task = asyncio.ensure_future(arun("pid", ["sh", "-c", "echo; sleep 60 & wait"], stdout=write))
            await asyncio.to_thread(ends.readline)
            os.close(write)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The one in the background has gone with its pid namespace.
            assert ends.read() == b""
            assert_no_child()

    asyncio.run(main())


@pytest.mark.unprivileged
def test_a_cancellation_in_any_turn_leaves_nothing(run: Any) -> None:
    async def main() -> int:
        for turns in range(200):
            task = asyncio.ensure_future(arun("uts", ["cat"], input=b"some", capture_output=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.cancel():
                return turns
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert_no_child()
        return 200

    assert run(main()) > 5


@pytest.mark.unprivileged
def test_an_exception_in_its_block_kills_it(run: Any) -> None:
    async def main() -> int | None:
        with pytest.raises(ZeroDivisionError):
            async with await aspawn("pid", ["sleep", "60"], stdout=nslab.PIPE) as process:
                1 / 0  # noqa: B018
        assert_no_child()
        return process.returncode

    assert run(main()) == -9


@pytest.mark.unprivileged
def test_streams_that_a_grandchild_keeps_are_closed_here(run: Any) -> None:
    async def main() -> int:
        pipes = dict.fromkeys(("stdin", "stdout"), nslab.PIPE)
        with pytest.raises(ZeroDivisionError):
            async with await aspawn("uts", ["sh", "-c", "exec 3<&0; sleep 60 & echo $!; wait"], **pipes) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(bytes(1_000_000))
                pid = int(await process.stdout.readline())
                1 / 0  # noqa: B018
        return pid

    # Before it is killed, the descriptors are as they were.
    os.kill(run(main()), signal.SIGKILL)


@pytest.mark.unprivileged
def test_a_block_closes_the_streams_and_waits(run: Any) -> None:
    async def main() -> int | None:
        async with await aspawn("pid", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE) as process:
            pass
        return process.returncode

    assert run(main()) == 0


def test_an_interrupt_of_the_loop_ends_the_child(tmp_path: Any) -> None:
    path, main = tmp_path / "pid", threading.get_ident()
    pidfds: list[int] = []

    def interrupt() -> None:
        pidfds.append(os.pidfd_open(int(wait_for(path))))
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(arun("uts", ["sh", "-c", f"echo $$ > {path}.new; mv {path}.new {path}; exec sleep 60"]))
    thread.join()
    assert select.select(pidfds, [], [], 0)[0]
    os.close(pidfds[0])
    assert_no_child()


def test_a_loop_that_ends_first_leaves_a_process_that_warns(tmp_path: Any) -> None:
    text = "import asyncio\nasync def main(): return await nslab.aspawn('uts', ['sleep', '60'])\n"
    text += "p = asyncio.run(main())\np.kill(); print(p._process.wait())\n"
    assert script(tmp_path, text).stdout == "-9\n"


def test_functions_by_an_executor_under_asyncio() -> None:
    async def main() -> int:
        with nslab.Executor("uts", 1) as crew:
            return await asyncio.get_running_loop().run_in_executor(crew, called.double, 21)

    assert asyncio.run(main()) == 42
