"""Interrupts a call at each moment at which Python looks for signals, see "Python/ceval.c"."""

from __future__ import annotations

import dis
import functools
import subprocess
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import nslab

# What a destructor raises is printed and forgotten.
_DESTRUCTORS = ("__del__", "_forsaken", "_remove")


def interrupted_at(call: Callable[[], object], moment: int | None, spared: tuple[str, ...] = ()) -> str | None:
    """Raise KeyboardInterrupt at this moment of a call, and say where that was; None when it had come to its end.

    ``spared`` are functions in which it is not raised, nor in what they call. Without a ``moment`` it is never raised.
    """
    count, where = 0, ""
    # Who has been given the result looks after it.
    outside = (interrupted_at.__code__, getattr(call, "__code__", None))
    start, stop = (_trace, _untrace) if sys.version_info < (3, 12) else (_monitor, _unmonitor)

    def look(frame: FrameType, after: str) -> None:
        nonlocal count, where
        if frame.f_code in outside or where or _is_below(frame, (*_DESTRUCTORS, *spared)):
            return
        count += 1
        if moment is not None and count > moment:
            where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}, after {after}"
            raise KeyboardInterrupt

    made: object = None
    try:
        try:
            start(look)
            made = call()
        finally:
            stop()
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        pass
    except RuntimeError as error:
        # In `threading.Condition`, as in Future.result, the interrupt is followed by one about its lock.
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
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


def _monitor(look: Callable[[FrameType, str], None]) -> None:
    """Call it where functions start, where generators go on, and after calls of what is not Python.

    Not in loops: Python 3.12 and 3.13 find no handler for what is raised at a jump.
    """
    monitoring: Any = vars(sys)["monitoring"]
    events, main, ours = monitoring.events, threading.get_ident(), (_monitor.__code__, _unmonitor.__code__)

    def event(what: str, *_: object) -> None:
        frame = sys._getframe(1)
        if threading.get_ident() == main and frame.f_code not in ours:
            look(frame, what)

    monitoring.use_tool_id(monitoring.PROFILER_ID, "interrupting")
    for name in ("PY_START", "PY_RESUME", "C_RETURN"):
        monitoring.register_callback(monitoring.PROFILER_ID, getattr(events, name), functools.partial(event, name))
    # Those of C come with the calls.
    monitoring.set_events(monitoring.PROFILER_ID, events.PY_START | events.PY_RESUME | events.CALL)


def _unmonitor() -> None:
    monitoring: Any = vars(sys)["monitoring"]
    monitoring.set_events(monitoring.PROFILER_ID, 0)
    monitoring.free_tool_id(monitoring.PROFILER_ID)


def _trace(look: Callable[[FrameType, str], None]) -> None:
    """The same for Python 3.11, from operation to operation, and in loops."""

    def begin(frame: FrameType, _event: str, _: object) -> Callable[..., Any]:
        code, before = frame.f_code, -1
        if _operations(code).get(frame.f_lasti) == "RESUME":
            look(frame, "RESUME")
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def follow(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            nonlocal before
            if event == "exception":
                # On its way to a handler it does not look.
                before = -1
            elif event == "opcode":
                if before >= 0 and _looks_between(code, before, frame.f_lasti):
                    look(frame, _operations(code)[before])
                before = frame.f_lasti
            return follow

        return follow

    sys.settrace(begin)


def _untrace() -> None:
    sys.settrace(None)


@functools.cache
def _operations(code: CodeType) -> dict[int, str]:
    return {each.offset: each.opname for each in dis.get_instructions(code)}


def _looks_between(code: CodeType, before: int, now: int) -> bool:
    # A PRECALL and its CALL are the two halves of one.
    looks = _operations(code)[before] in ("PRECALL", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD")
    return looks and _operations(code)[now] != "CALL"
