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

# It looks after these, and where a function starts or a generator goes on.
_LOOKS_AFTER = {"PRECALL", "CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD"}
# What a destructor raises is printed and forgotten.
_DESTRUCTORS = ("__del__", "_forsaken", "_remove")


@functools.cache
def _operations(code: CodeType) -> dict[int, str]:
    return {each.offset: each.opname for each in dis.get_instructions(code)}


def _looks_between(code: CodeType, before: int, now: int) -> bool:
    # A PRECALL and its CALL are the two halves of one, in Python 3.11.
    return _operations(code)[before] in _LOOKS_AFTER and _operations(code)[now] != "CALL"


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
        has_begun = True

        def follow(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            nonlocal before, has_begun, count, where
            if event == "exception":
                # On its way to a handler it does not look.
                before = -1
            if event != "opcode":
                return follow
            if has_begun or (before >= 0 and _looks_between(code, before, frame.f_lasti)):
                count += 1
                if moment is not None and count > moment:
                    sys.settrace(None)
                    after = "its start" if has_begun else _operations(code)[before]
                    where = f"{code.co_qualname}, line {frame.f_lineno}, after {after}"
                    raise KeyboardInterrupt
            before, has_begun = frame.f_lasti, False
            return follow

        return follow

    made: object = None
    try:
        sys.settrace(begin)
        made = call()
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        pass
    except RuntimeError as error:
        # In `threading.Condition`, as in Future.result, the interrupt is followed by one about its lock.
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
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
