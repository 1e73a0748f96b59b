"""The options of ``nslab run`` and ``nslab plan``: those of `nslab.spawn`, spelled as unshare(1) spells them."""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
from collections import namedtuple

import nslab

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# How unshare(1) spells a namespace where that is not its name and the first letter of it.
_LONG = {"mnt": "--mount"}
_SHORT = {"cgroup": "-C", "time": "-T", "user": "-U"}
# unshare(1) gives these the namespace that they are about.
_IMPLIED = {
    "map_root_user": "user",
    "map_current_user": "user",
    "map_users": "user",
    "map_groups": "user",
    "mount_proc": "mnt",
    "init": "pid",
}


Request = namedtuple("Request", ["flags", "argv", "options"])
Request.__doc__ = "The arguments of `nslab.spawn`."


def add_switches(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add every option to a parser and return them."""
    added: list[argparse.Action] = []

    def add(group: argparse._ArgumentGroup, *names: str, **how: Any) -> None:
        added.append(group.add_argument(*names, default=argparse.SUPPRESS, **how))

    new = parser.add_argument_group("new namespaces")
    for member in nslab.Namespace:
        name = str(member.name).lower()
        names = (_SHORT.get(name, f"-{name[0]}"), _LONG.get(name, f"--{name}"))
        add(new, *names, dest="flags", action="append_const", const=name, help=f"a new {name} namespace")
    add(new, "--all", dest="flags", action="append_const", const="all", help="all eight")
    add(new, "--join", metavar="FILE", action="append", help="first enter the namespace FILE, as /proc/PID/ns/net")

    user = parser.add_argument_group("user namespace")
    yes: dict[str, Any] = {"action": "store_true"}
    ids: dict[str, Any] = {"action": "append", "type": _id_range, "metavar": "IN:OUT:COUNT"}
    add(user, "-r", "--map-root-user", **yes, help="map the caller to root (implies --user)")
    add(user, "-c", "--map-current-user", **yes, help="map the caller to itself (implies --user)")
    add(user, "--map-users", **ids, help="map user ids; or: auto, subids, all; repeatable (implies --user)")
    add(user, "--map-groups", **ids, help="the same for groups")
    add(user, "--map-auto", **yes, help="--map-users=auto --map-groups=auto")
    add(user, "--setgroups", choices=["allow", "deny"], help="whether setgroups(2) may be called inside")

    mounts = parser.add_argument_group("mount namespace")
    words = ["private", "slave", "shared", "unchanged"]
    add(mounts, "--propagation", choices=words, help="of every mount in the new namespace (default: private)")
    at: dict[str, Any] = {"nargs": "?", "const": True}
    add(
        mounts,
        "--mount-proc",
        metavar="DIR",
        **at,
        help="mount a fresh proc(5) on /proc, or --mount-proc=DIR (implies --mount)",
    )

    other = parser.add_argument_group("the others")
    add(other, "--hostname", metavar="NAME", help="the host name in the uts namespace")
    add(other, "--domainname", metavar="NAME", help="the NIS domain name in the uts namespace")
    add(other, "--loopback", **yes, help="bring lo up in the net namespace")
    add(other, "--monotonic", metavar="SECONDS", type=_number, help="clock offset in the time namespace")
    add(other, "--boottime", metavar="SECONDS", type=_number, help="clock offset in the time namespace")

    program = parser.add_argument_group("program")
    kill: dict[str, Any] = {"nargs": "?", "const": True, "type": _signal, "metavar": "SIGNAL"}
    add(program, "--kill-child", **kill, help="kill it, or --kill-child=SIGNAL, when nslab ends, however it ends")
    add(program, "--init", **yes, help="below an init, which is PID 1 and reaps orphans (implies --pid)")
    add(program, "-w", "--wd", dest="cwd", metavar="DIR", help="change to DIR")
    add(program, "-S", "--setuid", dest="user", metavar="UID", type=_id, help="set its user id")
    add(program, "-G", "--setgid", dest="group", metavar="GID", type=_id, help="set its group id")
    add(program, "-f", "--fork", **yes, help="accepted for the sake of habit: it is always a new process")
    return added


def split(words: list[str], actions: list[argparse.Action]) -> tuple[list[str], list[str]]:
    """Return the options before the program, and the program with its arguments.

    The first word that is neither an option nor the value of one begins the program; so does what follows ``--``.
    argparse cannot tell: it would take the program in ``--mount-proc ps`` for the value of the option.
    """
    named = {name: action for action in actions for name in action.option_strings}
    i = 0
    while i < len(words) and words[i].startswith("-") and words[i] != "-":
        if words[i] == "--":
            return words[:i], words[i + 1 :]
        i += 2 if takes_next(words[i], named) else 1
    return words[:i], words[i:]


def takes_next(word: str, named: dict[str, argparse.Action]) -> bool:
    """Return whether the word after this option is its value."""
    if word.startswith("--"):
        return word in named and named[word].nargs is None
    for i, letter in enumerate(word[1:], start=2):
        action = named.get(f"-{letter}")
        if action is not None and action.nargs is None:
            return i == len(word)
    return False


def request(given: dict[str, Any], program: list[str]) -> Request:
    """Turn what was parsed into the arguments of `nslab.spawn`.

    Raises `ValueError` for a map that is given both as a word and as ranges.

    >>> request({"map_root_user": True}, ["true"])
    Request(flags=['user'], argv=['true'], options={'map_root_user': True})
    """
    options = dict(given)
    options.pop("fork", None)
    flags = options.pop("flags", [])
    if options.pop("map_auto", False):
        for name in ("map_users", "map_groups"):
            options.setdefault(name, []).append("auto")
    for name in ("map_users", "map_groups"):
        if name in options:
            options[name] = _id_map(name, options[name])
    flags += [kind for name, kind in _IMPLIED.items() if name in options and kind not in flags]
    return Request(flags, program or [os.environ.get("SHELL") or "/bin/sh"], options)


def _id_map(name: str, items: list[Any]) -> Any:
    words = [item for item in items if isinstance(item, str)]
    if not words:
        return items
    if len(set(items)) > 1:
        raise ValueError(f"{name} is either {words[0]!r} or ranges, not both")
    return words[0]


def _id_range(text: str) -> str | tuple[int, ...]:
    if text in ("auto", "subids", "all"):
        return text
    numbers = text.split(":")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is neither INSIDE:OUTSIDE:COUNT nor auto, subids, all")
    return tuple(map(int, numbers))


def seconds(text: str) -> float:
    """Return a time to wait, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return number


def spelled(text: str) -> str:
    """Return an error of the library, or its hint, with the options spelled as they are here.

    >>> spelled('hostname needs the uts namespace (add "uts" to the flags)')
    '--hostname needs the uts namespace (add --uts)'
    >>> spelled('add "user" to the flags, and map_root_user=True')
    'add --user, and --map-root-user'
    """
    actions = add_switches(argparse.ArgumentParser(add_help=False, allow_abbrev=False))
    long = {action.dest: action.option_strings[-1] for action in actions if action.dest != "flags"}

    def kinds(found: re.Match[str]) -> str:
        return " ".join(_LONG.get(kind, f"--{kind}") for kind in found[1].split())

    def option(found: re.Match[str]) -> str:
        value = (found[2] or "").strip('"')
        return long[found[1]] + (f"={value}" if value not in ("", "True") else "")

    # Who is not followed by a value is a word as any other, unless it begins the sentence or nobody else writes so.
    names = "|".join(long)
    unique = "|".join(name for name in long if "_" in name)
    for pattern in (rf'\b({names})=("\w+"|\w+)', rf"^({names})()(?=[ :])", rf"(?<![\w-])({unique})()\b"):
        text = re.sub(pattern, option, text)
    return re.sub(r'"([a-z ]+)" to the flags', kinds, text)


def _number(text: str) -> int | float:
    kinds: tuple[Callable[[str], int | float], ...] = (int, float)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


def _signal(text: str) -> int:
    name = text.upper().removeprefix("SIG")
    if name.isdecimal() and int(name) in signal.valid_signals():
        return int(name)
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a signal") from None


def _id(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
