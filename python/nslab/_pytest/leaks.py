"""What a test has left behind: processes, descriptors, links, mounts, each by its name."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nslab import Namespace, _core

from .._namespace import names

# Children of every kind, see waitpid(2).
_WALL = 0x4000_0000

#: What is there, by its kind: descriptors, the indices and names of links, the text of mountinfo.
Inventory = dict[str, Any]


def inventory(flags: int) -> Inventory:
    """Return what this process and its new namespaces have now.

    Every test pays for it, twice, so names are looked up only for what is new, and the way there is short: in a fork
    each page of code and data that was not used yet costs more than a system call.
    """
    found: Inventory = {}
    # The test may have closed everything, or covered /proc.
    try:
        found["descriptor"] = set(_core.descriptors())
        if flags & Namespace.NET:
            found["link"] = socket.if_nameindex()
        if flags & Namespace.MNT:
            with open("/proc/self/mountinfo", "rb", buffering=0) as file:  # noqa: PTH123
                found["mount"] = file.readall()
    except OSError:
        pass
    return found


def since(before: Inventory, flags: int) -> list[str]:
    """Return the names of what is new, processes first."""
    now = inventory(flags)
    if not now.get("descriptor", set()) <= before.get("descriptor", set()):
        gc.collect()  # what only waits to be collected is not left behind
        now = inventory(flags)
    found = [f"process {name} (pid {pid})" for pid, name in _children()]
    for kind in now.keys() & before.keys():
        if now[kind] != before[kind]:
            found += _NEW[kind](before[kind], now[kind])
    return found


def _new_descriptors(before: set[int], now: set[int]) -> Iterator[str]:
    for fd in sorted(now - before):
        yield f"descriptor {fd} -> {os.readlink(f'/proc/self/fd/{fd}')}"  # noqa: PTH115


def _new_links(before: list[tuple[int, str]], now: list[tuple[int, str]]) -> Iterator[str]:
    known = {index for index, _ in before}
    return (f"link {name}" for index, name in now if index not in known)


def _new_mounts(before: bytes, now: bytes) -> Iterator[str]:
    known = {line.split()[0] for line in os.fsdecode(before).splitlines()}
    for fields in map(str.split, os.fsdecode(now).splitlines()):
        if fields[0] not in known:
            yield f"mount {fields[4]} ({fields[fields.index('-') + 1]})"


_NEW: dict[str, Callable[[Any, Any], Iterable[str]]] = {
    "descriptor": _new_descriptors,
    "link": _new_links,
    "mount": _new_mounts,
}


def _children() -> list[tuple[int, str]]:
    """Return the children that still run; orphans of the test have become children of this process."""
    if not _has_children():
        return []
    pids: list[str] = []
    # The test may have covered /proc, and its threads end when they like.
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):  # noqa: PTH208
            with contextlib.suppress(FileNotFoundError):
                pids += Path(f"/proc/self/task/{task}/children").read_text().split()
    found = [(int(pid), *_state_and_name(pid)) for pid in pids]
    return [(pid, name) for pid, state, name in found if state not in "ZX"]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return False
    return True


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
    while _has_children() and _own_proc():
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
    killed: list[str] = []
    if not kinds:
        return killed
    try:
        wanted = Path(f"/proc/{pid}/ns/{kinds[-1]}").stat()
    except OSError:
        # It was killed as well. A number of a namespace is used again, so that nobody can say any more who is in it.
        return killed
    from .._warden import pids

    seen = {pid}
    # Any of them may have forked before it was killed.
    while found := [other for other in pids() if other not in seen and _is_in(other, kinds[-1], wanted)]:
        seen.update(found)
        for other in found:
            with contextlib.suppress(OSError):
                _, name = _state_and_name(str(other))
                os.kill(other, signal.SIGKILL)
                killed.append(f"{name} (pid {other})")
    return killed


def _is_in(pid: int, kind: str, namespace: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(f"/proc/{pid}/ns/{kind}").stat(), namespace)
    except OSError:
        return False
