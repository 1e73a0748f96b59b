"""The eight namespaces as a flag type, and every way to name a set of them."""

from __future__ import annotations

import enum
import functools
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Flags = int | str | Iterable[str | int] | None


class Namespace(enum.IntFlag):
    """The kernel's ``CLONE_NEW*`` bits, see namespaces(7).

    >>> Namespace.UTS | Namespace.IPC == CLONE_NEWUTS | CLONE_NEWIPC
    True
    """

    CGROUP = 0x02000000
    IPC = 0x08000000
    MNT = 0x00020000
    NET = 0x40000000
    PID = 0x20000000
    TIME = 0x00000080
    USER = 0x10000000
    UTS = 0x04000000
    ALL = CGROUP | IPC | MNT | NET | PID | TIME | USER | UTS


CLONE_NEWCGROUP = int(Namespace.CGROUP)
CLONE_NEWIPC = int(Namespace.IPC)
CLONE_NEWNS = int(Namespace.MNT)
CLONE_NEWNET = int(Namespace.NET)
CLONE_NEWPID = int(Namespace.PID)
CLONE_NEWTIME = int(Namespace.TIME)
CLONE_NEWUSER = int(Namespace.USER)
CLONE_NEWUTS = int(Namespace.UTS)

_ALL = int(Namespace.ALL)
_BITS = {member.name.lower(): int(member) for member in Namespace if member.name}
_WORDS = _BITS | {"all": _ALL, "mount": CLONE_NEWNS, "ns": CLONE_NEWNS, "network": CLONE_NEWNET}


def parse_flags(flags: Flags) -> int:
    """Return the ``CLONE_NEW*`` bits that ``flags`` stands for.

    ``flags`` is a `Namespace`, an ``int`` (``SIGCHLD`` in the low byte is accepted, as the C call has it there), text
    such as ``"uts ipc"`` or ``"all"``, an iterable of names, or nothing: ``0``, ``""``, ``None``.

    Raises `ValueError` for a bit that is no namespace and for an unknown name, `TypeError` for anything else.

    >>> parse_flags("uts,pid") == CLONE_NEWUTS | CLONE_NEWPID
    True
    """
    if flags is None:
        return 0
    if isinstance(flags, int):
        return _check_bits(int(flags))
    if isinstance(flags, str):
        return _parse_text(flags)
    try:
        items = list(flags)
    except TypeError:
        kind = type(flags).__name__
        raise TypeError(f"flags must be an int, text or an iterable of names, not {kind}") from None
    if unfit := [item for item in items if not isinstance(item, (int, str))]:
        raise TypeError(f"flags must be names, not {type(unfit[0]).__name__}")
    return functools.reduce(int.__or__, map(parse_flags, items), 0)


def names(bits: int) -> list[str]:
    """Return the names of the namespaces in ``bits``, in alphabetical order."""
    return [name for name, bit in _BITS.items() if bits & bit]


# What text was found to mean before: looked up without a call.
KNOWN_FLAGS: dict[str, int] = {}


def _parse_text(text: str) -> int:
    bits = 0
    for word in text.replace(",", " ").split():
        if word.lower() not in _WORDS:
            raise ValueError(_unknown_name(word))
        bits |= _WORDS[word.lower()]
    if len(KNOWN_FLAGS) < 64:
        KNOWN_FLAGS[text] = bits
    return bits


def _unknown_name(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word.lower(), _WORDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the names are {', '.join(_BITS)}, all"
    return f"unknown namespace {word!r}: {hint}"


# What else clone(2) knows: to say its name where it is refused.
_OTHER_BITS = {
    0x100: "CLONE_VM",
    0x200: "CLONE_FS",
    0x400: "CLONE_FILES",
    0x800: "CLONE_SIGHAND",
    0x1000: "CLONE_PIDFD",
    0x2000: "CLONE_PTRACE",
    0x4000: "CLONE_VFORK",
    0x8000: "CLONE_PARENT",
    0x10000: "CLONE_THREAD",
    0x40000: "CLONE_SYSVSEM",
    0x80000: "CLONE_SETTLS",
}
_SIGNAL_BITS = 0x7F


def _check_bits(bits: int) -> int:
    if bits & _SIGNAL_BITS == signal.SIGCHLD:
        bits &= ~_SIGNAL_BITS
    unknown = bits & ~_ALL
    if unknown:
        lowest = unknown & -unknown
        name = f" ({_OTHER_BITS[lowest]})" if lowest in _OTHER_BITS else ""
        raise ValueError(f"flags have the bit {lowest:#x}{name}, which is no namespace")
    return bits
