"""`aspawn` and `arun`: `spawn` and `run` under asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess

from ._process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self

    from ._inspect.ids import NamespaceId
    from ._namespace import Flags
    from ._plan import Plan, StepTime
    from ._spawn import Argv

_OF_TEXT = ("text", "universal_newlines", "encoding", "errors")
# As `asyncio.create_subprocess_exec` has it.
_LIMIT = 2**16


class _PipeProtocol(asyncio.StreamReaderProtocol):
    """That of a stream which, unlike a socket, is not written to once it is at its end."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            # Of the loop, and of whoever wrote, whom it would keep.
            exc.__traceback__ = None
        super().connection_lost(exc)
        # Who drains is told, and nobody need ask `wait_closed` too, as in asyncio.subprocess: the loop is not to
        # complain of it when the garbage collector comes to the future first, which it does in free-threaded builds.
        closed: asyncio.Future[None] = self._closed  # type: ignore[attr-defined] # since Python 3.7
        if closed.done() and not closed.cancelled():
            closed.exception()


class AsyncProcess:
    """A process under asyncio: all that `asyncio.subprocess.Process` has, and what `Process` has on top.

    The running loop reaps it when its pidfd says that it has ended: no thread, no child watcher, no SIGCHLD. At the end
    of an ``async with`` block its streams are closed and it is waited for; it is killed if an exception, a cancellation
    above all, leaves the block.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Nobody's until `aspawn` returns: whatever interrupts us, the child ends with its last reference.
        self._process = Process.__new__(Process)
        self._ended = self._loop.create_future()
        self._pipes: list[Any] = []
        self._readers: list[asyncio.ReadTransport] = []
        self._output: list[bytes] = []
        self._errors: list[bytes] = []
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None

    async def _start(self, flags: Flags, argv: Argv, limit: int, options: dict[str, Any]) -> None:
        process = self._process
        process._make(argv, (), flags, options)
        self._pipes = [pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None]
        self._loop.add_reader(process.pidfd, self._look)
        # A task of its own: a cancellation in the middle of it would leave pipes to nobody, with uvloop at least.
        opening = self._loop.create_task(self._open(limit))
        try:
            await asyncio.shield(opening)
        except BaseException:
            self.kill()
            opening.add_done_callback(lambda _: self._close())
            await self._is_gone()
            raise
        process._known = True

    async def _open(self, limit: int) -> None:
        process = self._process
        if process.stdin is not None:
            self.stdin = await self._writer(process.stdin, limit)
        if process.stdout is not None:
            self.stdout = await self._reader(process.stdout, limit)
        if process.stderr is not None:
            self.stderr = await self._reader(process.stderr, limit)

    async def _reader(self, pipe: Any, limit: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit, self._loop)
        # From here on it is the transport that closes it.
        self._pipes.remove(pipe)
        transport, _ = await self._loop.connect_read_pipe(lambda: _PipeProtocol(reader), pipe)
        self._readers.append(transport)
        return reader

    async def _writer(self, pipe: Any, limit: int) -> asyncio.StreamWriter:
        # This protocol has what a writer needs, too.
        reader = asyncio.StreamReader(limit, self._loop)
        self._pipes.remove(pipe)
        transport, protocol = await self._loop.connect_write_pipe(lambda: _PipeProtocol(reader), pipe)
        return asyncio.StreamWriter(transport, protocol, None, self._loop)

    def _look(self) -> None:
        if self._process.poll() is not None:
            self._loop.remove_reader(self._process.pidfd)
            self._ended.set_result(None)

    async def _abort(self) -> None:
        """Kill it, close the streams and wait for the end."""
        self.kill()
        self._close()
        await self._is_gone()

    async def _is_gone(self) -> None:
        """Wait for the end of what has been killed, which is soon, even if anyio cancels it in each turn."""
        while not self._ended.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(self._ended)

    def _close(self) -> None:
        if self.stdin is not None and not self.stdin.is_closing():
            # What has not been taken yet is not waited for.
            self.stdin.transport.abort()
        for transport in self._readers:
            transport.close()
        for pipe in self._pipes:
            pipe.close()

    # ------------------------------------------------------------------------------- as asyncio.subprocess.Process

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pid}>"

    @property
    def pid(self) -> int:
        """The program's pid in the caller's pid namespace."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The return code; None before the end has been seen."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the end and return the return code; any number of tasks may, and to cancel one changes nothing."""
        # What a cancelled task awaits is cancelled with it, unless shielded.
        await asyncio.shield(self._ended)
        return self._process.wait()

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Send ``input``, read until the other ends are closed, wait; return ``(stdout, stderr)``, None without pipes.

        If it is cancelled, nothing is lost: the next call returns what was read too.
        """
        readers = (_collect(self.stdout, self._output), _collect(self.stderr, self._errors))
        await asyncio.gather(self._feed(input), *readers)
        await self.wait()
        return (
            None if self.stdout is None else b"".join(self._output),
            None if self.stderr is None else b"".join(self._errors),
        )

    async def _feed(self, input: bytes | None) -> None:
        if self.stdin is None:
            return
        try:
            if input is not None and not self.stdin.is_closing():
                self.stdin.write(input)
                await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            # As in `subprocess`: a program need not read all of its input. The stream keeps the error, and with its
            # traceback it would keep this process, and the pidfd, until both are collected as garbage.
            error.__traceback__ = None
        self.stdin.close()

    def send_signal(self, signal: int) -> None:
        """Send ``signal`` through the pidfd, so never to another process that got the same pid."""
        self._process.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    # ------------------------------------------------------------------------------------------- as nslab.Process

    async def stop(self, timeout: float = 5.0) -> int:
        """End it: SIGTERM, then, after ``timeout`` seconds, SIGKILL; return the return code. See `Process.stop`."""
        self.terminate()
        try:
            async with asyncio.timeout(timeout):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            await self._abort()
            return
        try:
            if self.stdin is not None:
                self.stdin.close()
            for transport in self._readers:
                transport.close()
            # They are closed in the next turn.
            await asyncio.sleep(0)
            await self.wait()
        except BaseException:
            await self._abort()
            raise

    @property
    def args(self) -> Any:
        """What was executed."""
        return self._process.args

    @property
    def pidfd(self) -> int:
        """The open pidfd, see pidfd_open(2). The loop has its reader on it: add others to a copy."""
        return self._process.pidfd

    def fileno(self) -> int:
        """Return the pidfd."""
        return self._process.pidfd

    @property
    def namespaces(self) -> Mapping[str, NamespaceId]:
        """The namespaces of the program, by type; still there after the exit."""
        return self._process.namespaces

    @property
    def plan(self) -> Plan:
        """The `Plan` that was run."""
        return self._process.plan

    @property
    def timeline(self) -> tuple[StepTime, ...]:
        """What each step cost in this very child."""
        return self._process.timeline

    @property
    def rusage(self) -> resource.struct_rusage | None:
        """What the process used; None before the end."""
        return self._process.rusage


async def _collect(reader: asyncio.StreamReader | None, chunks: list[bytes]) -> None:
    while reader is not None and (chunk := await reader.read(_LIMIT)):
        chunks.append(chunk)


async def aspawn(flags: Flags, argv: Argv, *, limit: int = _LIMIT, **options: Any) -> AsyncProcess:
    r"""`spawn` under asyncio: return an `AsyncProcess` once the program executes.

    The arguments are those of `spawn`; with ``stdin``, ``stdout`` or ``stderr`` as ``PIPE`` the process has an
    `asyncio.StreamWriter` or `asyncio.StreamReader` of bytes for it, which buffers ``limit`` bytes as those of
    `asyncio.create_subprocess_exec` do. The clone is made by the calling thread, which takes about a millisecond at
    most: a thread for it would take longer. A cancellation leaves no child.

    Raises what `spawn` raises, and `ValueError` for text streams and buffered ones.

    >>> async def main():
    ...     process = await nslab.aspawn("uts", ["uname", "-n"], hostname="lab", stdout=nslab.PIPE)
    ...     return await process.communicate()
    >>> asyncio.run(main())
    (b'lab\n', None)
    """
    for name in _OF_TEXT:
        if options.pop(name, None):
            raise ValueError(f"{name}: the streams of asyncio are of bytes; arun returns text")
    if options.pop("bufsize", 0) not in (0, -1):
        raise ValueError("bufsize: the streams of asyncio have a buffer of their own, see limit")
    process = AsyncProcess()
    await process._start(flags, argv, limit, {"bufsize": 0, **options})
    return process


async def arun(
    flags: Flags,
    argv: Argv,
    *,
    input: str | bytes | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    r"""`run` under asyncio: run a program in new namespaces and return a `subprocess.CompletedProcess`.

    The arguments are those of `run`. Raises what `run` raises; a cancellation kills and reaps the program.

    >>> asyncio.run(nslab.arun("pid", ["sh", "-c", "echo $$"], capture_output=True, text=True)).stdout
    '1\n'
    """
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        options["stdin"] = subprocess.PIPE
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options["stdout"] = options["stderr"] = subprocess.PIPE
    text = _Text(**{name: options.pop(name) for name in _OF_TEXT if name in options})
    async with await aspawn(flags, argv, **options) as process:
        try:
            async with asyncio.timeout(timeout):
                output, errors = await process.communicate(text.encoded(input))
        except TimeoutError:
            read = [b"".join(chunks) or None for chunks in (process._output, process._errors)]
            raise subprocess.TimeoutExpired(process.args, timeout or 0, output=read[0], stderr=read[1]) from None
        returncode = await process.wait()
    done = subprocess.CompletedProcess(process.args, returncode, text.decoded(output), text.decoded(errors))
    if check:
        done.check_returncode()
    return done


class _Text:
    """What `subprocess` does for text streams."""

    def __init__(
        self,
        *,
        text: bool | None = None,
        universal_newlines: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> None:
        if None not in (text, universal_newlines) and bool(text) != bool(universal_newlines):
            raise subprocess.SubprocessError("Cannot disambiguate when both text and universal_newlines are supplied")
        self._is_text = bool(text or universal_newlines or encoding or errors)
        self._how: dict[str, Any] = {"encoding": encoding or "locale", "errors": errors}

    def encoded(self, input: str | bytes | None) -> bytes | None:
        if not self._is_text or input is None:
            return input  # type: ignore[return-value]
        buffer = io.BytesIO()
        with io.TextIOWrapper(buffer, write_through=True, **self._how) as stream:
            stream.write(input)  # type: ignore[arg-type]
            return buffer.getvalue()

    def decoded(self, output: bytes | None) -> str | bytes | None:
        if not self._is_text or output is None:
            return output
        return io.TextIOWrapper(io.BytesIO(output), **self._how).read()
