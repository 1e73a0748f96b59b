"""`shell`: one bash on a terminal of its own, kept between calls: status, directory, variables and jobs stay."""

from __future__ import annotations

import _socket
import codecs
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import _core, _warden
from ._process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._inspect.ids import NamespaceId
    from ._namespace import Flags

# What bash does before it reads a line from the terminal: it reports how the last one ended, and takes the next script
# from the socket. The line that executes it is all that ever comes through the terminal, so there is nothing to prompt
# for, and a program that reads from the terminal cannot read the script.
_SETUP = """\
exec {rc}<&-
set +o history +H
PS1= PS2= __nslab=0
PROMPT_COMMAND='{{ printf "%d %d\\0" "$__nslab" "$?" >&{fd}; PS1= PS2=
IFS= read -r -d "" -u {fd} __nslab && IFS= read -r -d "" -u {fd} __nslab_script || exit; }} 2>/dev/null'
readonly PROMPT_COMMAND
"""
_LINE = 'eval "$__nslab_script" {fd}>&-\n'
# End of file, for each program of a script that reads more than it was given.
_EOF = "\x04" * 32
_COLUMNS, _LINES = 80, 24
# In bytes, without the newline: what the kernel keeps of one in canonical mode.
_LONGEST_LINE = 4095
# Far above what bash takes for itself (10 to 20, and 255), and below the usual limit.
_CHANNEL = 200
# Seconds for the answer to each signal of an interrupt.
_MOMENT = 0.5
_count = iter(range(1, 1 << 62))
# What its terminal decides, and what would make another program of it.
_NOT_FOR_IT = {"stdin", "stdout", "stderr", "text", "encoding", "errors", "universal_newlines", "bufsize", "pipesize"}
_NOT_FOR_IT |= {"start_new_session", "process_group", "shell", "executable"}


class ShellEndedError(RuntimeError):
    """The bash of a `Shell` has ended: nothing can be run in it any more."""


class Shell:
    r"""A bash on a terminal of its own, in new namespaces; it ends with this process, or with `close`.

    ``flags`` and the options are those of `nslab.spawn`, which see for what is raised; its streams are the terminal.

    >>> with nslab.shell("user uts", map_root_user=True, hostname="lab") as sh:
    ...     sh.run("cd /; name=$(uname -n)").returncode
    ...     sh.run("echo $name in $PWD").stdout
    0
    'lab in /\n'
    """

    def __init__(self, flags: Flags = 0, **options: Any) -> None:
        if not_for_it := sorted(_NOT_FOR_IT & options.keys()):
            raise TypeError(f"{not_for_it[0]} is not for a shell: it is a bash with a terminal of its own")
        _warden.guard()
        self._word = f"{_warden.owner()}/shell{next(_count)}"
        self._number = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: The exit status of the last script, as ``$?`` has it.
        self.status = 0
        self._late: list[str] = []
        self._untyped = b""
        self._owner = os.getpid()
        self._files: tuple[_core.Fd, ...] = ()
        # In socket.socketpair(), which is written in Python, an exception of a signal handler would lose a descriptor.
        self._control, low = _socket.socketpair()
        try:
            self._files = _core.Fd.pair(os.openpty)
            self._terminal, self._other = (file.fileno() for file in self._files)
            self._set_terminal()
            with _core.Fd(fcntl.fcntl, low, fcntl.F_DUPFD_CLOEXEC, _CHANNEL) as theirs:
                self._start(flags, theirs, options)
        except BaseException:
            self._close_files()
            raise
        finally:
            low.close()
        # From here on `close` ends it, and a fork does not.
        self.process._known = True
        self._answer(time.monotonic() + 10, _ignore)

    def _start(self, flags: Any, theirs: int, options: dict[str, Any]) -> None:
        with _core.Fd(os.memfd_create, "bashrc") as setup:
            os.write(setup, _SETUP.format(fd=theirs, rc=setup).encode())
            os.lseek(setup, 0, os.SEEK_SET)
            self._line = _LINE.format(fd=theirs)
            # setsid(1) makes the terminal the controlling one, without which there is no Ctrl-C and no job control.
            argv = ["setsid", "--ctty", "bash", "--noprofile", "--noediting", "--rcfile", f"/dev/fd/{setup}", "-i"]
            fds = [theirs, setup, *options.pop("pass_fds", ())]
            given = options.pop("env", None)
            environment = {"TERM": "xterm-256color", **(os.environ if given is None else given), "HISTFILE": ""}
            environment[_warden.VARIABLE] = _warden.environment(self._word)[_warden.VARIABLE]
            streams = dict.fromkeys(["stdin", "stdout", "stderr"], self._other)
            #: The bash itself.
            self.process = Process.__new__(Process)
            # At first it ends with its last reference, whatever comes.
            self.process._make(
                argv, (), flags, {"kill_child": True, **options, **streams, "env": environment, "pass_fds": fds}
            )

    def _set_terminal(self) -> None:
        mode = termios.tcgetattr(self._other)
        mode[1] &= ~termios.OPOST  # lines end as they were written
        mode[3] &= ~termios.ECHO
        mode[3] |= termios.NOFLSH
        termios.tcsetattr(self._other, termios.TCSANOW, mode)
        fcntl.ioctl(self._other, termios.TIOCSWINSZ, struct.pack("4H", _LINES, _COLUMNS, 0, 0))
        os.set_blocking(self._terminal, False)
        self._mode = mode

    # ------------------------------------------------------------------------------------------------- what it is

    @property
    def pid(self) -> int:
        """The pid of the bash, as the caller sees it."""
        return self.process.pid

    @property
    def namespaces(self) -> Mapping[str, NamespaceId]:
        """The namespaces of the bash, by type."""
        return self.process.namespaces

    @property
    def pidfd(self) -> int:
        """The pidfd of the bash: with pid and pidfd, a shell is a process that every inspection takes."""
        return self.process.pidfd

    def fileno(self) -> int:
        """Return the pidfd, by which ``join`` of `nslab.spawn` takes a shell."""
        return self.process.pidfd

    @property
    def returncode(self) -> int | None:
        """The return code of the bash itself, None while it lives; see `status` for that of a script."""
        return self.poll()

    def poll(self) -> int | None:
        """Return None while it lives, else the return code of the bash."""
        return self.process.poll()

    def __repr__(self) -> str:
        ended = self.poll()
        return f"<Shell: pid {self.pid}{'' if ended is None else f', ended with {ended}'}>"

    # ---------------------------------------------------------------------------------------------------- running

    def run(
        self,
        script: str,
        *,
        input: str = "",
        timeout: float | None = None,
        check: bool = False,
        output: Callable[[str], object] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run lines in the shell and return a `subprocess.CompletedProcess`; ``stdout`` is what the terminal got.

        ``input`` is typed in, then comes the end of file. ``timeout`` is in seconds, ``check`` makes a status other
        than 0 an error, ``output`` is called with each piece of the output as it comes, which is then not returned.

        Raises `ValueError` for a NUL in the script, `ShellEndedError` when the bash has ended before,
        `subprocess.TimeoutExpired`, `subprocess.CalledProcessError`. After a timeout and after a `KeyboardInterrupt`
        the shell lives, if it is not the bash itself that had to be killed.
        """
        if not isinstance(script, str):
            raise TypeError(f"a script is text, not {type(script).__name__}: shlex.join() makes one of a list of words")
        if "\0" in script:
            raise ValueError("a script must not contain NUL")
        if max(map(len, input.encode().split(b"\n"))) > _LONGEST_LINE:
            raise ValueError(f"a line of input has more than {_LONGEST_LINE} bytes: a terminal cuts it, see termios(3)")
        texts: list[str] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        self._send(script, input)
        sink = output or texts.append
        try:
            if not self._answer(deadline, sink):
                self._stop(sink)
                raise subprocess.TimeoutExpired(script, timeout or 0, "".join(texts).encode())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._stop(sink)) from None
        if check and self.status:
            raise subprocess.CalledProcessError(self.status, script, "".join(texts))
        return subprocess.CompletedProcess(script, self.status, None if output else "".join(texts))

    def show(self) -> None:
        """Print what background jobs have written between the scripts."""
        self._read(self._late.append)
        print("".join(self._late), end="")
        self._late.clear()

    def _send(self, script: str, typed: str) -> None:
        if self.poll() is not None:
            raise ShellEndedError(f"the shell has ended with {self.poll()}; make another with nslab.shell()")
        self._read(self._late.append)
        # What the last script did not read, and how it left the terminal.
        termios.tcflush(self._other, termios.TCIFLUSH)
        termios.tcsetattr(self._other, termios.TCSANOW, self._mode)
        self._number += 1
        self._control.sendall(f"{self._number}\0{script}\0".encode())
        self._untyped = (self._line + typed + _EOF).encode()
        self._type()

    def _type(self) -> None:
        """Type as much as the terminal has room for."""
        with suppress(BlockingIOError):
            while self._untyped:
                self._untyped = self._untyped[os.write(self._terminal, self._untyped) :]

    def _answer(self, deadline: float | None, sink: Callable[[str], object]) -> bool:
        """Pass the output on until the script has ended, or the bash with it; False when the time is over first."""
        poll = select.poll()
        for file in (self._control.fileno(), self.process.fileno()):
            poll.register(file, select.POLLIN)
        while True:
            poll.register(self._terminal, select.POLLIN | (select.POLLOUT if self._untyped else 0))
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000 + 1
            ready = {fd for fd, _ in poll.poll(left)}
            if not ready:
                return False
            self._type()
            ended = self.process.fileno() in ready
            over = self._control.fileno() in ready and self._status()
            self._read(sink)
            if ended:
                self.status = self.process.wait()
            if ended or over:
                return True
            if deadline is not None and time.monotonic() > deadline:
                # There may always be something to read.
                return False

    def _status(self) -> bool:
        """Take the report that bash makes when a script has ended; False if it is of an earlier one."""
        found = False
        # An interrupt that comes late makes bash report the same script twice.
        for report in self._control.recv(4096).split(b"\0")[:-1]:
            number, _, status = report.partition(b" ")
            if number == str(self._number).encode() and status.isdigit():
                self.status, found = int(status), True
        return found

    def _read(self, sink: Callable[[str], object]) -> None:
        """Pass on all that the terminal has: reading waits for what is still on its way inside the kernel."""
        while True:
            try:
                data = os.read(self._terminal, 1 << 16)
            except (BlockingIOError, OSError):
                return
            if text := self._decoder.decode(data):
                sink(text)

    def _stop(self, sink: Callable[[str], object]) -> str:
        """End the script that runs, as far as it takes, and return what it took."""
        # What nobody has read would be in its way.
        termios.tcflush(self._other, termios.TCIFLUSH)
        self._untyped = b"\x03"
        self._type()
        if self._answer(time.monotonic() + _MOMENT, sink):
            return "interrupted: Ctrl-C ended it; the shell lives"
        for number in (signal.SIGTERM, signal.SIGKILL):
            job = os.tcgetpgrp(self._terminal)
            sent = "Ctrl-C, late,"
            if job > 0 and job != self.pid:
                sent = f"not Ctrl-C but {number.name}"
                with suppress(ProcessLookupError):
                    os.killpg(job, number)
            if self._answer(time.monotonic() + _MOMENT, sink):
                return f"interrupted: {sent} ended it; the shell lives"
        self.process.kill()
        self._answer(None, sink)
        return "interrupted: the bash itself had to be killed"

    # ----------------------------------------------------------------------------------------------------- ending

    def close(self) -> None:
        """End the bash and everything that was started in it."""
        if not self._files:
            return
        # A fork has copies of the files, and that is all.
        if os.getpid() == self._owner:
            self.process.kill()
            _warden.end_marked(self._word)
            self.process.wait()
        self._close_files()

    def _close_files(self) -> None:
        self._control.close()
        for file in self._files:
            file.close()
        self._files = ()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "process" in vars(self):
            self.close()


def _ignore(_: str) -> None:
    """Drop it."""


def shell(flags: Flags = 0, **options: Any) -> Shell:
    """Start a bash on a terminal of its own in new namespaces, and return its `Shell`.

    The arguments are those of `nslab.spawn`, but for the streams. Raises what it raises.

    >>> with nslab.shell("user pid", map_root_user=True) as sh:
    ...     print(sh.run("echo $$").stdout, end="")
    1
    """
    return Shell(flags, **options)
