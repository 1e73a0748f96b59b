"""What stands behind ``%%ns``: the flags, the options of `nslab.spawn` as ``nslab run`` spells them, and %%script's."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from IPython.core.error import UsageError

import nslab

from .._cli import switches

_USAGE = "%%%%ns [flag ...] [options] [-- program [argument ...]]"
_DESCRIPTION = """\
Run the lines of the cell with the shell, in a fresh child in new Linux namespaces. The flags name the namespaces:
cgroup, ipc, mnt, net, pid, time, user, uts, or all. A program after -- gets the cell in place of the shell, as in
%%script. Who is not root gets the user namespace too, in which he is."""
_OURS = ("out", "err", "bg", "proc", "raise_error", "timeout", "show", "shell")


@dataclass(frozen=True)
class Words:
    """What was asked for."""

    flags: list[str]
    options: dict[str, Any]
    program: list[str] | None
    out: str | None = None
    err: str | None = None
    bg: bool = False
    proc: str | None = None
    raise_error: bool = True
    timeout: float | None = None
    show: bool = False
    shell: str | None = None


class _Parser(argparse.ArgumentParser):
    # Since Python 3.14 it writes for a terminal, where there is one: not for a notebook, nor for a docstring.
    color: bool

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}\nHelp: %%ns?")


@functools.cache
def parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.Action]]:
    """Return the parser of the options, and each by its names."""
    made = _Parser(prog="%%ns", usage=_USAGE, description=_DESCRIPTION, add_help=False, allow_abbrev=False)
    made.color = False
    actions = switches.add_switches(made)
    cell = made.add_argument_group("the cell")

    def add(*names: str, **how: Any) -> None:
        actions.append(cell.add_argument(*names, default=argparse.SUPPRESS, **how))

    variable: dict[str, Any] = {"metavar": "VAR", "type": _variable}
    add("--out", **variable, help="store the standard output in this variable; with --bg, the pipe")
    add("--err", **variable, help="the same for the standard error")
    add("--proc", **variable, help="store the process, a nslab.Process, in this variable")
    add("--bg", action="store_true", help="do not wait for it; its output is kept for VAR.show() or %%ns show")
    add("--no-raise-error", dest="raise_error", action="store_false", help="a return code other than 0 is no error")
    add("--timeout", metavar="SECONDS", type=float, help="kill it after that time")
    add("--show", action="store_true", help="show the plan too: every step, and the same as a shell line and in C")
    add("--on", metavar="NAME", help="run it in this host: a variable, or the name that it was given")
    add("--shell", **variable, help="run it in the shell that this variable has, or begin one there")
    return made, {name: action for action in actions for name in action.option_strings}


def parse(words: list[str], variables: Mapping[str, Any]) -> Words:
    """Take the words of a ``%%ns`` line; ``--join`` and ``--on`` may name a variable.

    Raises IPython's `UsageError`, with a usage line.
    """
    made, named = parser()
    if "--" in words:
        words, program = words[: words.index("--")], words[words.index("--") + 1 :]
    else:
        program = []
    flags, options = _sort(words, named)
    given = vars(made.parse_args(options))
    ours = {name: given.pop(name) for name in _OURS if name in given}
    if "join" in given:
        given["join"] = [variables.get(name, name) for name in given["join"]]
    try:
        if "on" in given:
            given["join"] = [*given.get("join", []), _host(given.pop("on"), variables)]
        request = switches.request(given, program)
    except (TypeError, ValueError, ProcessLookupError) as error:
        made.error(getattr(error, "strerror", None) or str(error))
    found = Words([*flags, *request.flags], request.options, program or None, **ours)
    _check(found, made)
    return found


def usage_error(error: Exception) -> NoReturn:
    """Refuse what `nslab.spawn` has refused before anything was cloned."""
    parser()[0].error(str(error))


def _sort(words: list[str], named: dict[str, argparse.Action]) -> tuple[list[str], list[str]]:
    """Return the flags and the options, with their values, that stand in any order."""
    flags, options, i = [], [], 0
    while i < len(words):
        if not words[i].startswith("-"):
            flags += words[i].replace(",", " ").split()
            i += 1
            continue
        length = 2 if switches.takes_next(words[i], named) else 1
        options += words[i : i + length]
        i += length
    return flags, options


def _check(words: Words, made: argparse.ArgumentParser) -> None:
    if words.timeout is not None and not words.timeout > 0:
        made.error(f"--timeout: {words.timeout} is not a time to wait")
    if words.shell is not None and (words.bg or words.err or words.proc or words.show or words.program):
        made.error("--shell: a terminal has one output and runs one script: no --bg, --err, --proc, --show, no program")


def _host(name: str, variables: Mapping[str, Any]) -> nslab.Host:
    """Return the host that a variable has, or one of this name that any process of this user has made."""
    found = variables.get(name)
    return found if isinstance(found, nslab.Host) else nslab.Host.find(name)


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not a name for a variable")
    return text
