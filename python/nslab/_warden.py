"""The warden: a small process that outlives this one by a moment and ends what its cells and shells left running.

The parent-death signal reaches only the child itself, and a daemon leaves its process group and its session. What no
program changes by accident is its environment: children get a word in `VARIABLE`, their descendants inherit it, and
whoever has the word is found in /proc.

This file is also the warden's program, executed by a Python without site-packages: it imports nothing of the package
until somebody asks it to.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VARIABLE = "NSLAB_OWNER"
# Seconds for what cannot be killed: who waits for a device, or belongs to another user.
_PATIENCE = 2.0

# Where others start processes all the time there is always a new one.
_LISTINGS = 16

# The processes that have one: a fork has none of its own yet.
_guarded: set[int] = set()
# The warden must not be a child of ours: somebody may wait for all his children. The shell leaves it to init.
_ORPHAN = ["/bin/sh", "-c", '"$@" &', "sh"]


def owner() -> str:
    """Return the word for this process: pids are used again, so with the time it was started."""
    return _word_of(os.getpid())


@functools.cache
def _word_of(pid: int) -> str:
    return f"{pid}-{_fields(pid)[19]}"


def environment(word: str) -> dict[str, str]:
    """Return this process's environment with the word for a child; a word that is there already stays."""
    return {**os.environ, VARIABLE: f"{os.environ.get(VARIABLE, '')} {word}".strip()}


def marked(word: str) -> list[int]:
    """Return the processes that have the word, or one that begins with it and a slash; zombies do not count.

    >>> marked("nobody")
    []
    """
    found = []
    for pid in pids():
        try:
            block = _environment(pid)
        except OSError:
            continue  # it has ended, or is somebody else's
        if VARIABLE.encode() in block and _has(block, word):
            found.append(pid)
    return found


def pids() -> Iterator[int]:
    """Yield the pids of all processes, of those too that appear meanwhile; see proc(5).

    Who forks and ends after /proc was listed and before he is looked at escapes in his child, who is not in that list.
    """
    seen: set[int] = set()
    for _ in range(_LISTINGS):
        new = {int(entry) for entry in os.listdir("/proc") if entry.isdecimal()} - seen  # noqa: PTH208
        if not new:
            return
        yield from sorted(new)
        seen |= new


def _environment(pid: int) -> bytes:
    """Read it; in the middle of execve(2) a process has memory already, but no environment yet."""
    deadline = time.monotonic() + _PATIENCE
    file = Path(f"/proc/{pid}/environ")
    before = ""
    while not (block := file.read_bytes()):
        # vsize, see proc_pid_stat(5): kernel threads and zombies have no memory.
        fields = _fields(pid)
        if fields[20] == "0" or time.monotonic() > deadline:
            break
        # startcode, which execve(2) sets when the environment is there; and env_start, which tells that this was the
        # program, with all of it, before the file was opened.
        now = fields[47] if fields[23] != "0" else ""
        if now and now == before:
            break
        before = now
        os.sched_yield()
    return block


def end_marked(word: str) -> int:
    """Kill every process that has the word, until there is none; return how many there were."""
    ended: set[int] = set()
    deadline = time.monotonic() + _PATIENCE
    # A process may fork while it is looked for, so look again.
    while left := [pid for pid in marked(word) if pid != os.getpid()]:
        killed = [pid for pid in left if _kill(pid, word)]
        ended.update(killed)
        if killed:
            deadline = time.monotonic() + _PATIENCE
        elif time.monotonic() > deadline:
            break
    return len(ended)


def guard() -> None:
    """Start the warden of this process, unless it runs already."""
    if os.getpid() in _guarded or not sys.executable:
        return
    import atexit
    import fcntl
    from subprocess import DEVNULL

    from . import _core
    from ._process import Process

    # Not one of the standard streams, which this process may have closed.
    with (
        _core.Fd(os.pidfd_open, os.getpid()) as low,
        _core.Fd(fcntl.fcntl, low, fcntl.F_DUPFD_CLOEXEC, 3) as pidfd,
    ):
        program = [*_ORPHAN, sys.executable, "-I", "-S", __file__, owner(), str(pidfd)]
        streams = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL}
        Process(program, pass_fds=[pidfd], start_new_session=True, cwd="/", **streams).wait()
    _guarded.add(os.getpid())
    atexit.register(stop)


def stop() -> None:
    """End what this process has left running; its warden finds nothing more to do when this process ends."""
    if os.getpid() in _guarded:
        end_marked(owner())


def _has(block: bytes, word: str) -> bool:
    for entry in block.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == VARIABLE.encode():
            return any(one == word or one.startswith(word + "/") for one in value.decode("ascii", "replace").split())
    return False


def _kill(pid: int, word: str) -> bool:
    """Kill it if it is still the one that has the word, and wait until it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _has(_environment(pid), word):
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(_PATIENCE * 1000))
    except OSError:
        return False
    finally:
        os.close(pidfd)


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, see proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _main(words: Iterable[str]) -> None:
    word, pidfd = words
    poll = select.poll()
    poll.register(int(pidfd), select.POLLIN)
    poll.poll()
    end_marked(word)


if __name__ == "__main__":
    _main(sys.argv[1:])
