"""What an experiment consists of, and what came of it: plain values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The columns that the text of a call may take.
_WIDTH = 92

View = Mapping[str, str]


@dataclass(frozen=True)
class Look:
    """One thing to look at: a shell command in the child and one on the host.

    ``host`` is the same command unless it is given; ``""`` is none. ``$child`` in it is the child's pid on the host.
    """

    what: str
    child: str
    host: str | None = None


@dataclass(frozen=True)
class Check:
    """What has to be true of the answers, by `Look.what`, of both sides."""

    claim: str
    holds: Callable[[View, View], bool]


@dataclass(frozen=True)
class Trial:
    """One call of `nslab.run`, what to look at, and what to expect."""

    flags: str
    looks: tuple[Look, ...]
    checks: tuple[Check, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    #: One line, where the call does not speak for itself.
    note: str = ""
    #: Host commands, by what they show, whose answers must be the same before and after.
    untouched: Mapping[str, str] = field(default_factory=dict)
    #: The host looks when the child has ended, not while it lives.
    afterwards: bool = False
    #: What the child exits with.
    status: int = 0
    #: A host command that undoes what the trial did to its host.
    repair: str = ""
    #: It maps ids that only root may give.
    needs_ids: bool = False
    #: Trials that are made in the child, which is their host.
    inside: tuple[Trial, ...] = ()

    def call(self) -> str:
        """Return the call as Python text."""
        commands = [look.child for look in self.looks]
        if self.inside:
            commands.append("python3 below.py")
        if self.status:
            commands.append(f"exit {self.status}")
        flags = json.dumps(self.flags) if self.flags else "0"
        options = [f"{name}={_python(value)}" for name, value in {"shell": True, **self.options}.items()]
        line = f"nslab.run({', '.join([flags, _python('; '.join(commands)), *options])})"
        if len(line) <= _WIDTH:
            return line
        rest = [f"{flags},", *_pieces(commands), *_filled([f"{option}, " for option in options])]
        return "\n    ".join(["nslab.run(", *rest]) + "\n)"


@dataclass(frozen=True)
class Experiment:
    """A row of the tour."""

    name: str
    title: str
    shows: str
    trials: tuple[Trial, ...]
    #: The verdict, when it is true.
    claim: str
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """The answers of both sides to one `Look`."""

    what: str
    child: str
    host: str


@dataclass(frozen=True)
class Made:
    """What one trial showed, and the claims that did not come true."""

    call: str
    note: str
    seen: tuple[Seen, ...]
    failed: tuple[str, ...]
    user_added: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an experiment showed: its verdict holds when there is no reason against it."""

    experiment: Experiment
    made: tuple[Made, ...]
    reasons: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """The verdict."""
        return not self.reasons


def _python(value: Any) -> str:
    """Return a value as Python text, with the double quotes that leave a shell its single ones."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _pieces(commands: list[str]) -> list[str]:
    """Return a script as the lines of a string literal."""
    lines = _filled([f"{command}; " for command in commands[:-1]] + commands[-1:])
    return [_python(line) for line in lines[:-1]] + [f"{_python(lines[-1])},"]


def _filled(parts: list[str]) -> list[str]:
    """Join the parts to lines that are as long as they may be."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > _WIDTH - 8:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() if line.endswith(", ") else line for line in lines]
