"""What this kernel allows this process, found by trying."""

from __future__ import annotations

import errno
import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import SpawnError
from ._hints import diagnose
from ._namespace import Namespace, names, parse_flags
from ._process import Process

if TYPE_CHECKING:
    from ._namespace import Flags


@dataclass(frozen=True)
class Probe:
    """Whether one namespace can be made and set up here, and if not, why not."""

    #: Whether it can.
    ok: bool
    #: The step that was refused, or None.
    step: str | None = None
    #: Its errno, or None.
    errno: int | None = None
    #: Why, or what was added to make it possible.
    reason: str | None = None
    #: What helps, or None.
    fix: str | None = None


# The least that makes each namespace useful: what a container may refuse is rarely the clone itself.
_OPTIONS: dict[str, dict[str, Any]] = {
    "uts": {"hostname": "probe"},
    "net": {"loopback": True},
    "time": {"monotonic": 1},
    "user": {"map_root_user": True},
}


def probe(flags: Flags = "all") -> dict[str, Probe]:
    """Try each of these namespaces in a child, with its set-up, and return what came of it, by name.

    ``flags`` is as in `spawn`. Who is not root gets the user namespace added, as he needs it anyway. Nothing is
    changed, nothing is executed, and the answers are remembered for the life of the process.

    Raises `ValueError` for unknown flags.

    >>> nslab.probe("uts")["uts"].ok
    True
    """
    return {name: _try(name, os.getpid()) for name in names(parse_flags(flags))}


@functools.cache
def _try(name: str, _pid: int) -> Probe:
    bits = parse_flags(name)
    try:
        return _attempt(name, bits)
    except SpawnError as error:
        if error.errno != errno.EPERM or error.step != "clone" or bits & Namespace.USER:
            return _refused(error)
    try:
        return _attempt(name, bits | Namespace.USER)
    except SpawnError as error:
        return _refused(error)


def _attempt(name: str, bits: int) -> Probe:
    options = _OPTIONS.get(name, {})
    if bits & Namespace.USER:
        options = {**options, "map_root_user": True}
    try:
        # A directory cannot be executed: who comes as far as that has done all the set-up.
        Process(["/"], flags=bits, **options).wait()
    except SpawnError as error:
        if error.step != "execve":
            raise
    return Probe(True, reason="with a user namespace" if bits & Namespace.USER and name != "user" else None)


def _refused(error: SpawnError) -> Probe:
    found = diagnose(error.step, error.errno or 0, error.detail) or (error.strerror, None)
    return Probe(False, error.step, error.errno, *found)
