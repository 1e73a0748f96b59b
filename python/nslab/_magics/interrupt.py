"""What the Interrupt button does: the whole tree ends, and the student learns why PID 1 did not."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cell import Cell

# Seconds for the answer to each signal.
_MOMENT = 0.3
_POLITE = (signal.SIGINT, signal.SIGTERM)


def end(cell: Cell) -> str:
    """Send SIGINT, SIGTERM and SIGKILL, as far as it takes; return what it took, in a sentence."""
    deaf, is_init = unheard(cell.pid)
    try:
        for number in _POLITE:
            _signal_group(cell, number)
            if cell.ends_within(_MOMENT):
                return f"interrupted: {number.name} ended it{_and(cell.end())}"
    except KeyboardInterrupt:
        pass  # pressed again: no more patience
    others = _and(cell.end())
    if is_init and deaf:
        names = " and ".join(number.name for number in deaf)
        return (
            f"interrupted: it is PID 1 of its pid namespace and has no handler for {names}, so the kernel dropped "
            f"{'it' if len(deaf) == 1 else 'them'} (pid_namespaces(7)); SIGKILL from outside ended it{others}"
        )
    return f"interrupted: it did not end on SIGINT and SIGTERM; SIGKILL ended it{others}"


def unheard(pid: int) -> tuple[list[signal.Signals], bool]:
    """Return which polite signals a process has no handler for, and whether it is PID 1 of its pid namespace."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return [], False
    fields = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    caught = int(fields.get("SigCgt", "0"), 16)
    deaf = [number for number in _POLITE if not caught >> (number - 1) & 1]
    return deaf, len(pids := fields.get("NSpid", "").split()) > 1 and pids[-1] == "1"


def _signal_group(cell: Cell, number: signal.Signals) -> None:
    # Not reaped yet: its pid, which is its group's too, is nobody else's.
    try:
        os.killpg(cell.pid, number)
    except (ProcessLookupError, PermissionError):
        cell.send_signal(number)


def _and(others: int) -> str:
    return "" if not others else f", and {others} more process{'es' if others > 1 else ''}"
