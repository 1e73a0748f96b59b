"""Under trio and anyio, by the pidfd: waiting, streams, cancellation."""

from __future__ import annotations

import os
from typing import Any

import anyio
import pytest
import trio
from conftest import assert_no_child, spawn

import nslab


@pytest.fixture(autouse=True, scope="module")
def _what_they_keep() -> None:
    """The first run of each makes what stays: signal handling, a cache of threads."""
    trio.run(trio.lowlevel.checkpoint)
    for backend in ("asyncio", "trio"):
        anyio.run(anyio.lowlevel.checkpoint, backend=backend)


@pytest.mark.unprivileged
def test_trio_waits_for_the_pidfd() -> None:
    async def main() -> None:
        with spawn("uts", ["sh", "-c", "read line; exit 3"], stdin=nslab.PIPE) as process:
            with trio.move_on_after(0.05) as scope:
                await trio.lowlevel.wait_readable(process.pidfd)
            assert scope.cancelled_caught
            assert process.poll() is None
            assert process.stdin is not None
            process.stdin.close()
            # A process has a `fileno`, so it does as well.
            await trio.lowlevel.wait_readable(process)
            assert process.poll() == 3

    trio.run(main)


@pytest.mark.unprivileged
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_waits_for_the_pidfd(backend: str) -> None:
    async def main() -> None:
        with spawn("uts", ["sh", "-c", "read line; exit 3"], stdin=nslab.PIPE) as process:
            with anyio.move_on_after(0.05) as scope:
                await anyio.wait_readable(process.pidfd)
            assert scope.cancelled_caught
            assert process.stdin is not None
            process.stdin.close()
            await anyio.wait_readable(process)
            assert process.poll() == 3

    anyio.run(main, backend=backend)


async def run(flags: Any, argv: list[str]) -> int | None:
    """What the README shows: however it is left, nothing stays."""
    process = spawn(flags, argv)
    try:
        await anyio.wait_readable(process.pidfd)
    finally:
        process.kill()
        process.wait()
    return process.returncode


@pytest.mark.unprivileged
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancellation_kills_and_reaps(backend: str) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            await run("pid", ["sleep", "60"])
        assert scope.cancelled_caught
        assert_no_child()

    anyio.run(main, backend=backend)


@pytest.mark.unprivileged
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_hundred_children_at_once(backend: str) -> None:
    async def main() -> None:
        async def one(number: int) -> None:
            found[number] = await run("uts", ["sh", "-c", f"exit {number}"])

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)

    found: dict[int, int | None] = {}
    anyio.run(main, backend=backend)
    assert found == {number: number for number in range(100)}


@pytest.mark.unprivileged
def test_trio_reads_and_writes_the_streams() -> None:
    async def main() -> bool:
        process = spawn("uts", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE, bufsize=0)
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            # Descriptors of their own, which the streams close.
            writer = trio.lowlevel.FdStream(os.dup(process.stdin.fileno()))
            reader = trio.lowlevel.FdStream(os.dup(process.stdout.fileno()))
            process.stdin.close()
            data = os.urandom(1_000_000)
            async with trio.open_nursery() as nursery, reader:

                async def feed() -> None:
                    async with writer:
                        await writer.send_all(data)

                nursery.start_soon(feed)
                read = b"".join([chunk async for chunk in reader])
            await trio.lowlevel.wait_readable(process.pidfd)
            return read == data

    assert trio.run(main)


@pytest.mark.unprivileged
def test_aspawn_under_anyio_on_asyncio() -> None:
    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            await nslab.arun("", ["sleep", "60"])
        assert scope.cancelled_caught
        assert_no_child()

    anyio.run(main, backend="asyncio")


def test_aspawn_is_for_asyncio() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            await nslab.aspawn("uts", ["true"])

    trio.run(main)
