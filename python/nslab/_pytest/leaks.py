"""What a test has left behind: processes, descriptors, links, mounts, each by its name."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from nslab import Namespace

from .._namespace import names

#: What is there, by its kind and what tells it from others of the kind.
Inventory = dict[tuple[str, object], str]


def inventory(flags: int) -> Inventory:
    """Return what this process and its new namespaces have now, each with its name."""
    found: Inventory = {}
    with contextlib.suppress(OSError):
        found |= {("descriptor", fd): target for fd, target in _descriptors()}
    if flags & Namespace.NET:
        with contextlib.suppress(OSError):
            found |= {("link", index): name for index, name in socket.if_nameindex()}
    if flags & Namespace.MNT:
        with contextlib.suppress(OSError):
            found |= {("mount", line.split()[0]): line for line in _mountinfo()}
    return found


def since(before: Inventory, flags: int) -> list[str]:
    """Return the names of what is new, processes first."""
    now = inventory(flags)
    if any(kind == "descriptor" for kind, _ in now.keys() - before.keys()):
        gc.collect()  # what only waits to be collected is not left behind
        now = inventory(flags)
    processes = [f"process {name} (pid {pid})" for pid, name in _children()]
    return processes + [_name(*key, what) for key, what in now.items() if key not in before]


def _name(kind: str, number: object, what: str) -> str:
    if kind == "descriptor":
        return f"descriptor {number} -> {what}"
    if kind == "mount":
        fields = what.split()
        return f"mount {fields[4]} ({fields[fields.index('-') + 1]})"
    return f"{kind} {what}"


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _descriptors() -> Iterator[tuple[int, str]]:
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            yield int(entry), os.readlink(f"/proc/self/fd/{entry}")  # noqa: PTH115


def _children() -> list[tuple[int, str]]:
    """Return the children that still run; orphans of the test have become children of this process."""
    pids: list[str] = []
    # The test may have covered /proc, and its threads end when they like.
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):  # noqa: PTH208
            with contextlib.suppress(FileNotFoundError):
                pids += Path(f"/proc/self/task/{task}/children").read_text().split()
    found = [(int(pid), *_state_and_name(pid)) for pid in pids]
    return [(pid, name) for pid, state, name in found if state not in "ZX"]


def _state_and_name(pid: str) -> tuple[str, str]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "X", ""
    head, _, tail = stat.rpartition(")")
    return tail.split()[0], words.decode(errors="replace") or head.partition("(")[2]


def kill_children() -> None:
    """End the children of this process, and theirs, which become children of it then.

    Where /proc shows another pid namespace, its numbers are not those of kill(2); and the kernel ends all with PID 1.
    """
    while _own_proc():
        children = _children()
        for pid, _ in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, 0 if children else os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def _own_proc() -> bool:
    try:
        return str(Path("/proc/self").readlink()) == str(os.getpid()) != "1"
    except OSError:
        return False


def kill_all_in(pid: int, flags: int) -> list[str]:
    """Kill every other process in the new namespaces of this one, and return their names."""
    kinds = names(flags & ~Namespace.PID & ~Namespace.TIME)
    if not kinds:
        return []
    try:
        wanted = Path(f"/proc/{pid}/ns/{kinds[-1]}").stat()
    except FileNotFoundError:
        # It was killed as well. A number of a namespace is used again, so that nobody can say any more who is in it.
        return []
    killed = []
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdigit() or int(entry) == pid:
            continue
        with contextlib.suppress(OSError):
            if os.path.samestat(Path(f"/proc/{entry}/ns/{kinds[-1]}").stat(), wanted):
                _, name = _state_and_name(entry)
                os.kill(int(entry), signal.SIGKILL)
                killed.append(f"{name} (pid {entry})")
    return killed
