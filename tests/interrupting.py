"""Interrupts a call at each moment at which Python looks for signals, see "Python/ceval.c"."""

from __future__ import annotations

import contextlib
import dis
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import nslab

# It looks after these, and where a function or a generator starts or goes on.
_LOOKS_AFTER = {"PRECALL", "CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "RESUME"}
# Of RESUME with one of these only: not in the middle of an await or a `yield from`.
_STARTS = {0, 1}
# What a destructor raises is printed and forgotten.
_DESTRUCTORS = ("__del__", "_forsaken", "_remove")


@functools.cache
def _operations(code: CodeType) -> dict[int, tuple[str, int]]:
    return {each.offset: (each.opname, each.arg or 0) for each in dis.get_instructions(code)}


def _looks_between(code: CodeType, before: int, now: int) -> bool:
    operations = _operations(code)
    name, argument = operations[before]
    if operations[now][0] == "CALL":
        return False  # of Python 3.11, in two halves
    return name in _LOOKS_AFTER and (name != "RESUME" or argument in _STARTS)


def interrupted_at(call: Callable[[], object], moment: int | None, spared: tuple[str, ...] = ()) -> str | None:
    """Raise KeyboardInterrupt at this moment of a call, and say where that was; None when it had come to its end.

    ``spared`` are functions in which it is not raised, nor in what they call. Without a ``moment`` it is never raised.
    """
    count, where = 0, ""
    # Who has been given the result looks after it.
    outside = (interrupted_at.__code__, getattr(call, "__code__", None))

    def begin(frame: FrameType, _event: str, _: object) -> Callable[..., Any] | None:
        code, before = frame.f_code, -1
        if code in outside or _is_below(frame, (*_DESTRUCTORS, *spared)):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def follow(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            nonlocal before, count, where
            if event == "exception":
                # On its way to a handler it does not look.
                before = -1
            if event != "opcode":
                return follow
            if before >= 0 and _looks_between(code, before, frame.f_lasti):
                count += 1
                if moment is not None and count > moment:
                    sys.settrace(None)
                    after, _ = _operations(code)[before]
                    where = f"{code.co_qualname}, line {frame.f_lineno}, after {after}"
                    raise KeyboardInterrupt
            before = frame.f_lasti
            return follow

        return follow

    made: object = None
    with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
        try:
            sys.settrace(begin)
            made = call()
        finally:
            sys.settrace(None)
    if isinstance(made, nslab.Process):
        made.kill()
        made.communicate()
    # Python swallows what is raised while a generator is closed.
    return where or None


def _is_below(frame: FrameType | None, names: tuple[str, ...]) -> bool:
    while frame is not None:
        if frame.f_code.co_name in names:
            return True
        frame = frame.f_back
    return False


def descriptors() -> Counter[str]:
    """Count the open descriptors, by what they are open for."""
    found = Counter[str]()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]] += 1
    return found
