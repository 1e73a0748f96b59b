"""The command ``nslab``: its verbs, and nothing that the Python API cannot do."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import nslab

from . import grade, look, switches
from .foreground import Foreground, failure_status

DESCRIPTION = "Run programs in new Linux namespaces, and see what that does."


def main(argv: list[str] | None = None) -> int:
    """Run the command with ``argv``, by default the process's own arguments, and return its exit status.

    Raises `SystemExit` for a usage error (2) and for ``--help``.

    >>> main(["run", "--user", "--map-root-user", "--uts", "--hostname", "lab", "sh", "-c", "test $(uname -n) = lab"])
    0
    """
    words = sys.argv[1:] if argv is None else argv
    parser, actions = _parser()
    program: list[str] = []
    if words[:1] in (["run"], ["plan"], ["enter"]):
        options, program = switches.split(words[1:], actions[words[0]])
        words = [words[0], *options]
    elif words[:1] == ["record"] and "--" in words:
        # What follows is the submission's.
        place = words.index("--")
        words, program = words[:place], words[place + 1 :]
    given, unknown = parser.parse_known_args(words)
    if unknown:
        given.error(f"unrecognized arguments: {' '.join(unknown)}")
    given.is_all = argv is None
    verb: Callable[[argparse.Namespace, list[str]], int] = given.verb
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Not every terminal has every character of the pictures.
        sys.stdout.reconfigure(errors="replace")
    try:
        status = verb(given, program)
        print(end="", flush=True)
    except nslab.SpawnError as error:
        print(f"nslab: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {switches.spelled(error.hint)}", file=sys.stderr)
        return failure_status(error)
    except OSError as error:
        # The output: a reader that has gone, as in `nslab tour | head`, or a full disk. Python would write at exit.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        print(f"nslab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _parser() -> tuple[argparse.ArgumentParser, dict[str, list[argparse.Action]]]:
    parser = argparse.ArgumentParser(prog="nslab", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"nslab {nslab.__version__}")
    verbs = parser.add_subparsers(prog="nslab", title="verbs", required=True, metavar="VERB")

    def add(name: str, verb: object, text: str, usage: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            usage=f"nslab {name} {usage}",
            allow_abbrev=False,
        )
        added.set_defaults(verb=verb, error=added.error)
        return added

    actions = {}
    words = "[options] [program [argument ...]]"

    run = add("run", _run, "execute a program (default: $SHELL) in new namespaces", words)
    run.epilog = (
        "exit status: the program's, or 128 and the number of the signal that ended it; 124 timed out, "
        "125 the set-up failed, 126 the program cannot be executed, 127 it was not found"
    )
    actions["run"] = switches.add_switches(run)
    seconds: dict[str, Any] = {"metavar": "SECONDS", "type": switches.seconds}
    actions["run"].append(run.add_argument("--timeout", **seconds, help="kill the program after that time"))

    plan = add("plan", _plan, "show what run would do, step by step, without doing it", words)
    form = plan.add_mutually_exclusive_group()
    form.add_argument("--unshare", dest="form", action="store_const", const="unshare", help="as an unshare(1) line")
    form.add_argument("--c", dest="form", action="store_const", const="c", help="as a C program")
    form.add_argument("--json", dest="form", action="store_const", const="json", help="as JSON")
    actions["plan"] = switches.add_switches(plan)

    enter = add("enter", _enter, "execute a program (default: $SHELL) in a named host", "[options] NAME [program ...]")
    enter.epilog = run.epilog.replace("124 timed out, ", "")
    actions["enter"] = [
        enter.add_argument("-w", "--wd", metavar="DIR", help="change to DIR (default: the root, or where nslab is)")
    ]

    hosts = add("hosts", _hosts, "list the named hosts of this user", "[options]")
    hosts.add_argument("--json", action="store_true", help="as JSON")

    doctor = add("doctor", _doctor, "try what the kernel allows here, and say why where it does not", "[options]")
    doctor.add_argument("--for", dest="flags", metavar="NAMES", default="all", help='only these, as "user net"')
    doctor.add_argument("--json", action="store_true", help="as JSON")

    look.add_verbs(add)
    grade.add_verbs(add)

    tour = add("tour", _tour, "make the classroom's experiments on this kernel", "[options] [experiment ...]")
    tour.add_argument("experiments", nargs="*", metavar="experiment", help="only these; --list names them")
    tour.add_argument("--list", action="store_true", help="list the experiments")
    tour.add_argument("--json", action="store_true", help="as JSON")
    return parser, actions


def _planned(given: argparse.Namespace, program: list[str]) -> tuple[nslab.Plan, switches.Request]:
    """Return the plan, or leave with a usage error: what could never work is found before anything is cloned."""
    options = vars(given).copy()
    for name in ("verb", "error", "timeout", "form", "is_all"):
        options.pop(name, None)
    try:
        request = switches.request(options, program)
        return nslab.plan(request.flags, request.argv, **request.options), request
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        given.error(switches.spelled(str(error.args[0])))
        raise


def _run(given: argparse.Namespace, program: list[str]) -> int:
    plan, request = _planned(given, program)
    is_init = bool({"pid", "all"} & set(request.flags)) and not request.options.get("init")
    return Foreground(plan, is_init=is_init, is_all=given.is_all).run(given.timeout)


def _enter(given: argparse.Namespace, words: list[str]) -> int:
    from .hosts import enter

    if not words:
        given.error("the following arguments are required: NAME")
    name, program = words[0], words[1:]
    return enter(name, program[1:] if program[:1] == ["--"] else program, given.wd, is_all=given.is_all)


def _hosts(given: argparse.Namespace, _program: list[str]) -> int:
    from .hosts import list_them

    return list_them(as_json=given.json)


def _plan(given: argparse.Namespace, program: list[str]) -> int:
    plan, request = _planned(given, program)
    if given.form == "json":
        import json

        steps = [step._asdict() for step in plan.steps]
        print(json.dumps({"flags": request.flags, "argv": request.argv, "steps": steps}, indent=2))
    elif given.form == "c":
        print(plan.c_source().rstrip("\n"))
    elif given.form == "unshare":
        print(plan.unshare_command())
    else:
        print(plan)
    return 0


def _doctor(given: argparse.Namespace, _program: list[str]) -> int:
    try:
        found = nslab.probe(given.flags)
    except ValueError as error:
        given.error(str(error))
    if given.json:
        import json
        from dataclasses import asdict

        print(json.dumps({name: asdict(probe) for name, probe in found.items()}, indent=2))
    else:
        from .doctor import table

        print("\n".join(table(found)))
    return 0 if all(probe.ok for probe in found.values()) else 1


def _tour(given: argparse.Namespace, _program: list[str]) -> int:
    from . import tour as tours

    try:
        chosen = tours.choose(given.experiments)
    except ValueError as error:
        given.error(str(error))
    if given.list:
        return tours.list_them(chosen, as_json=given.json)
    return tours.tour(chosen, as_json=given.json)
