"""The mark ``namespaces``: what it asks for, whether that makes sense, and whether it is permitted here."""

from __future__ import annotations

import difflib
import functools
import inspect
from dataclasses import dataclass
from typing import Any

import pytest

import nslab
from nslab import _core

from .._namespace import names, parse_flags
from .._process import OPTIONS
from . import options as settings
from .plugin import REFUSED

# Those that are about a program and not about its namespaces: a test always ends with its pytest, and is PID 1 itself.
_ALLOWED = [name for name in OPTIONS if name not in ("kill_child", "init")]
_OWN = ["timeout", "leaks"]

#: The namespaces that an option asks for by being there.
IMPLIED = {
    "hostname": "uts",
    "domainname": "uts",
    "map_root_user": "user",
    "map_current_user": "user",
    "map_users": "user",
    "map_groups": "user",
    "setgroups": "user",
    "propagation": "mnt",
    "mount_proc": "mnt pid",
    "loopback": "net",
    "monotonic": "time",
    "boottime": "time",
}
_MAPS = {"map_root_user", "map_current_user", "map_users", "map_groups"}


@dataclass(frozen=True)
class Request:
    """What one test asks for."""

    #: The ``CLONE_NEW*`` bits.
    flags: int
    #: Options of `nslab.spawn`.
    options: dict[str, Any]
    #: What `nslab.spawn` would do for them.
    plan: _core.Plan
    #: Seconds that the child may take, or None.
    timeout: float | None
    #: Whether to fail a test for what it leaves behind.
    fails_for_leaks: bool


_REQUEST = pytest.StashKey[Request]()


def of(item: pytest.Item) -> Request:
    """Return what the test's closest mark asks for; raise `ValueError` or `TypeError` for what makes no sense."""
    if _REQUEST not in item.stash:
        mark = item.get_closest_marker("namespaces")
        assert mark is not None
        item.stash[_REQUEST] = _parse(item.config, mark)
    return item.stash[_REQUEST]


def complaint(item: pytest.Item) -> str | None:
    """Return what is wrong with the mark of a test, or None."""
    try:
        of(item)
    except (TypeError, ValueError) as error:
        return f"{item.nodeid}: @pytest.mark.namespaces: {error}"
    return None


def _parse(config: pytest.Config, mark: pytest.Mark) -> Request:
    options = dict(mark.kwargs)
    timeout = _check_timeout(options.pop("timeout", None))
    leaks = options.pop("leaks", None) or config.getini("nslab_leaks")
    if leaks not in ("fail", "ignore"):
        raise ValueError(f"leaks must be 'fail' or 'ignore', not {leaks!r}")
    if unknown := [name for name in options if name not in _ALLOWED]:
        raise TypeError(_unknown_option(unknown[0]))
    given = [name for name, value in options.items() if value is not None and value is not False]
    flags = parse_flags(mark.args) | parse_flags(IMPLIED[name] for name in given if name in IMPLIED)
    if not flags and "join" not in given:
        raise ValueError(f"it names no namespace: give at least one of {', '.join(names(nslab.Namespace.ALL))}")
    if needs_user(flags):
        flags |= nslab.Namespace.USER
        options |= {} if _MAPS & set(given) else {"map_root_user": True}
    plan = nslab.plan(flags, ["true"], **options)._core
    return Request(flags, options, plan, timeout, leaks == "fail")


def needs_user(flags: int) -> bool:
    """Return whether this process can make one of them only together with a user namespace."""
    rest = flags & ~nslab.Namespace.USER
    return bool(rest) and any(found.ok and found.reason for found in nslab.probe(rest).values())


def _check_timeout(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
    return float(timeout)


def _unknown_option(name: str) -> str:
    near = difflib.get_close_matches(name, _ALLOWED + _OWN, n=1)
    if near:
        return f"unknown option {name!r}: did you mean {near[0]!r}?"
    if name in inspect.signature(nslab.spawn).parameters:
        return f"option {name!r} is for programs: the test itself is what runs in the namespaces"
    return f"unknown option {name!r}: the options are {', '.join(_ALLOWED + _OWN)}"


@functools.cache
def impossible(flags: int) -> str | None:
    """Return why these namespaces are not permitted here, or None."""
    for name, found in nslab.probe(flags).items():
        if not found.ok:
            why = f"{found.step}: {found.reason}" if found.step else found.reason
            return f"no {name} namespace here: {why}" + (f" ({found.fix})" if found.fix else "")
    return None


def is_permitted(item: pytest.Item) -> bool:
    """Return whether the test's namespaces can be made here."""
    return REFUSED not in item.config.stash and complaint(item) is None and impossible(of(item).flags) is None


def refuse(item: pytest.Item) -> None:
    """Skip or fail a marked test that would otherwise run outside."""
    __tracebackhide__ = True
    if wrong := complaint(item):
        pytest.fail(wrong, pytrace=False)
    if reason := impossible(of(item).flags):
        if settings.missing(item.config) == "fail":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
