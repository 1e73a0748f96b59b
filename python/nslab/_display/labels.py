"""What stands for pids, times and other numbers that differ in every run, one for each through a session."""

from __future__ import annotations

import re
from collections.abc import Hashable

from .._lock import Lock
from .options import options

_lock = Lock()
_seen: dict[str, dict[Hashable, int]] = {}


def ordinal(kind: str, value: Hashable) -> int:
    """Return the how-manieth of its kind ``value`` was in this session, from 1."""
    with _lock:
        known = _seen.setdefault(kind, {})
        return known.setdefault(value, len(known) + 1)


def circled(number: int) -> str:
    """Return ①, ②, …, and (21) where there is no such character.

    >>> circled(2), circled(21)
    ('②', '(21)')
    """
    return chr(0x2460 + number - 1) if 1 <= number <= 20 else f"({number})"


def stand_in(kind: str, value: Hashable) -> str:
    """Return ``value`` as text, in stable mode ``kind`` and its number in this session: ``"mac①"``."""
    return f"{kind}{circled(ordinal(kind, value))}" if options.stable else str(value)


def pid(number: int | None) -> str:
    """Return a pid of the caller's pid namespace; 0 and 1 mean the same in every run."""
    if number is None:
        return "?"
    return str(number) if number in (0, 1) else stand_in("pid", number)


def name(text: str) -> str:
    """Return what `Comparison` and `Snapshot` call a process: ``"host"``, ``"pid 4711"``."""
    return re.sub(r"\bpid (\d{1,10})\b", lambda found: _named(int(found[1])), text)


def _named(number: int) -> str:
    shown = pid(number)
    return shown if shown.startswith("pid") else f"pid {shown}"


def call(text: str) -> str:
    """Return system calls as a plan prints them; how many variables the environment has differs from shell to shell."""
    return re.sub(r"\b\d+ variables", "… variables", text) if options.stable else text


def duration(nanoseconds: int | None) -> str:
    """Return a time span in a unit that a reader can grasp; in stable mode ``·``.

    >>> duration(156_114), duration(90_000_000_000)
    ('156 µs', '90 s')
    """
    if nanoseconds is None:
        return "?"
    if options.stable:
        return "·"
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)):
        if abs(nanoseconds) >= size:
            return (
                f"{nanoseconds / size:.3g} {unit}"
                if abs(nanoseconds) < 999 * size
                else f"{nanoseconds / size:.0f} {unit}"
            )
    return f"{nanoseconds} ns"


def forget() -> None:
    """Start counting anew, as a new session does."""
    with _lock:
        _seen.clear()
