"""System call filters, see seccomp(2): refuse a call, kill its caller, or hold it until a supervisor decides.

A filter can never be taken off again, so install it in an interpreter of its own (`separate.apart`).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import struct

_X86 = platform.machine() == "x86_64"
# Where the two architectures differ, the number on x86_64 comes first.
_NUMBERS = {
    "chdir": (80, 49),
    "clone": (56, 220),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "dup3": (292, 24),
    "execve": (59, 221),
    "fsopen": (430, 430),
    "ioctl": (16, 29),
    "mount": (165, 40),
    "pidfd_send_signal": (424, 424),
    "prctl": (157, 167),
    "setdomainname": (171, 162),
    "setgroups": (116, 159),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpgid": (109, 154),
    "setregid": (114, 143),
    "setreuid": (113, 145),
    "setsid": (112, 157),
    "unshare": (272, 97),
    "waitid": (247, 95),
}
_SECCOMP = 317 if _X86 else 277

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_ALLOW, _KILL, _ERRNO, _NOTIFY = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _install(
    call: str, action: int, equal: tuple[int, int] | None, bits: tuple[int, int] | None, flags: int = 0
) -> int:
    """``equal`` and ``bits`` narrow it to calls whose argument (by index) is a value, or has any bit of a mask."""
    tests = [(_LOAD, 0), (_EQUAL, _NUMBERS[call][0 if _X86 else 1])]
    for operation, condition in ((_EQUAL, equal), (_ANY_BIT, bits)):
        if condition:
            argument, value = condition
            tests += [(_LOAD, 16 + 8 * argument), (operation, value)]
    lines = []
    for index, (operation, value) in enumerate(tests):
        # A test that fails jumps over the rest and over the action.
        otherwise = 0 if operation == _LOAD else len(tests) - index
        lines.append(struct.pack("=HBBI", operation, 0, otherwise, value))
    lines += [struct.pack("=HBBI", _RETURN, 0, 0, verdict) for verdict in (action, _ALLOW)]
    program = _Program(len(lines), b"".join(lines))
    if os.geteuid() != 0:
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    return _check(_libc.syscall(_SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(program)))


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def refuse(call: str, errno: int, *, equal: tuple[int, int] | None = None, bits: tuple[int, int] | None = None) -> None:
    """Let a system call of this thread and its children fail with this errno."""
    _install(call, _ERRNO | errno, equal, bits)


def kill(call: str, *, bits: tuple[int, int] | None = None) -> None:
    """Let a system call end its caller with SIGSYS."""
    _install(call, _KILL, None, bits)


class Held:
    """Holds every caller of a system call until `let_go`; kept in the process that installed it."""

    def __init__(self, call: str) -> None:
        self._listener = _install(call, _NOTIFY, None, None, _NEW_LISTENER)
        self._id = 0

    def wait(self) -> int:
        """Wait until a process is held, and return its pid."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.poll()
        message = bytearray(80)
        fcntl.ioctl(self._listener, _RECEIVE, message)
        self._id, pid = struct.unpack_from("=QI", message)
        return int(pid)

    def let_go(self) -> None:
        """Let the process that `wait` returned go on."""
        fcntl.ioctl(self._listener, _SEND, struct.pack("=QqiI", self._id, 0, 0, _CONTINUE))
