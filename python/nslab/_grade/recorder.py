"""In the interpreter of a submission: notes every process that nslab makes there, and what was in its namespaces.

Each interpreter that has `VARIABLE` in its environment begins when nslab is imported. The namespaces of a process are
kept open from the moment it is made, so that what is in them can be looked at however soon it ends. Nothing that goes
wrong here may change what the submission does.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from .. import _core
from .._namespace import names

#: Names the directory for the notes.
VARIABLE = "NSLAB_RECORD"
#: Of a submission that was killed, or has left Python by `os._exit`.
BROKE_OFF = "ended before its variables and namespaces could be looked at"
# More processes than this are only counted.
_MOST = 100
# More namespaces than those of so many processes are not kept open at a time.
_OPEN = 16
# Of a text, or of a list, in a variable.
_LONGEST = 10_000
# A pid namespace ends with its init: there is nothing left to enter.
_MORTAL = {"pid"}
# What a process that waits in the namespaces of another has of its own.
_PERSONAL = ("processes", "uid", "gid", "capabilities", "cgroup")

_notes: Notes | None = None


def begin(process: type) -> None:
    """Note each instance of this class from now on."""
    global _notes
    started, ran, gone = process._start, process._run_plan, process.__del__  # type: ignore[attr-defined]
    _notes = notes = Notes(os.environ[VARIABLE])

    def start(self: Any, *arguments: Any) -> bool:
        if is_started := started(self, *arguments):
            notes.take(self)
        return bool(is_started)

    def run(self: Any, *arguments: Any) -> None:
        ran(self, *arguments)
        notes.take(self)

    def delete(self: Any, *arguments: Any) -> None:
        notes.forget(self)
        gone(self, *arguments)

    process._start, process._run_plan, process.__del__ = start, run, delete  # type: ignore[attr-defined]
    _core.keep_namespaces(True)
    atexit.register(finish)


def finish() -> None:
    """Look at what is left, and write down which variables there are."""
    global _notes
    notes = _notes or Notes(os.environ[VARIABLE])
    _notes = notes
    with contextlib.suppress(Exception):
        notes.finish()


class Notes:
    """The processes of one interpreter, a file each in the directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # A fork is another interpreter, whose processes are not noted.
        self._owner = os.getpid()
        self._stem = f"{time.monotonic_ns():020}-{self._owner}"
        self._open: list[Note] = []
        self._all: list[Note] = []
        self._left_out = 0
        self._lock = threading.RLock()
        # The thread that looks at others: what it makes for that is not the submission's.
        self._looks: int | None = None
        self._finished = False

    def take(self, process: Any) -> None:
        """Note a process that was just made."""
        kept = process.__dict__.pop("_kept", [])
        is_made = getattr(process, "pid", None) is not None and not _is_warden(process)
        is_ours = os.getpid() == self._owner and self._looks != threading.get_ident() and not self._finished
        if not (is_made and is_ours and len(self._all) < _MOST):
            self._left_out += is_made and is_ours
            _close(fd for fd, _ in kept)
            return
        with contextlib.suppress(Exception), self._looking():
            note = process._note = Note(process, kept)
            self._all.append(note)
            self._open.append(note)
            self._write(note)
            if len(self._open) > _OPEN:
                self._settle([note for note in self._open if note.has_ended()] or self._open[:1])

    def forget(self, process: Any) -> None:
        """Note how a process has ended that nobody knows any more."""
        if (note := getattr(process, "_note", None)) is not None and note.returncode is None:
            note.returncode = process.returncode

    def finish(self) -> None:
        """Settle all that is open, and write what is known at the end."""
        if self._finished or os.getpid() != self._owner:
            return
        variables = _variables()
        for name, value in variables.items():
            for note in self._all:
                if note.pid == _pid_of(value):
                    note.names.append(name)
        with self._looking():
            self._settle(self._open)
            for note in self._all:
                self._write(note)
        self._finished = True
        shown = {name: value for name, value in variables.items() if _is_plain(value)}
        self._save("end", {"variables": shown, "left_out": self._left_out})

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        with self._lock:
            self._looks = threading.get_ident()
            try:
                yield
            finally:
                self._looks = None

    def _settle(self, notes: list[Note]) -> None:
        for note in list(notes):
            note.look()
            self._open.remove(note)
            self._write(note)

    def _write(self, note: Note) -> None:
        self._save(f"{self._all.index(note):04}", note.to_dict())

    def _save(self, name: str, content: dict[str, Any]) -> None:
        path = f"{self._directory}/{self._stem}-{name}.json"
        with open(f"{path}~", "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(content, file)
        os.replace(f"{path}~", path)  # noqa: PTH105


class Note:
    """One process."""

    def __init__(self, process: Any, kept: list[tuple[int, int]]) -> None:
        # It must end, and be collected, as if nobody looked.
        self.process = weakref.ref(process)
        self.pid: int = process.pid
        self.names: list[str] = []
        self.returncode: int | None = None
        self._args = _texts(process.args)
        self._namespaces: Mapping[str, Any] = process.namespaces
        self._files = {names(bit)[0]: fd for fd, bit in kept}
        own = _own()
        self._pids = self._levels(process, own)
        for kind, namespace in self._namespaces.items():
            if namespace != own.get(kind) and kind not in self._files:
                # One that it has joined: somebody else is in there.
                with contextlib.suppress(OSError):
                    self._files[kind] = namespace.open()
        self._seen: Any = None
        self._note: str | None = f"the submission {BROKE_OFF}"

    def _levels(self, process: Any, own: Mapping[str, Any]) -> tuple[int, ...] | None:
        if self._namespaces.get("pid") == own.get("pid"):
            return (self.pid,)
        if "pid" in self._files:
            # Its pid there follows from how it was made, also when it has ended already.
            below_init = any(name == "send_pidfd" for name, _, _ in process._step_times())
            return (self.pid, 2 if below_init else 1)
        with contextlib.suppress(OSError, StopIteration), open(f"/proc/{self.pid}/status") as status:  # noqa: PTH123
            line = next(line for line in status if line.startswith("NSpid:"))
            return tuple(map(int, line.split()[1:]))
        return None

    def has_ended(self) -> bool:
        """Return whether it has, as far as the submission knows."""
        process = self.process()
        return process is None or process.returncode is not None

    def look(self) -> None:
        """See what is in its namespaces now, and let go of them."""
        process = self.process()
        if process is not None:
            self.returncode = process.poll()
        try:
            if process is not None and self.returncode is None:
                self._look_at_living(process)
            else:
                self._look_at_rest()
        except (OSError, ValueError) as error:
            self._note = getattr(error, "strerror", None) or str(error)
        finally:
            _close(self._files.values())
            self._files = {}

    def _look_at_living(self, process: Any) -> None:
        import nslab

        seen = nslab.snapshot(process)
        hidden = ["processes"] if self._namespaces.get("pid") == _own().get("pid") else []
        self._seen, self._note = _without(seen, hidden, "those of the machine are not recorded"), None

    def _look_at_rest(self) -> None:
        import nslab

        wanted = {kind for kind, found in self._namespaces.items() if found != _own().get(kind)} - _MORTAL
        lost = wanted - self._files.keys()
        if lost:
            self._note = f"it ended, and its {' and '.join(sorted(lost))} namespace with it"
            return
        joined = [fd for kind, fd in self._files.items() if kind in wanted]
        waits = nslab.spawn(0, ["cat"], join=joined, stdin=nslab.PIPE, stdout=nslab.DEVNULL, stderr=nslab.DEVNULL)
        try:
            seen = replace(nslab.snapshot(waits), name=f"pid {self.pid}", pid=self.pid, namespaces=self._namespaces)
        finally:
            waits.kill()
            waits.communicate()
        self._seen, self._note = _without(seen, _PERSONAL, "it had ended"), None

    def to_dict(self) -> dict[str, Any]:
        """Return it as `evidence.SeenProcess` has it."""
        return {
            "pid": self.pid,
            "pids": self._pids,
            "args": self._args,
            "names": self.names,
            "returncode": self.returncode,
            "namespaces": {kind: namespace.to_dict() for kind, namespace in self._namespaces.items()},
            "seen": None if self._seen is None else self._seen.to_dict(),
            "note": self._note,
        }


def _variables() -> dict[str, Any]:
    """Return those of the submission itself; a notebook has others beside."""
    found = vars(sys.modules["__main__"])
    shell = found["get_ipython"]() if "get_ipython" in found else None
    hidden = getattr(shell, "user_ns_hidden", ())
    return {name: value for name, value in found.items() if not name.startswith("_") and name not in hidden}


def _own() -> Mapping[str, Any]:
    from .._inspect.ids import namespaces

    return namespaces(os.getpid())


def _without(seen: Any, fields: Any, why: str) -> Any:
    notes = MappingProxyType({**seen.notes, **dict.fromkeys(fields, why)})
    return replace(seen, **dict.fromkeys(fields), notes=notes)


def _texts(args: Any) -> list[str]:
    words = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
    return [os.fsdecode(word).encode(errors="replace").decode() for word in words]


def _pid_of(value: Any) -> int | None:
    """Return the pid of a `Process`, an `AsyncProcess`, a `Host` or a `Shell`."""
    if not any(base.__module__.partition(".")[0] == "nslab" for base in type(value).__mro__):
        return None
    pid = getattr(getattr(value, "process", value), "pid", None)
    return pid if isinstance(pid, int) else None


def _is_plain(value: Any, depth: int = 3) -> bool:
    if isinstance(value, (list, tuple)):
        return depth > 0 and len(value) <= _LONGEST and all(_is_plain(item, depth - 1) for item in value)
    if isinstance(value, str):
        return len(value) <= _LONGEST
    return value is None or type(value) in (bool, int, float)


def _is_warden(process: Any) -> bool:
    """Return whether it belongs to nslab and not to the submission."""
    from .._warden import _ORPHAN

    return isinstance(process.args, list) and process.args[: len(_ORPHAN)] == _ORPHAN


def _close(fds: Any) -> None:
    for fd in fds:
        os.close(fd)
