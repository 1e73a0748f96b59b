"""What a process has, and what its program looks like: read from outside, by /proc, without the library."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from .plans import PLACE

T = TypeVar("T")
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
STATUS = ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapEff", "CapAmb")
SIOCGIFFLAGS = 0x8913
_LIBC = ctypes.CDLL(None, use_errno=True)


def traces(pid: int) -> dict[str, Any]:
    """Return what a call must not have changed in the process or on this host."""
    return {
        "descriptors": descriptors(pid),
        "threads": sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()),
        "processes": {process: name(process) for process in pids()},
        "namespaces": namespaces(pid),
        "signals": {key: value for key, value in status(pid).items() if key.startswith(("Sig", "Umask"))},
        "directory": link(pid, "cwd"),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "names": [Path(f"/proc/sys/kernel/{file}").read_text() for file in ("hostname", "domainname")],
        "files": sorted(str(path) for top in (PLACE, "/dev/shm") for path in Path(top).rglob("*")),
        "sockets": re.findall(r"@\S+", Path("/proc/net/unix").read_text()),
    }


def pids() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()}


def name(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    comm, _, rest = fields.partition("(")[2].rpartition(")")
    return f"{comm} {rest.split()[0].replace('S', 'R')}" if rest.split()[0] == "Z" else comm


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descriptors(pid: int) -> dict[int, str]:
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[int(entry.name)] = link(pid, f"fd/{entry.name}")
    return found


def link(pid: int, name: str) -> str:
    return str(Path(f"/proc/{pid}/{name}").readlink())


def namespaces(pid: int) -> dict[str, int]:
    return {kind: Path(f"/proc/{pid}/ns/{kind}").stat().st_ino for kind in KINDS}


def status(pid: int) -> dict[str, Any]:
    """Return what it says, signals without 32 and 33: libc catches those from the first thread on, ignored or not."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {key: value.strip() for key, _, value in (line.partition(":") for line in lines) if key in STATUS}
    return {key: int(value, 16) & ~(0b11 << 31) if key.startswith("Sig") else value for key, value in fields.items()}


def program(pid: int, caller: int, hosts: list[int]) -> dict[str, Any]:
    """Return all that an option can change in a program, with nothing that differs from run to run."""
    own = namespaces(pid)
    whose = {inode: f"joined {number}" for number, host in enumerate(hosts) for inode in namespaces(host).values()}
    whose.update(dict.fromkeys(namespaces(caller).values(), "the caller's"))
    group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[2:4]
    is_own = {str(pid): "its own"}
    return {
        "program": Path(f"/proc/{pid}/cmdline").read_bytes(),
        "environment": Path(f"/proc/{pid}/environ").read_bytes(),
        "parent": name(parent(pid)),
        "group": is_own.get(group, "another"),
        "session": is_own.get(session, "another"),
        "namespaces": {kind: whose.get(inode, "new") for kind, inode in own.items()},
        "maps": [Path(f"/proc/{pid}/{file}").read_text().split() for file in ("uid_map", "gid_map", "setgroups")],
        "offsets": Path(f"/proc/{pid}/timens_offsets").read_text().split(),
        "status": status(pid),
        "directory": link(pid, "cwd"),
        "descriptors": {fd: re.sub(r"\d+", "N", target) for fd, target in descriptors(pid).items()},
        "mounts": mounts(pid),
        "names": inside(pid, "uts", lambda: [os.uname().nodename, domain_name()]),
        "loopback": inside(pid, "net", loopback_is_up),
    }


def mounts(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    numbers = re.compile(r"^\d+ \d+ \d+:\d+ |(?<=\[)\d+(?=\])|(?<=shared:)\d+|(?<=master:)\d+|(?<=propagate_from:)\d+")
    return [numbers.sub("", line) for line in lines]


def inside(pid: int, kind: str, look: Callable[[], T]) -> T:
    """Call it in a namespace of that process."""
    here = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
    try:
        enter(there)
        try:
            return look()
        finally:
            enter(here)
    finally:
        os.close(here)
        os.close(there)


def enter(fd: int) -> None:
    if _LIBC.setns(fd, 0):
        raise OSError(ctypes.get_errno(), "setns")


def domain_name() -> str:
    buffer = ctypes.create_string_buffer(65)
    _LIBC.getdomainname(buffer, 65)
    return buffer.value.decode()


def loopback_is_up() -> bool:
    with socket.socket() as any_socket:
        request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0))
    return bool(struct.unpack("16sH22x", request)[1] & 1)
