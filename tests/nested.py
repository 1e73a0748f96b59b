"""Calls a function of a test in a fresh Python in namespaces of its own: a host that tests may change."""

from __future__ import annotations

import ctypes
import os
import pickle
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import conftest

import nslab

T = TypeVar("T")

INNER = str(Path(__file__).with_name("inner.py"))
LIBC = ctypes.CDLL(None, use_errno=True)


def inside(flags: Any, function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call ``function(*args)`` in new namespaces and return what it returns; what it raises is raised here.

    The function must be one that `pickle` can name; ``options`` are those of `nslab.spawn`.
    """
    bits, options = conftest.with_user(flags, options)

    def call(argv: list[str], fd: int) -> tuple[int, str]:
        options["pass_fds"] = [fd, *options.get("pass_fds", ())]
        done = nslab.run(bits, argv, stdout=nslab.PIPE, stderr=nslab.STDOUT, text=True, **options)
        return done.returncode, done.stdout

    return _call(call, function, args)


def as_nobody(function: Callable[..., T], *args: Any) -> T:
    """Call it as a user without any privilege, in the host's own namespaces but for the mounts."""
    if not conftest.ROOT:
        return inside(0, function, *args)

    def call(argv: list[str], fd: int) -> tuple[int, str]:
        done = conftest.as_ordinary_user(shlex.join(argv), pass_fds=[fd])
        return done.returncode, done.stdout

    return _call(call, function, args)


def interpreter(function: Callable[..., object], *args: Any) -> list[str]:
    """Return the command that calls it in a fresh Python, for a child that the test talks to."""
    return [sys.executable, INNER, pickle.dumps((function, args)).hex()]


def _call(call: Callable[[list[str], int], tuple[int, str]], function: Callable[..., T], args: tuple[Any, ...]) -> T:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as results:
        try:
            returncode, output = call([*interpreter(function, *args), str(write)], write)
        finally:
            os.close(write)
        print(output, end="")
        assert returncode == 0, output
        returned, value = pickle.load(results)
    if not returned:
        raise value
    return value  # type: ignore[no-any-return]


def refusal(flags: Any, options: dict[str, Any] | None = None, argv: tuple[str, ...] = ("true",)) -> nslab.SpawnError:
    """Return why a spawn fails, after the check that nothing is left behind: the fixture ``refused``, for in here."""
    before = conftest.snapshot()
    try:
        nslab.spawn(flags, argv, **options or {})
    except nslab.SpawnError as error:
        conftest.assert_unchanged(before)
        conftest.assert_no_child()
        return error
    raise AssertionError("it was not refused")


def fork() -> int:
    """Fork a process whose other threads, those of nslab, the child does not need."""
    with warnings.catch_warnings():
        # Python 3.12 and later.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


# Without the test modules and pytest, because it is imported once for each level.
_DESCEND = """
import sys, nslab
flags, level = sys.argv[2], int(sys.argv[3])
assert level < 40, "there is no end"
try:
    argv = [sys.executable, "-c", sys.argv[1], *sys.argv[1:3], str(level + 1)]
    sys.exit(nslab.run(flags, argv, map_root_user="user" in flags).returncode)
except nslab.SpawnError as error:
    print(level, error.step, error.errno, flush=True)
"""


def depth(flags: str) -> tuple[int, str, int]:
    """Nest one in the other until a spawn fails; return how many there were, and the step and errno of the failure."""
    argv = [sys.executable, "-c", _DESCEND, _DESCEND, flags, "0"]
    output = nslab.run(0, argv, stdout=nslab.PIPE, text=True, check=True).stdout
    levels, step, errno = output.split()
    return int(levels), step, int(errno)


def checked(result: int) -> int:
    """Return what a function of libc returned, or raise its errno."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
MS_UNBINDABLE, MS_PRIVATE, MS_SHARED = 1 << 17, 1 << 18, 1 << 20


def mount(source: str, target: str | Path, kind: str | None = None, flags: int = 0) -> None:
    """mount(2), which unlike mount(8) says which errno it was."""
    encoded = None if kind is None else kind.encode()
    checked(LIBC.mount(os.fsencode(source), os.fsencode(target), encoded, ctypes.c_ulong(flags), None))
