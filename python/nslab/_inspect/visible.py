"""What a walk over ``/proc`` cannot see, in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The kernel's constant PROC_PID_INIT_INO.
INITIAL_PID_NAMESPACE = 0xEFFFFFFC

# Values of the option with which all processes are visible at least: off, and "noaccess".
SHOWN = {"hidepid=0", "hidepid=off", "hidepid=1", "hidepid=noaccess"}


@contextmanager
def proc() -> Iterator[None]:
    """Raise `FileNotFoundError` in one clear sentence when the block finds no ``/proc`` of the caller."""
    try:
        yield
    except FileNotFoundError:
        raise no_proc() from None


def no_proc() -> FileNotFoundError:
    """Return the exception for it."""
    return FileNotFoundError(errno.ENOENT, "/proc is not mounted, or not for this pid namespace", "/proc")


def limits(unreadable: int) -> str | None:
    """Return what may be missing and why, or None; ``unreadable`` is the number of processes that refused a look."""
    notes = []
    if unreadable:
        processes = "1 process" if unreadable == 1 else f"{unreadable} processes"
        whose, remedy = ("", "") if os.geteuid() == 0 else (" of other users", ": root sees more")
        notes.append(f"{processes}{whose} may not be looked into{remedy}")
    if hidden := _hidepid():
        notes.append(f"/proc hides the processes of other users ({hidden})")
    try:
        own = Path("/proc/self").readlink().name
        if own != str(os.getpid()):
            notes.append("/proc is that of another pid namespace, and so are the pids")
        elif Path("/proc/self/ns/pid").stat().st_ino != INITIAL_PID_NAMESPACE:
            notes.append("processes outside of this pid namespace are not visible")
    except OSError:
        pass
    return "; ".join(notes) or None


def _hidepid() -> str | None:
    """Return the option of ``/proc`` that hides processes, unless the caller may look into all."""
    from .mounts import mounts
    from .users import capabilities

    if "CAP_SYS_PTRACE" in capabilities().effective:
        return None
    options = [mount.super_options for mount in mounts() if mount.target == "/proc"]
    hidden = (option for option in options[-1] if option.startswith("hidepid=") and option not in SHOWN)
    return next(hidden, None)
