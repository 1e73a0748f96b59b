"""A fresh Python in namespaces, seen from outside: the process, the wire to it, what it prints."""

from __future__ import annotations

import _socket
import codecs
import errno
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path

from . import _worker
from ._process import Process
from ._task import preparation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._task import Message

_PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
_START = "import sys; sys.path.insert(0, sys.argv[1]); from _worker import main; main()"
STREAMS = {"stdin", "stdout", "stderr"}
# What a program has and a function has not.
_MEANINGLESS = {
    *("executable", "shell", "preexec_fn", "pipesize", "bufsize"),
    *("text", "encoding", "errors", "universal_newlines"),
}


class Interpreter:
    """Runs the functions that it is sent, one after the other, and never blocks whoever drives it.

    The ``selector`` tells when to call `advance`: the data of its keys is the interpreter.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        # Not anybody's before it is closed: whatever interrupts us, the process ends with its last reference.
        self.process = Process.__new__(Process)
        self._socket: _socket.socket | None = None
        self._unsent: list[memoryview] = []
        self._outputs: dict[int, tuple[str, codecs.IncrementalDecoder]] = {}
        self._has_group = False
        # Whether it ended without having read all that it was sent.
        self.deaf = False
        self._is_over = False

    def start(self, flags: Any, options: dict[str, Any]) -> None:
        """Start it with the options of `nslab.spawn`. Raises what `spawn` raises."""
        options = checked(options)
        if not sys.executable:
            raise RuntimeError("sys.executable does not say which Python to start")
        options.setdefault("kill_child", True)
        if not options.keys() & {"start_new_session", "process_group"}:
            # So its children can be killed with it, and it does not fight for the terminal with its parent.
            options["start_new_session"] = True
        self._has_group = bool(options.get("start_new_session")) or options.get("process_group") == 0
        pumped = [name for name in ("stdout", "stderr") if options.get(name) is None and not _is_inherited(name)]
        options.update(dict.fromkeys(pumped, subprocess.PIPE), bufsize=0)
        # In socket.socketpair(), which is written in Python, an exception of a signal handler would lose a descriptor.
        pairs = [_socket.socketpair()]
        # Not one of the standard streams, which this process may have closed.
        while pairs[-1][1].fileno() < 3:
            pairs.append(_socket.socketpair())
        ours, theirs = pairs[-1]
        self._socket = ours
        try:
            options["pass_fds"] = (*options.get("pass_fds", ()), theirs.fileno())
            python = [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]
            argv = [*python, "-c", _START, str(Path(__file__).parent), str(theirs.fileno())]
            flush()
            self.process._make(argv, (), flags, options)
        finally:
            for each in {end for pair in pairs for end in pair} - {ours}:
                each.close()
        ours.setblocking(False)
        self._wire = _worker.Wire(ours.fileno())
        self._selector.register(ours, selectors.EVENT_READ, self)
        self._selector.register(self.process, selectors.EVENT_READ, self)
        for name in pumped:
            fd = getattr(self.process, name).fileno()
            os.set_blocking(fd, False)
            self._outputs[fd] = name, codecs.getincrementaldecoder("utf-8")("replace")
            self._selector.register(fd, selectors.EVENT_READ, self)
        self.send(preparation(pumped))

    # ------------------------------------------------------------------------------------------------ the wire

    def send(self, message: Message) -> None:
        """Send a message, or what the socket takes of it: for the rest there is `watch_sending`."""
        self._unsent += _worker.framed(message)
        self._send_more()

    @property
    def is_sending(self) -> bool:
        """Whether there is a rest."""
        return bool(self._unsent)

    def _send_more(self) -> None:
        try:
            while self._unsent and self._socket:
                # Not writev(2): the program may have set SIGPIPE to kill.
                count = self._socket.sendmsg(self._unsent[:512], [], _socket.MSG_NOSIGNAL)
                self._unsent = _worker.rest(self._unsent, count)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._unsent = []
            self.deaf = True

    def watch_sending(self) -> None:
        """Have the selector tell when more can be sent, if there is more."""
        if self._socket and not self._is_over:
            write = selectors.EVENT_WRITE if self._unsent else 0
            self._selector.modify(self._socket, selectors.EVENT_READ | write, self)

    def advance(self, events: int = selectors.EVENT_READ) -> list[bytearray] | None:
        """Do what can be done at once; return an answer if one has come. What was printed before it is shown."""
        if events & selectors.EVENT_WRITE:
            self._send_more()
            self.watch_sending()
        # First, as it tells whether there can be more to read.
        ended = self.process.poll() is not None
        answer = self._receive()
        self._pump()
        if ended:
            self._selector_forget(self.process)
        return answer

    def _receive(self) -> list[bytearray] | None:
        if not self._socket or self._is_over:
            return None
        try:
            return self._wire.receive()
        except BlockingIOError:
            return None
        except ConnectionResetError:
            self.deaf = True
        except EOFError:
            pass
        # Closed by whoever may be sending from another thread.
        self._is_over = True
        self._selector_forget(self._socket)
        return None

    def let_go(self) -> None:
        """Close the wire: it ends once it has done what it has."""
        if self._socket:
            self._selector_forget(self._socket)
            self._socket.close()
            self._socket = None

    def _selector_forget(self, what: Any) -> None:
        try:
            self._selector.unregister(what)
        except (KeyError, ValueError):
            return

    # -------------------------------------------------------------------------------------------------- output

    def _pump(self) -> None:
        for fd in list(self._outputs):
            self._pump_one(fd)

    def _pump_one(self, fd: int) -> None:
        name, decoder = self._outputs[fd]
        stream = getattr(sys, name)
        # More than a pipe holds, and not for as long as somebody writes.
        for _ in range(32):
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                break
            text = decoder.decode(data, final=not data)
            if stream is not None and text:
                stream.write(text)
            if not data:
                self._close_output(fd)
                break
        if stream is not None:
            stream.flush()

    def _close_output(self, fd: int) -> None:
        name, _ = self._outputs.pop(fd)
        self._selector_forget(fd)
        getattr(self.process, name).close()

    # ----------------------------------------------------------------------------------------------------- end

    def kill(self) -> None:
        """Kill it and what it has started: all of its pid namespace, or else of its process group."""
        if self._is_running():
            if self._has_group:
                self._kill_group()
            self.process.kill()

    def _is_running(self) -> bool:
        return self.process._child_created and self.process.returncode is None

    def _kill_group(self) -> None:
        try:
            signal.pidfd_send_signal(self.process.pidfd, signal.SIGKILL, None, _PIDFD_SIGNAL_PROCESS_GROUP)
        except ProcessLookupError:
            return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Before Linux 6.9. Nobody else got the number: it has not been waited for.
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it is still there, and give everything back."""
        try:
            if self._is_running():
                self.kill()
                self.process.wait()
        finally:
            self.let_go()
            self._selector_forget(self.process)
            for fd in list(self._outputs):
                self._close_output(fd)


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the options of `nslab.spawn`; raise `ValueError` for what means nothing to a function."""
    for name in _MEANINGLESS & options.keys():
        if options[name] not in (None, False, -1):
            raise ValueError(f"{name} is for programs: a function runs in {sys.executable}")
    for name in STREAMS & options.keys():
        if options.get(name) == subprocess.PIPE:
            raise ValueError(f"{name}=PIPE: nobody would be at the other end; what a function prints appears here")
    return {name: value for name, value in options.items() if name not in _MEANINGLESS}


def flush() -> None:
    """Write out what this process has printed, so that what comes next is after it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not _is_closed(stream):
            stream.flush()


def _is_closed(stream: Any) -> bool:
    return stream is None or bool(getattr(stream, "closed", False))


def _is_inherited(name: str) -> bool:
    """Whether what is printed here goes to the descriptor that a child has, which it does not in a notebook."""
    stream = getattr(sys, name)
    if _is_closed(stream):
        return True
    try:
        return bool(stream.fileno() == {"stdout": 1, "stderr": 2}[name])
    except (AttributeError, OSError, ValueError):
        return False
