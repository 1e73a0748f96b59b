"""What must happen: a prediction for every request, from the manual pages and the contract of `nslab.spawn`.

Nothing here looks at the code that is tried, nor calls it. The sentences in quotation marks are of the manual pages.
"""

from __future__ import annotations

import dataclasses
import errno
import math
import os
import subprocess
from typing import Any

from .identity import Identity, StopError
from .maps import BadError
from .values import KINDS, check, is_given, parse_flags
from .world import PLACE, PROGRAM, World


@dataclasses.dataclass
class Request:
    flags: Any
    argv: Any
    options: dict[str, Any]
    #: With which code the program is told to end; minus a signal.
    code: int = 0
    #: The namespaces that `join` stands for.
    joined: frozenset[str] = frozenset()
    #: Why it cannot be joined: the step and the errno.
    unjoinable: tuple[str, int] | None = None


@dataclasses.dataclass
class Invalid:
    """Refused before anything is cloned."""

    why: str


@dataclasses.dataclass
class Refused:
    """The kernel refuses one of these steps."""

    steps: tuple[tuple[str, int], ...]


@dataclasses.dataclass
class Accepted:
    """The program runs and sees this."""

    returncode: int
    seen: dict[str, Any]


def predict(world: World, request: Request) -> Invalid | Refused | Accepted:
    try:
        kinds = parse_flags(request.flags)
        check(kinds, request.argv, request.options)
        if "pid" in kinds and "pid" in request.joined:
            # pid_namespaces(7): a process gets its first child's namespace once; two would be one too many.
            raise BadError("join enters a pid namespace that a new one cannot be made in")
        me = Identity(world, kinds, request.joined)
        me.choose_maps(request.options)
        return Accepted(*_steps(world, request, kinds, me))
    except BadError as bad:
        return Invalid(str(bad))
    except StopError as stop:
        return Refused(stop.steps)


def _steps(world: World, request: Request, kinds: set[str], me: Identity) -> tuple[int, dict[str, Any]]:
    """Return how the program ends and what it sees, or raise what the first step is that the kernel refuses."""
    options, joined = request.options, request.joined
    may_clone = world.privileged or not kinds or "user" in kinds | joined
    if request.unjoinable:
        stop = StopError(request.unjoinable[1], request.unjoinable[0])
        if not may_clone:
            stop.steps += (("clone", errno.EPERM),)
        raise stop
    if joined and not world.privileged and "user" not in joined:
        raise StopError(errno.EPERM, "setns", "clone")
    if not may_clone:
        # clone(2): "EPERM: CLONE_NEW* was specified by an unprivileged process", all but CLONE_NEWUSER.
        raise StopError(errno.EPERM, "clone")
    seen: dict[str, Any] = {"namespaces": {kind: _place(kind, kinds, joined) for kind in KINDS}}
    me.write_maps(options)
    seen |= _clocks(world, kinds, joined, options)
    seen |= _mounts(world, kinds, joined, options)
    seen["lo"] = (
        1
        if options.get("loopback")
        else (0 if "net" in kinds else (world.joinable if "net" in joined else world.plain)["lo"])
    )
    inherited = world.joinable if "uts" in joined else world.plain
    for name in ("hostname", "domainname"):
        value = options.get(name)
        seen[name] = inherited[name] if value is None else os.fsencode(value).decode("latin-1")
    seen |= _streams(world, options)
    seen |= _directory(world, joined, options)
    umask = options.get("umask", -1)
    seen["umask"] = umask & 0o777 if umask >= 0 else world.plain.umask
    seen |= _signals(world, options)
    seen |= _groups_of_processes(kinds, options)
    me.change(options)
    seen |= me.seen()
    _pass_fds(world, options)
    seen |= _program(world, request)
    if not is_given(options, "kill_child"):
        seen["death signal"] = 0
    numbers = {"pid": 2 if options.get("init") else 1} if "pid" in kinds else {}
    first = numbers.get("pid") == 1
    # pid_namespaces(7): of its own namespace, "only signals for which the init process has established a signal handler
    # can be sent to the init process"; the program then goes on to its end.
    return (99 if first and request.code < 0 else request.code), seen | numbers


def _place(kind: str, kinds: set[str], joined: frozenset[str]) -> str:
    return "new" if kind in kinds else "joined" if kind in joined else "own"


def _clocks(world: World, kinds: set[str], joined: frozenset[str], options: dict[str, Any]) -> dict[str, Any]:
    """time_namespaces(7): offsets are against the initial namespace; a new one starts with those it is made in."""
    offsets = dict((world.joinable if "time" in joined else world.plain).offsets)
    for clock in ("monotonic", "boottime"):
        if is_given(options, clock):
            offsets[clock] = nanoseconds(options[clock])
    return {"offsets": offsets}


def nanoseconds(offset: Any) -> tuple[int, int]:
    """Return seconds, rounded down, and nanoseconds."""
    if hasattr(offset, "total_seconds"):
        micros: int = (offset.days * 86400 + offset.seconds) * 10**6 + offset.microseconds
        return divmod(micros * 1000, 10**9)
    whole = math.floor(offset)
    seconds, rest = divmod(round((offset - whole) * 10**9), 10**9)
    return whole + seconds, rest


def _mounts(world: World, kinds: set[str], joined: frozenset[str], options: dict[str, Any]) -> dict[str, Any]:
    mounts = (world.joinable if "mnt" in joined else world.plain).mounts
    if "mnt" not in kinds:
        return {"mounts": mounts}
    owner = "holder" if "mnt" in joined else "caller"
    maker = "new" if "user" in kinds else "holder" if "user" in joined else "caller"
    found = []
    for place, kind, shared, slave in mounts:
        if shared and owner != maker:
            # "If the new namespace and the namespace from which it was copied are owned by different user namespaces,
            # then the new one is less privileged": "shared mounts are reduced to slave mounts".
            shared, slave = False, True
        match options.get("propagation") or "private":
            case "private":
                shared = slave = False
            case "slave":
                # Its peer is the mount that it was copied from.
                shared, slave = False, shared or slave
            case "shared":
                shared = True
        found.append((place, kind, shared, slave))
    if is_given(options, "mount_proc"):
        place = b"/proc" if options["mount_proc"] is True else os.fsencode(options["mount_proc"])
        _check_directory(world, place, "mount_proc", "propagation")
        # unshare(1): "explicitly mounted as private", with all that is mounted there already; but where nothing is, it
        # is like the mount below.
        below = max((mount for mount in found if _is_below(place, mount[0])), key=lambda mount: len(mount[0]))
        there = [index for index, mount in enumerate(found) if mount[0] == place]
        found = [
            # What is mounted over at the very place is no part of that tree.
            (at, kind, False, False) if there and _is_below(at, place) and index not in there[:-1] else (at, kind, s, m)
            for index, (at, kind, s, m) in enumerate(found)
        ]
        found.append((place, b"proc", not there and below[2], False))
    return {"mounts": sorted(found)}


def _is_below(place: bytes, mount: bytes) -> bool:
    return place == mount or place.startswith(mount.rstrip(b"/") + b"/")


def _check_directory(world: World, place: bytes, *steps: str) -> None:
    if place.startswith(f"{PLACE}/closed/".encode()) and world.uid != 0:
        raise StopError(errno.EACCES, *steps)
    if not os.path.lexists(place):
        raise StopError(errno.ENOENT, *steps)
    if not os.path.isdir(place):
        raise StopError(errno.ENOTDIR, *steps)


def _directory(world: World, joined: frozenset[str], options: dict[str, Any]) -> dict[str, Any]:
    cwd = options.get("cwd")
    if cwd is None:
        # setns(2): joining a mount namespace sets "the root directory and the current working directory" to its root.
        return {"cwd": "/" if "mnt" in joined else world.plain["cwd"]}
    place = os.fsencode(cwd)
    if place.startswith(f"{PLACE}/closed".encode()) and world.uid != 0:
        raise StopError(errno.EACCES, "chdir")
    _check_directory(world, place, "chdir")
    return {"cwd": os.path.realpath(place).decode("latin-1")}


def _streams(world: World, options: dict[str, Any]) -> dict[str, Any]:
    """As in `subprocess`."""
    inode = {fd: os.fstat(fd).st_ino for fd in world.files}
    found: dict[str, Any] = {}
    for name in ("stdin", "stdout", "stderr"):
        stream = options.get(name)
        if stream is None:
            # So are those of the laboratory.
            found[name] = ["null", None]
        elif stream == subprocess.PIPE:
            found[name] = ["pipe", None]
        elif stream == subprocess.DEVNULL:
            found[name] = ["null", None]
        elif stream == subprocess.STDOUT:
            found[name] = found["stdout"]
        else:
            number = stream if isinstance(stream, int) else stream.fileno()
            if number not in inode:
                raise StopError(errno.EBADF, "stdio")
            found[name] = ["file", inode[number]]
    return found


def _signals(world: World, options: dict[str, Any]) -> dict[str, Any]:
    """Python ignores SIGPIPE and SIGXFSZ, and "restore_signals" sets them back to their default."""
    python = 1 << 12 | 1 << 24
    ignored = world.plain.ignored & ~python
    return {"ignored": ignored if options.get("restore_signals", True) else ignored | python}


def _groups_of_processes(kinds: set[str], options: dict[str, Any]) -> dict[str, Any]:
    session, group = bool(options.get("start_new_session")), options.get("process_group")
    group = None if group is None or group < 0 else group
    if group is not None and session:
        # setpgid(2): "EPERM: ... to change the process group ID of a session leader".
        raise StopError(errno.EPERM, "setpgid")
    if group:
        # "... to move a process into a process group in a different session": here one that does not exist.
        raise StopError(errno.EPERM, "setpgid")
    return {"leads session": int(session), "leads group": int(session or group == 0)}


def _pass_fds(world: World, options: dict[str, Any]) -> None:
    for fd in options.get("pass_fds", ()):
        if fd not in (0, 1, 2, *world.files):
            raise StopError(errno.EBADF, "pass_fds")


def _program(world: World, request: Request) -> dict[str, Any]:
    options, argv = request.options, request.argv
    words = [argv] if isinstance(argv, (str, bytes, os.PathLike)) else list(argv)
    env = options.get("env")
    variables = {os.fsencode(name) + b"=" + os.fsencode(value) for name, value in (env or {}).items()}
    environment = world.plain.environment if env is None else variables
    if options.get("shell"):
        return {"fds": _fds(world, options)}
    program = os.fsencode(options.get("executable") or words[0])
    if b"/" not in program:
        path = dict(line.split(b"=", 1) for line in environment).get(b"PATH", b"/bin:/usr/bin").split(b":")
        found = [place for place in path if os.path.exists(os.path.join(place, program))]
        if not found:
            raise StopError(errno.ENOENT, "execve")
    elif program != PROGRAM.encode():
        raise StopError(_REFUSED_PROGRAMS[program.decode()], "execve")
    return {
        "argv": [os.fsencode(word).decode("latin-1") for word in words],
        "environment": environment,
        "fds": _fds(world, options),
    }


# What lies in the laboratory, and what execve(2) says of it.
_REFUSED_PROGRAMS = {
    f"{PLACE}/missing": errno.ENOENT,
    f"{PLACE}/file": errno.EACCES,
    PLACE: errno.EACCES,
    f"{PLACE}/file/x": errno.ENOTDIR,
    f"{PLACE}/script": errno.ENOEXEC,
}


def _fds(world: World, options: dict[str, Any]) -> list[int]:
    """Return the descriptors above 2 that the program has."""
    passed = {fd for fd in options.get("pass_fds", ()) if fd > 2}
    # subprocess: "Providing any pass_fds forces close_fds to be True."
    inherits = not options.get("close_fds", True) and not options.get("pass_fds")
    return sorted(passed | ({world.files[-1]} if inherits else set()))
