"""Runs a submission once, in a copy of its directory, and returns what was seen."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nslab

from .._inspect.snapshot import Snapshot
from .._magics.pump import Pump
from .._warden import end_marked, environment, marked, owner
from . import recorder
from .evidence import Run, SeenCell, SeenProcess, at_home
from .plain import from_plain

#: What a submission may write to each stream before the rest is dropped, in characters.
KEPT = 200_000
# Of the machine itself only what a process of the submission is compared with.
_PRIVATE = ("processes", "capabilities", "cgroup", "ipc")
_count = itertools.count(1)


def collect(submission: Path, file: str, args: Sequence[str] = (), *, input: str | None = None, timeout: float) -> Run:
    """Run the program ``file`` of a submission (itself a file or a directory) and return what was seen of it.

    After ``timeout`` seconds it is killed, with all that it has started; so is what it leaves behind. Raises
    `ImportError` for a notebook where nothing can execute one, `OSError` for a program that cannot be executed.
    """
    with tempfile.TemporaryDirectory(prefix="nslab-grade-") as made:
        # The submission may make processes of another user, who begin in its directory.
        Path(made).chmod(0o711)
        name = submission.resolve().stem or "submission"
        work, notes, temporary = (Path(made, name) for name in (name, "notes~", "tmp~"))
        cells, typed = Path(made, "cells~"), Path(made, "input~")
        notes.mkdir()
        temporary.mkdir()
        temporary.chmod(0o1777)
        typed.write_text(input or "", encoding="utf-8")
        _copy(submission, work)
        program = work / file
        argv = [*_command(program, notes, cells), *args]
        before, began = _machine(), time.monotonic()
        with typed.open("rb") as stdin:
            watched = _Watched(argv, cwd=program.parent, env=_environment(notes, temporary, program), stdin=stdin)
            watched.wait(timeout)
        seconds = time.monotonic() - began
        returncode, stdout, stderr = watched.returncode, watched.text("stdout"), watched.text("stderr")
        seen = tuple(_cells(cells))
        if program.suffix == ".ipynb":
            # What Jupyter itself says is of interest only if it has failed.
            stdout = "".join(cell.stdout for cell in seen)
            stderr = "".join(cell.stderr for cell in seen) + (stderr if returncode > 0 else "")
            returncode = returncode or int(any(cell.error for cell in seen))
        run = Run(
            file=file,
            source=program.read_text(encoding="utf-8", errors="replace"),
            args=tuple(args),
            input=input,
            returncode=returncode,
            timed_out=timeout if watched.timed_out else None,
            seconds=round(seconds, 3),
            stdout=stdout,
            stderr=stderr,
            cut=watched.cut,
            cells=seen,
            before=before,
            after=_machine(),
            left=tuple(watched.left),
            **_noted(notes),
        )
        return at_home(run)


class _Watched:
    """A process that is run to its end, or to the end of its time, and what it wrote."""

    def __init__(self, argv: list[str], **options: Any) -> None:
        self._word = f"{owner()}/{next(_count)}"
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._sizes = {"stdout": 0, "stderr": 0}
        self.cut = self.timed_out = False
        self.left: list[str] = []
        self.returncode = 0
        env = environment(self._word) | options.pop("env")
        options |= {"stdout": nslab.PIPE, "stderr": nslab.PIPE, "start_new_session": True, "kill_child": True}
        self._process = nslab.spawn(0, argv, env=env, **options)

    def wait(self, timeout: float) -> None:
        """Wait, and leave nothing of it behind."""
        pump = Pump(self._process, {name: self._sink(name) for name in self._texts})
        try:
            if not pump.run(timeout):
                self.timed_out = True
                self._process.kill()
            self._process.wait()
            if not self.timed_out:
                self.left = list(_commands(marked(self._word)))
        finally:
            self._process.kill()
            end_marked(self._word)
            pump.run(0)
            pump.close()
            self.returncode = self._process.wait()

    def text(self, name: str) -> str:
        """Return what it wrote to a stream."""
        return "".join(self._texts[name])

    def _sink(self, name: str) -> Any:
        def keep(text: str) -> None:
            room = KEPT - self._sizes[name]
            self.cut |= len(text) > room
            if room > 0:
                self._texts[name].append(text[:room])
                self._sizes[name] += len(text[:room])

        return keep


def _command(program: Path, notes: Path, output: Path) -> list[str]:
    """Return what runs a program, by its kind."""
    if program.suffix == ".py":
        return [sys.executable, str(program)]
    if program.suffix == ".ipynb":
        from .notebook import check_installed

        check_installed()
        return [sys.executable, "-P", "-m", "nslab._grade.notebook", str(program), str(output), str(notes)]
    if os.access(program, os.X_OK):
        return [str(program)]
    return [shutil.which("bash") or "/bin/sh", str(program)]


def _environment(notes: Path, temporary: Path, program: Path) -> dict[str, str]:
    """Return what differs in the environment; of a notebook it is the kernel that notes."""
    noted = {} if program.suffix == ".ipynb" else {recorder.VARIABLE: str(notes)}
    return {**noted, "TMPDIR": str(temporary), "NSLAB_STRICT": "1", "PYTHONUNBUFFERED": "1"}


def _copy(submission: Path, work: Path) -> None:
    if submission.is_dir():
        shutil.copytree(submission, work, symlinks=True)
    else:
        work.mkdir()
        shutil.copy(submission, work)


def _machine() -> Snapshot:
    """Return what a machine is before and after, without what is nobody's business."""
    seen = nslab.snapshot()
    notes = MappingProxyType({**seen.notes, **dict.fromkeys(_PRIVATE, "not recorded of the machine")})
    nothing: dict[str, Any] = dict.fromkeys(_PRIVATE)
    return replace(seen, **nothing, notes=notes)


def _commands(pids: list[int]) -> Iterator[str]:
    for pid in pids:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            yield os.fsdecode(b" ".join(words)).strip()


def _noted(notes: Path) -> Mapping[str, Any]:
    """Return what the interpreters of the submission have noted, in the order of time."""
    processes: list[SeenProcess] = []
    variables: dict[str, Any] = {}
    left_out = 0
    for path in sorted(notes.glob("*.json")):
        with contextlib.suppress(ValueError, OSError):
            note = json.loads(path.read_bytes())
            if path.stem.endswith("-end"):
                variables = note["variables"] | variables
                left_out += note["left_out"]
            else:
                processes.append(from_plain(SeenProcess, note))
    return {"processes": tuple(processes), "variables": MappingProxyType(variables), "left_out": left_out}


def _cells(output: Path) -> Iterator[SeenCell]:
    if output.exists():
        for line in output.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the last one, if it was killed
                yield from_plain(SeenCell, json.loads(line))
