"""Named hosts: how other processes of the same user find them, with nothing that could be left after a crash."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass

from . import _core
from ._inspect.record import Record
from ._warden import pids

_NAME = re.compile(r"\w[\w.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class HostInfo(Record):
    """A host that is alive."""

    #: What it is called.
    name: str
    #: The pid of its init.
    pid: int
    #: The pid of the process that made it, and with which it ends.
    owner: int
    #: The types of the namespaces it made.
    namespaces: tuple[str, ...]


def hosts() -> list[HostInfo]:
    """Return the named hosts of this user, by name.

    They are found among the processes, by what their init is called; there is no file and no registry.

    >>> with nslab.Host("user uts", map_root_user=True, name="demo"):
    ...     [host.namespaces for host in nslab.hosts() if host.name == "demo"]
    [('user', 'uts')]
    """
    return sorted(filter(None, map(_look, pids())), key=lambda host: (host.name, host.pid))


def find(name: str) -> tuple[int, _core.Fd, list[str]]:
    """Return the pid, an open pidfd and the types of the host of this name."""
    check(name)
    named = [host for host in hosts() if host.name == name]
    if len(named) > 1:
        # Their owners are in different network namespaces.
        raise ProcessLookupError(errno.ESRCH, f"several hosts have the name {name}: {[host.pid for host in named]}")
    for host in named:
        pidfd = _core.Fd(os.pidfd_open, host.pid)
        # Only now is it certain that the pid is not another process's.
        if _look(host.pid) == host:
            return host.pid, pidfd, list(host.namespaces)
        pidfd.close()
    others = ", ".join(host.name for host in hosts()) or "there is none"
    raise ProcessLookupError(errno.ESRCH, f"no host has the name {name} (nslab hosts: {others})")


def _look(pid: int) -> HostInfo | None:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            program, name, *kinds = file.read().decode().split("\0")[:-1]
        if program != "nslab-host" or not name:
            return None
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123
            status = dict(line.split(b":\t", 1) for line in file.read().splitlines() if b":\t" in line)
        # Not the owner of its files, who is root for whatever has made itself undumpable; and the real id too, as
        # anybody may execute a program that is setuid.
        if [*map(int, status[b"Uid"].split()[:2])] != [os.getuid(), os.geteuid()]:
            return None
    except (OSError, ValueError):
        return None
    return HostInfo(name, pid, int(status[b"PPid"]), tuple(kinds))


def check(name: str) -> str:
    """Return the name, or raise `ValueError` where it could not be typed or shown."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"a host's name is 1 to 64 letters, digits and _.- (not first), not {name!r}")
    return name


def reserve(name: str) -> socket.socket:
    """Bind the address that stands for the name, see "abstract" in unix(7).

    Only one socket can have it, and it is free again when the last process that has the socket ends.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(f"\0nslab-host/{os.geteuid()}/{check(name)}")
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise FileExistsError(errno.EEXIST, "a host of this name is alive", name) from None
        raise
    except BaseException:
        made.close()
        raise
    return made
