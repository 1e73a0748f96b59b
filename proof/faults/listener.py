"""A seccomp(2) listener: every system call of a process and of its descendants waits for our word.

strace(1) counts the calls of each process but cannot choose the process: its ``--inject=close:when=2`` fails the second
`close` of the parent and of the child alike. Here each call is held until we let it go on, let it fail, or kill who
makes it; so a fault hits one call of one process, and nobody is ptraced.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import fcntl
import os
import platform
import struct

# What talks to us must not wait for us: to read and write this descriptor is not held.
CONTROL = 1001

_X86 = platform.machine() == "x86_64"
_SECCOMP, _READ, _WRITE = (317, 0, 1) if _X86 else (277, 63, 64)
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
# seccomp_unotify(2): struct seccomp_notif, struct seccomp_notif_resp.
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION, _RESPONSE = "=QIIiIQ6Q", "=QqiI"
_CONTINUE = 1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install() -> int:
    """Hold every call of this process from now on; return the descriptor to listen on."""
    number, first_argument = 0, 16
    lines = [
        (_LOAD, 0, 0, number),
        (_EQUAL, 1, 0, _READ),
        (_EQUAL, 0, 3, _WRITE),
        (_LOAD, 0, 0, first_argument),
        (_EQUAL, 0, 1, CONTROL),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]
    program = _Program(len(lines), b"".join(struct.pack("=HBBI", *line) for line in lines))
    libc = ctypes.CDLL(None, use_errno=True)
    listener: int = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))
    return listener


@dataclasses.dataclass
class Held:
    """A system call that waits."""

    cookie: int
    tid: int
    number: int
    arguments: tuple[int, ...]


def receive(listener: int) -> Held | None:
    """Return the next call; None if its process was killed meanwhile."""
    message = bytearray(struct.calcsize(_NOTIFICATION))
    try:
        fcntl.ioctl(listener, _RECEIVE, message)
    except FileNotFoundError:
        return None
    cookie, tid, _, number, _, _, *arguments = struct.unpack(_NOTIFICATION, message)
    return Held(cookie, tid, number, tuple(arguments))


def answer(listener: int, held: Held, failure: int = 0) -> None:
    """Let it go on, or fail with this errno."""
    flags = 0 if failure else _CONTINUE
    try:
        fcntl.ioctl(listener, _SEND, struct.pack(_RESPONSE, held.cookie, 0, -failure, flags))
    except OSError as error:
        # Killed, or interrupted by a signal: then it will ask again.
        if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
            raise
