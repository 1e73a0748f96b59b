"""``nslab ls``, ``tree``, ``show``, ``diff`` and ``mounts``: what the kernel has, as text, JSON or a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nslab

from .terminal import Progress


class Seen(NamedTuple):
    """What one verb found: for people, and for programs."""

    #: For the terminal; the last one is the one to draw.
    shown: list[nslab.pictures.Picture]
    data: dict[str, Any]


Add = Callable[[str, object, str, str], argparse.ArgumentParser]


def add_verbs(add: Add) -> None:
    """Add the five verbs, given what adds one."""
    ls = _with_output(add("ls", _verb(_ls), "list every namespace on this machine", "[options]"))
    ls.add_argument("--type", dest="types", metavar="NAMES", default="all", help='only these, as "user net"')
    tree = _with_output(
        add("tree", _verb(_tree), "draw the namespaces under their owners, or a tree of processes", "[options] [pid]")
    )
    tree.add_argument("pid", nargs="?", type=int, help="the processes from this one on, with the pid on every level")
    show = _with_output(add("show", _verb(_show), "show what a process sees", "[options] pid"))
    show.add_argument("pid", type=int)
    diff = _with_output(add("diff", _verb(_diff), "show what two processes see, side by side", "[options] pid pid"))
    diff.add_argument("pid", type=int)
    diff.add_argument("other", metavar="pid", type=int)
    mounts = _with_output(add("mounts", _verb(_mounts), "draw the mounts that a process sees", "[options] pid"))
    mounts.add_argument("pid", type=int)
    mounts.add_argument("--against", metavar="PID", type=int, help="what differs from the mounts of this one")


def _with_output(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--svg", metavar="FILE", type=_svg_file, help="write the picture to this file")
    return parser


def _svg_file(name: str) -> Path:
    if not name.endswith(".svg"):
        raise argparse.ArgumentTypeError(f"the name of the file must end in .svg, not {name!r}")
    return Path(name)


def _verb(look: Callable[[argparse.Namespace], Seen]) -> Callable[[argparse.Namespace, list[str]], int]:
    def verb(given: argparse.Namespace, _program: list[str]) -> int:
        try:
            seen = look(given)
        except ValueError as error:
            given.error(str(error))
        except OSError as error:
            print(f"nslab: {error.strerror}", file=sys.stderr)
            return 1
        if given.svg:
            seen.shown[-1].save(given.svg)
        if given.json:
            import json

            print(json.dumps(seen.data, indent=2))
        elif not given.svg:
            print("\n\n".join(picture.text.rstrip() for picture in seen.shown))
        return 0

    return verb


def _ls(given: argparse.Namespace) -> Seen:
    with Progress("processes") as progress:
        table = nslab.lsns(given.types, progress=progress)
    return Seen([nslab.pictures.listing(table)], table.to_dict())


def _tree(given: argparse.Namespace) -> Seen:
    if given.pid is not None:
        processes = nslab.processes(given.pid)
        return Seen([nslab.pictures.pids(processes)], processes.to_dict())
    with Progress("processes") as progress:
        table = nslab.lsns(progress=progress)
    return Seen([nslab.pictures.owners(table)], table.to_dict())


def _show(given: argparse.Namespace) -> Seen:
    comparison, inside = nslab.compare(None, given.pid), nslab.snapshot(given.pid)
    return Seen([nslab.pictures.card(comparison), nslab.pictures.of(inside)], inside.to_dict())


def _diff(given: argparse.Namespace) -> Seen:
    comparison = nslab.compare(given.pid, given.other)
    one, other = nslab.snapshot(given.pid), nslab.snapshot(given.other)
    data = {"comparison": comparison.to_dict(), "processes": [one.to_dict(), other.to_dict()]}
    shown = [nslab.pictures.card(comparison)]
    if one.mounts and other.mounts and "mnt" in comparison.different:
        difference = one.mounts.diff(other.mounts)
        shown.append(nslab.pictures.mounts(difference))
        data["mounts"] = difference.to_dict()
    return Seen([*shown, nslab.pictures.sides(one, other)], data)


def _mounts(given: argparse.Namespace) -> Seen:
    mounts = nslab.mounts(given.pid)
    if given.against is None:
        return Seen([nslab.pictures.mounts(mounts)], mounts.to_dict())
    difference = nslab.mounts(given.against).diff(mounts)
    return Seen([nslab.pictures.mounts(difference)], difference.to_dict())
