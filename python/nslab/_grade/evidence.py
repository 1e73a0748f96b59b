"""What was seen of a submission: values that know no live process, as a file or from this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .._inspect.ids import NamespaceId
from .._inspect.snapshot import Snapshot
from ..check import CheckError
from .plain import from_plain, to_plain
from .recorder import BROKE_OFF

#: What an evidence file says it is.
FORMAT = "nslab-evidence"
#: Of the file; one that is older can be read as long as this says so.
VERSION = 1


class EvidenceError(Exception):
    """The evidence does not say what a check asks for: it can be judged neither right nor wrong."""


@dataclass(frozen=True)
class SeenProcess:
    """A process that the submission made with nslab; `nslab.check` takes it as it takes a live one."""

    #: Its pid on the machine of the submission.
    pid: int
    #: Its pid on every level, from that machine's to its own; None where it was not seen.
    pids: tuple[int, ...] | None
    args: tuple[str, ...]
    #: The variables of the submission in which it was at the end.
    names: tuple[str, ...]
    #: None if it still ran at the end, or nobody waited for it.
    returncode: int | None
    #: Those of its program.
    namespaces: Mapping[str, NamespaceId]
    #: What was in them when the submission ended.
    seen: Snapshot | None
    #: Why there is nothing in ``seen``, or None.
    note: str | None
    #: The machine of the submission, before.
    host: Snapshot | None = field(default=None, repr=False, compare=False)

    @property
    def called(self) -> str:
        """What to call it in a sentence."""
        return f"{self.names[0]} (pid {self.pid})" if self.names else f"pid {self.pid}"

    def poll(self) -> int | None:
        """Return its return code, None if it still ran at the end."""
        return self.returncode

    def recall(self, question: str) -> Any:
        """Return this field of ``seen``; raise `EvidenceError` if it was not seen."""
        note = self.note
        if question == "pids" and self.pids is not None:
            return self.pids
        if self.seen is not None and question != "pids":
            if (found := getattr(self.seen, question)) is not None:
                return found
            note = self.seen.notes.get(question, note)
        raise EvidenceError(f"the evidence does not have the {question} of {self.called}: {note or 'not recorded'}")


@dataclass(frozen=True)
class SeenCell:
    """A code cell of a notebook, and what came below it."""

    source: str
    tags: tuple[str, ...]
    stdout: str
    stderr: str
    #: The text of results and displays.
    display: str
    #: ``"NameError: …"``, or None.
    error: str | None


@dataclass(frozen=True, repr=False)
class Run:
    """One run of a submission."""

    file: str
    source: str
    args: tuple[str, ...]
    input: str | None
    #: Negative for a signal, as `subprocess` has it; of a notebook 1 if a cell had an error.
    returncode: int
    #: The seconds after which it was killed; None if it ended by itself.
    timed_out: float | None
    seconds: float
    stdout: str
    stderr: str
    #: Whether it wrote more than was kept.
    cut: bool
    #: Of a notebook.
    cells: tuple[SeenCell, ...]
    #: Its own at the end: numbers, texts, and lists of those.
    variables: Mapping[str, Any]
    #: The machine before and after.
    before: Snapshot
    after: Snapshot
    #: The command lines of what still ran when it had ended, and was killed.
    left: tuple[str, ...]
    processes: tuple[SeenProcess, ...]
    #: How many more processes it made than are noted.
    left_out: int

    def __repr__(self) -> str:
        # What pytest shows of a bare assertion is read by students.
        how = f"ended with {self.returncode}" if self.timed_out is None else f"killed after {self.timed_out:g} s"
        return f"<run of {self.file}: {how}>"

    @property
    def called(self) -> str:
        """What to call it in a sentence."""
        return self.file

    @property
    def last_line(self) -> str:
        """The last line that it wrote: of an exception what it says; of a notebook its first error."""
        if errors := [cell.error for cell in self.cells if cell.error]:
            return errors[0]
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return lines[-1] if lines else ""

    def poll(self) -> int:
        """Return the return code."""
        return self.returncode

    def process(self, name: str | None = None) -> SeenProcess:
        """Return the process that the submission has in the variable ``name``, or the only one there is.

        Raises `nslab.check.CheckError` when there is none, and `EvidenceError` when that was not to be seen.
        """
        __tracebackhide__ = True
        found = [process for process in self.processes if name is None or name in process.names]
        if name is not None and found:
            return found[-1]
        if name is None and len(found) == 1:
            return found[0]
        wanted = "one process" if name is None else f"a process in the variable {name!r}"
        if name is not None and any(BROKE_OFF in (process.note or "") for process in self.processes):
            raise EvidenceError(f"{self.file} {BROKE_OFF}: which process {name!r} is, nobody could see")
        there = ", ".join(f"{process.called}: {' '.join(process.args)}" for process in self.processes) or "none"
        if self.left_out:
            there += f", and {self.left_out} more that were not noted"
        raise _missing(f"{wanted} of {self.file}, but there is {there}", f"{name or 'process'} = nslab.spawn(…)")

    def cell(self, tag: str) -> SeenCell:
        """Return the first cell of a notebook that has this tag; raise `nslab.check.CheckError` when there is none."""
        __tracebackhide__ = True
        for cell in self.cells:
            if tag in cell.tags:
                return cell
        raise _missing(f"a cell with the tag {tag!r} in {self.file}, but there is none", "it came with the notebook")


@dataclass(frozen=True)
class Evidence:
    """What an evidence file holds."""

    #: `FORMAT` and `VERSION`.
    format: str
    version: int
    #: What wrote it: ``"nslab 0.1.0"``.
    made_by: str
    #: The kernel's release.
    kernel: str
    #: When, in UTC.
    time: str
    #: The name of the submission.
    submission: str
    runs: tuple[Run, ...]

    def to_json(self) -> str:
        """Return the content of the file."""
        return json.dumps(to_plain(self)) + "\n"


def load(path: Path) -> Evidence:
    """Read an evidence file; raise `ValueError` with a sentence for what is none, or a newer one."""
    try:
        found = json.loads(path.read_bytes())
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise ValueError(f"{path} is no evidence of nslab: it is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is no evidence of nslab: `nslab record` writes one")
    if found.get("version") != VERSION:
        raise ValueError(f"{path} has version {found.get('version')!r} of the format, and this nslab reads {VERSION}")
    try:
        evidence = from_plain(Evidence, found)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return replace(evidence, runs=tuple(map(at_home, evidence.runs)))


def at_home(run: Run) -> Run:
    """Return the run with processes that know which machine they were on."""
    return replace(run, processes=tuple(replace(process, host=run.before) for process in run.processes))


def _missing(expected: str, hint: str) -> CheckError:
    return CheckError(f"expected {expected}. Hint: {hint}.")
