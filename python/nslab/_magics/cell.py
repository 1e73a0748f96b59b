"""The child of one cell: its script, its output, its end."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import nslab

from .._warden import end_marked, environment, guard, marked, owner
from . import interrupt
from .held import Held
from .kept import Kept
from .pump import Pump, Sink
from .screen import Screen

# The kernel's limit for one argument with its NUL, MAX_ARG_STRLEN; see execve(2).
_LONGEST = 131_072
_STREAMS = ("stdout", "stderr")
_count = itertools.count(1)


class Cell(nslab.Process):
    r"""A `nslab.Process` that runs a script: to its end, or in the background, where its output is kept for `show`.

    >>> cell = Cell.start("user uts", "uname -n", map_root_user=True, hostname="lab")
    >>> cell.run()
    lab
    0
    """

    #: What it runs.
    script = ""
    #: Its namespaces, which outlive it.
    held: Held
    _word = ""
    _pump: Pump | None = None
    _kept: Kept | None = None

    @classmethod
    def start(cls, flags: Any, script: str, program: list[str] | None = None, **options: Any) -> Cell:
        """Start a script with the shell, or with another ``program`` that reads it from standard input.

        Its standard input is empty otherwise. The other arguments are those of `nslab.spawn`, which see for what is
        raised.
        """
        guard()
        word = f"{owner()}/{next(_count)}"
        options = {"kill_child": True, "start_new_session": True, **options}
        options |= {"stdout": nslab.PIPE, "stderr": nslab.PIPE, "stdin": nslab.PIPE if program else nslab.DEVNULL}
        env = environment(word)
        if program is not None:
            cell = cls(program, flags=flags, env=env, **options)._marked(script, word)
            cell._type(script.encode())
            return cell
        with _script_file(script) as files, Gate(env) as gate:
            argv, fds = command(script, *files), [*files, gate.file]
            return cls(argv, flags=flags, env=env, pass_fds=fds, **options)._marked(script, word)

    def _marked(self, script: str, word: str) -> Self:
        self.script, self._word, self.held = script, word, Held(self)
        return self

    def _type(self, data: bytes) -> None:
        """Give it all its standard input at once."""
        assert self.stdin is not None
        if len(data) > 1 << 16:
            fcntl.fcntl(self.stdin, fcntl.F_SETPIPE_SZ, len(data))
        with suppress(BrokenPipeError), self.stdin:
            self.stdin.write(data)

    def run(self, timeout: float | None = None, **sinks: Sink) -> int:
        """Pass its output on, to the screen or to ``stdout=`` and ``stderr=``; return its return code.

        What its descendants write after its end is kept. Raises `subprocess.TimeoutExpired` when it had to be killed
        after ``timeout`` seconds, and after an interrupt, once nothing of it is left, a `KeyboardInterrupt` that says
        what it took.
        """
        screen = Screen()
        self._pump = Pump(self, {name: sinks.get(name) or screen.sink(name) for name in _STREAMS}, screen)
        try:
            if not self._pump.run(timeout):
                raise subprocess.TimeoutExpired(self.script, timeout or 0)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(interrupt.end(self)) from None
        except BaseException:
            self.end()
            raise
        pump, self._pump = self._pump, None
        if pump.open:
            self._keep(pump)
        return self.wait()

    def background(self, *streams: str, timeout: float | None = None) -> None:
        """Let it run, and keep what it writes to these streams (``"stdout"``, ``"stderr"``) for `show`.

        After ``timeout`` seconds it is killed.
        """
        self._keep(Pump(self, dict.fromkeys(streams, _nowhere)), timeout)

    def _keep(self, pump: Pump, timeout: float | None = None) -> None:
        self._pump, self._kept = None, Kept(pump)
        self._kept.start(timeout, self.end_all)

    def show(self) -> None:
        """Write the output that was kept, as far as it has come and was not shown."""
        if self._kept is not None:
            self._kept.show()

    def ends_within(self, seconds: float) -> bool:
        """Pass its last words on; return whether it has ended."""
        if self._pump is not None:
            return self._pump.run(seconds)
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end_all(self) -> int:
        """Kill it and all its descendants; return how many descendants that were."""
        others = set(marked(self._word)) - {self.pid}
        self.kill()
        end_marked(self._word)
        return len(others)

    def end(self) -> int:
        """Kill it and all its descendants, and reap it; return how many descendants that were."""
        others = self.end_all()
        self.ends_within(1.0)
        self.wait()
        if self._kept is not None:
            self._kept.close()
        if self._pump is not None:
            self._pump.close()
        return others

    def left(self) -> list[int]:
        """Return the pids of its descendants that still run, now that it has ended.

        A daemon that has left the process group and lets go of the output is not looked for: that takes a walk over
        /proc.
        """
        if self.held.is_init or (self._kept is None and not self._has_group()):
            return []
        return [pid for pid in marked(self._word) if pid != self.pid]

    def _has_group(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _nowhere(_: str) -> None:
    """Until it is redirected."""


def command(script: str, file: int | None = None) -> list[str]:
    """Return the command that executes a script: the shell, with it as an argument, or in an open file."""
    shell = _shell(os.environ.get("PATH"))
    return [shell, "-c", script] if file is None else [shell, f"/dev/fd/{file}"]


@functools.lru_cache(1)
def _shell(path: str | None) -> str:
    return shutil.which("bash", path=path) or "/bin/sh"


@contextmanager
def _script_file(script: str) -> Iterator[list[int]]:
    """Give the descriptor of a file with the script, if it is too long for an argument."""
    if len(script.encode()) < _LONGEST:
        yield []
        return
    with open(os.memfd_create("cell"), "wb") as file:  # noqa: PTH123
        file.write(script.encode())
        file.flush()
        file.seek(0)
        yield [file.fileno()]


class Gate:
    """Holds bash back until its namespaces have been opened, however short the script.

    A bash reads the file that BASH_ENV names before anything else: here a pipe, which has nothing to read until the
    gate opens. Another shell does not wait; then the script may have ended first, and its namespaces with it.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        #: What the shell has to inherit.
        self.file, self._ours = os.pipe()
        undo = "unset BASH_ENV"
        if before := environment.get("BASH_ENV"):
            undo = f"BASH_ENV={shlex.quote(before)}; . {shlex.quote(before)}"
        self._line = f"exec {self.file}<&-; {undo}\n".encode()
        environment["BASH_ENV"] = f"/dev/fd/{self.file}"

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._ours, self._line)
        os.close(self.file)
        os.close(self._ours)
