"""The child of one cell: its script, its output, its end."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import nslab

from .. import _warden
from . import interrupt
from .held import Held
from .kept import Kept
from .pump import Pump, Sink, screen

# The kernel's limit for one argument with its NUL, MAX_ARG_STRLEN; see execve(2).
_LONGEST = 131_072
# Executes the program once it is told to: until then its namespaces can be opened, however short the script.
_GATE = ["/bin/sh", "-c", 'read -r _; exec "$@" </dev/null', "sh"]
_GATE_TO_INPUT = ["/bin/sh", "-c", 'read -r _; exec "$@"', "sh"]
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
        _warden.start()
        word = f"{_warden.owner()}/{next(_count)}"
        options = {"env": _warden.environment(word), "kill_child": True, "start_new_session": True, **options}
        with _script_file(script, program) as files:
            argv = [*_GATE, *command(script, *files)] if program is None else [*_GATE_TO_INPUT, *program]
            streams = {"stdin": nslab.PIPE, "stdout": nslab.PIPE, "stderr": nslab.PIPE}
            cell = cls(argv, flags=flags, pass_fds=files, **streams, **options)
        cell.script, cell._word, cell.held = script, word, Held(cell)
        cell._let_go("" if program is None else script)
        return cell

    def _let_go(self, text: str) -> None:
        """Open the gate; what follows its line is the program's standard input."""
        data = b"\n" + text.encode()
        assert self.stdin is not None
        if len(data) > 1 << 16:
            # So that it takes all at once, see pipe(7).
            fcntl.fcntl(self.stdin, fcntl.F_SETPIPE_SZ, len(data))
        with suppress(BrokenPipeError), self.stdin:
            self.stdin.write(data)

    def run(self, timeout: float | None = None, **sinks: Sink) -> int:
        """Pass its output on, to the screen or to ``stdout=`` and ``stderr=``; return its return code.

        What its descendants write after its end is kept. Raises `subprocess.TimeoutExpired` when it had to be killed
        after ``timeout`` seconds, and after an interrupt, once nothing of it is left, a `KeyboardInterrupt` that says
        what it took.
        """
        self._pump = Pump(self, {name: sinks.get(name) or screen(name) for name in _STREAMS})
        try:
            if not self._pump.run(timeout):
                self.end()
                raise subprocess.TimeoutExpired(self.script, timeout or 0)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(interrupt.end(self)) from None
        if self._pump.open:
            self._keep(self._pump)
        return self.wait()

    def background(self, *streams: str, timeout: float | None = None) -> None:
        """Let it run, and keep what it writes to these streams (``"stdout"``, ``"stderr"``) for `show`.

        After ``timeout`` seconds it is killed.
        """
        self._keep(Pump(self, dict.fromkeys(streams, str)), timeout)

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
        others = set(_warden.marked(self._word)) - {self.pid}
        self.kill()
        _warden.end(self._word)
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
        """Return the pids of its descendants that still run."""
        return [pid for pid in _warden.marked(self._word) if pid != self.pid]


def command(script: str, file: int | None = None) -> list[str]:
    """Return the command that executes a script: the shell, with it as an argument, or in an open file."""
    shell = shutil.which("bash") or "/bin/sh"
    return [shell, "-c", script] if file is None else [shell, f"/dev/fd/{file}"]


@contextmanager
def _script_file(script: str, program: list[str] | None) -> Iterator[list[int]]:
    """Give the descriptor of a file with the script, if it is too long for an argument."""
    if program is not None or len(script.encode()) < _LONGEST:
        yield []
        return
    with open(os.memfd_create("cell"), "wb") as file:  # noqa: PTH123
        file.write(script.encode())
        file.flush()
        file.seek(0)
        yield [file.fileno()]
