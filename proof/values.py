"""Which values are requests at all: the types and rules of the contract, and what the kernel could never accept."""

from __future__ import annotations

import collections.abc
import datetime
import grp
import os
import pwd
import re
import time
from typing import Any

import nslab

from .maps import BadError

# linux/sched.h
KINDS = {
    "cgroup": 0x02000000,
    "ipc": 0x08000000,
    "mnt": 0x00020000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "time": 0x00000080,
    "user": 0x10000000,
    "uts": 0x04000000,
}
ALIASES = {"mount": "mnt", "ns": "mnt", "network": "net"}
SIGCHLD = 17

# Which option needs which namespaces, or has no effect.
NEEDS = {
    "hostname": {"uts"},
    "domainname": {"uts"},
    "map_root_user": {"user"},
    "map_current_user": {"user"},
    "map_users": {"user"},
    "map_groups": {"user"},
    "setgroups": {"user"},
    "propagation": {"mnt"},
    "mount_proc": {"mnt", "pid"},
    "loopback": {"net"},
    "monotonic": {"time"},
    "boottime": {"time"},
    "init": {"pid"},
}
# Off is as good as not given.
SWITCHES = {"map_root_user", "map_current_user", "mount_proc", "loopback", "kill_child", "init"}


def require(condition: bool, why: str) -> None:
    if not condition:
        raise BadError(why)


def is_given(options: dict[str, Any], name: str) -> bool:
    value = options.get(name)
    return value is not None and not (name in SWITCHES and value is False)


def parse_flags(flags: Any) -> set[str]:
    if flags is None:
        return set()
    if isinstance(flags, int):
        bits = flags & ~0x7F if flags & 0x7F == SIGCHLD else flags
        require(bits & ~sum(KINDS.values()) == 0, "a bit that is no namespace")
        return {kind for kind, bit in KINDS.items() if bits & bit}
    require(isinstance(flags, (str, collections.abc.Iterable)), "flags of no form")
    words = re.split(r"[\s,]+", flags.strip(" ,")) if isinstance(flags, str) else list(flags)
    kinds: set[str] = set()
    for word in filter(None, words) if isinstance(flags, str) else words:
        require(isinstance(word, str), "a name that is no text")
        word = ALIASES.get(word, word)
        require(word in KINDS or word == "all", f"no namespace {word!r}")
        kinds |= set(KINDS) if word == "all" else {word}
    return kinds


def check(kinds: set[str], argv: Any, options: dict[str, Any]) -> None:
    _check_argv(argv, options)
    for name, needed in NEEDS.items():
        is_on = bool(options.get(name)) if name in ("map_root_user", "map_current_user", "loopback", "init") else True
        require(not (is_given(options, name) and is_on) or needed <= kinds, f"{name} without its namespace")
    for name in options:
        if is_given(options, name) and name in _CHECKS:
            _CHECKS[name](options[name])
    both = options.get("map_root_user") and options.get("map_current_user")
    require(not both, "two maps of the caller")
    signal = options.get("kill_child")
    if is_given(options, "kill_child") and signal is not True:
        # pid_namespaces(7): a signal that its init has no handler for is not sent to it.
        require(signal == 9 or "pid" not in kinds, "kill_child that a PID 1 ignores")
    texts = [options[name] for name in ("text", "universal_newlines") if options.get(name) is not None]
    require(len({bool(text) for text in texts}) < 2, "text and universal_newlines that differ")


def _check_argv(argv: Any, options: dict[str, Any]) -> None:
    words = [argv] if isinstance(argv, (str, bytes, os.PathLike)) else argv
    require(isinstance(words, (list, tuple)), "an argv of no form")
    require(len(words) > 0, "an empty argv")
    for word in words:
        _text(word)
    if options.get("executable") is not None:
        _text(options["executable"])


def _text(value: Any) -> bytes:
    require(isinstance(value, (str, bytes, os.PathLike)), "no text")
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError:
        raise BadError("what no file name can hold") from None
    require(b"\0" not in encoded, "a NUL")
    return encoded


def _name(value: Any) -> None:
    require(isinstance(value, (str, bytes)), "a name that is no text")
    # sethostname(2): at most __NEW_UTS_LEN bytes.
    require(len(_text(value)) <= 64, "a name of more than 64 bytes")


def _offset(value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    require(is_number or isinstance(value, datetime.timedelta), "an offset of another type")
    seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else value
    require(seconds == seconds and abs(seconds) != float("inf"), "no number")
    # time_namespaces(7), ERANGE: the clock may be neither negative nor beyond half of what the kernel can count.
    require(-time.monotonic() < seconds < 2**62 / 10**9 - time.clock_gettime(time.CLOCK_BOOTTIME), "out of range")


def _env(value: Any) -> None:
    require(isinstance(value, collections.abc.Mapping), "no mapping")
    for name, content in value.items():
        require(b"=" not in _text(name), "a variable's name with =")
        _text(content)


def _id(what: str, value: Any) -> None:
    if isinstance(value, str):
        known = [entry[0] for entry in (pwd.getpwall() if what == "user" else grp.getgrall())]
        require(value in known, f"no such {what}")
        return
    require(isinstance(value, int), f"a {what} that is no id")
    require(0 <= value < 2**32 - 1, f"a {what} out of range")


def _groups(value: Any) -> None:
    require(isinstance(value, collections.abc.Iterable) and not isinstance(value, str), "groups of no form")
    for group in value:
        _id("group", group)


def _pass_fds(value: Any) -> None:
    for fd in value:
        require(isinstance(fd, int) and 0 <= fd < 2**31, "no descriptor")


def _signal(value: Any) -> None:
    require(isinstance(value, int) and (value is True or 1 <= value <= 64), "no signal")


def _word(*words: str) -> Any:
    return lambda value: require(isinstance(value, str) and value in words, "no such word")


def _join(value: Any) -> None:
    if isinstance(value, (list, tuple)):
        for item in value:
            _join(item)
        return
    is_one = isinstance(value, (str, bytes, os.PathLike, int, nslab.NamespaceId, collections.abc.Mapping))
    require(not isinstance(value, bool) and (is_one or hasattr(value, "fileno")), "nothing to join")


def _stream(value: Any) -> None:
    require(isinstance(value, int) or hasattr(value, "fileno"), "no stream")


_CHECKS: dict[str, Any] = {
    "hostname": _name,
    "domainname": _name,
    "setgroups": _word("allow", "deny"),
    "propagation": _word("private", "slave", "shared", "unchanged"),
    "mount_proc": lambda value: value is True or _text(value),
    "monotonic": _offset,
    "boottime": _offset,
    "join": _join,
    "kill_child": _signal,
    "cwd": _text,
    "env": _env,
    "stdin": _stream,
    "stdout": _stream,
    "stderr": _stream,
    "pass_fds": _pass_fds,
    "user": lambda value: _id("user", value),
    "group": lambda value: _id("group", value),
    "extra_groups": _groups,
    "umask": lambda value: require(isinstance(value, int), "no umask"),
    "process_group": lambda value: require(isinstance(value, int), "no process group"),
    "pipesize": lambda value: require(isinstance(value, int), "no size"),
    "bufsize": lambda value: require(isinstance(value, int), "no size"),
    "preexec_fn": lambda value: require(False, "Python between clone and exec"),
}
