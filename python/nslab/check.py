r"""Assertions about processes in namespaces, in sentences: for exercises, graders and tests.

Each check prints a line to standard output when it holds, and raises an `AssertionError` that says what was expected,
what was found and what helps. Nothing is written to standard error: graders as nbgrader take points off for it.

A process is a `nslab.Process`, what `nslab.shell` returns, a pid, or the process of a ``%%ns`` cell, which can be
checked when it has ended too; of a submission to grade (`nslab grade`) it is what was seen of it.

>>> with nslab.spawn("user uts", ["cat"], map_root_user=True, hostname="lab", stdin=nslab.PIPE) as process:
...     nslab.check.isolated(process, "uts")
...     nslab.check.hostname(process, "lab")
✓ pid ... is in a uts namespace of its own
✓ the host name of pid ... is 'lab'
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import nslab

from ._namespace import names, parse_flags

if TYPE_CHECKING:
    from ._inspect.mounts import Mount, Mounts
    from ._inspect.network import Link

__all__ = [
    "CheckError",
    "attempt",
    "clock_offset",
    "exited",
    "gid_map",
    "hostname",
    "is_pid1",
    "isolated",
    "link_down",
    "link_up",
    "mounted",
    "no_mount_leak",
    "propagation",
    "shares",
    "uid_map",
]

_OWN = "a {} namespace of its own"


class CheckError(AssertionError):
    """A check that does not hold; a notebook shows its text without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


def isolated(process: Any, *types: str, other: Any = None) -> None:
    """Expect the process in namespaces of its own, of these types (``"uts"``, ``"mnt"``, …), not the caller's.

    ``other`` is another process whose namespaces it must not share, in place of the caller.

    >>> with nslab.spawn("uts", ["true"]) as process:
    ...     nslab.check.isolated(process, "uts")
    ✓ pid ... is in a uts namespace of its own
    """
    __tracebackhide__ = True
    host = _host(process, "namespaces") if other is None else _namespaces(other)
    for kind in _kinds(types):
        theirs, ours = _namespaces(process).get(kind), host.get(kind)
        if theirs is None:
            _fail(f"it cannot be told which {kind} namespace {_name(process)} is in", "check it while it runs")
        if theirs == ours:
            whose = "the host's" if other is None else f"that of {_name(other)}"
            _fail(
                f"expected {_name(process)} in {_OWN.format(kind)}, but it is in {whose} ({theirs})",
                f'add "{kind}" to the flags',
            )
        _holds(f"{_name(process)} is in {_OWN.format(kind)}")


def shares(process: Any, *types: str) -> None:
    """Expect the process in the caller's namespaces of these types.

    >>> with nslab.spawn("uts", ["true"]) as process:
    ...     nslab.check.shares(process, "net")
    ✓ pid ... shares the host's net namespace
    """
    __tracebackhide__ = True
    for kind in _kinds(types):
        theirs = _namespaces(process).get(kind)
        if theirs is None or theirs != _host(process, "namespaces").get(kind):
            _fail(
                f"expected {_name(process)} in the host's {kind} namespace, but it is in another ({theirs})",
                f'leave "{kind}" out of the flags',
            )
        _holds(f"{_name(process)} shares the host's {kind} namespace")


def is_pid1(process: Any) -> None:
    """Expect the process to be PID 1, the init, of a pid namespace below the caller's; see pid_namespaces(7).

    >>> with nslab.spawn("pid", ["cat"], stdin=nslab.PIPE) as process:
    ...     nslab.check.is_pid1(process)
    ✓ pid ... is PID 1 of its pid namespace
    """
    __tracebackhide__ = True
    pids = _pids(process)
    if len(pids) == 1:
        _fail(
            f"expected {_name(process)} to be PID 1 of a pid namespace, but it is in the host's, where it is "
            f"{pids[0]} for everybody",
            'add "pid" to the flags',
        )
    if pids[-1] != 1:
        _fail(
            f"expected {_name(process)} to be PID 1 of its pid namespace, but there it is {pids[-1]}",
            "PID 1 is the first process: the one that was cloned with the flag, not its children",
        )
    _holds(f"{_name(process)} is PID 1 of its pid namespace")


def hostname(process: Any, name: str) -> None:
    """Expect the process to see this host name.

    Raises `ProcessLookupError` when its uts namespace is gone, as those below do.
    """
    __tracebackhide__ = True
    found = _ask(process, "hostname")
    if found != name:
        hint = f'hostname="{name}" (with "uts" in the flags), or `hostname {name}` as root in the child'
        _fail(f"expected the host name {name!r} for {_name(process)}, but it is {found!r}", hint)
    _holds(f"the host name of {_name(process)} is {name!r}")


def no_mount_leak(before: Mounts, after: Mounts | None = None) -> None:
    """Expect a mount namespace to have no mount now that it did not have before.

    ``before`` is what `nslab.mounts` returned earlier; ``after``, if not given, is asked now of the same process.

    >>> before = nslab.mounts()
    >>> nslab.run("user mnt", ["mount", "-t", "tmpfs", "none", "/mnt"], map_root_user=True).returncode
    0
    >>> nslab.check.no_mount_leak(before)
    ✓ no mount has leaked
    """
    __tracebackhide__ = True
    added = before.diff(nslab.mounts(before.pid) if after is None else after).added
    if added:
        leaked = ", ".join(f"{mount.target} ({mount.fstype})" for mount in added)
        _fail(
            f"expected no new mount, but there {'is' if len(added) == 1 else 'are'} {leaked}",
            'a mount in the child crosses to the peers of its mount point: propagation="private" cuts them off; '
            f"`umount {added[-1].target}` repairs the damage",
        )
    _holds("no mount has leaked")


def mounted(process: Any, target: str, fstype: str | None = None) -> None:
    """Expect a mount on ``target``, of this type if it is given, in the process's mount namespace."""
    __tracebackhide__ = True
    mount = _mount(process, target)
    if fstype is not None and mount.fstype != fstype:
        _fail(
            f"expected a {fstype} on {target} for {_name(process)}, but it is a {mount.fstype}",
            f"`mount -t {fstype} none {target}` in the child",
        )
    _holds(f"{_name(process)} has a {mount.fstype} on {target}")


def propagation(process: Any, expected: str, target: str = "/") -> None:
    """Expect this propagation of a mount: ``"private"``, ``"shared"``, ``"slave"`` or ``"shared,slave"``.

    See mount_namespaces(7).
    """
    __tracebackhide__ = True
    found = _mount(process, target).propagation
    if found != expected:
        _fail(
            f"expected {target} to be {expected} for {_name(process)}, but it is {found}",
            f'propagation="{expected}"',
        )
    _holds(f"{target} is {expected} for {_name(process)}")


def uid_map(process: Any, expected: Iterable[tuple[int, int, int]]) -> None:
    """Expect these lines ``(inside, outside, count)`` in the process's uid_map, see user_namespaces(7)."""
    __tracebackhide__ = True
    _map(process, "uid", expected)


def gid_map(process: Any, expected: Iterable[tuple[int, int, int]]) -> None:
    """Expect these lines ``(inside, outside, count)`` in the process's gid_map."""
    __tracebackhide__ = True
    _map(process, "gid", expected)


def link_up(process: Any, name: str = "lo") -> None:
    """Expect a network device of this name in the process's network namespace, and that it is up."""
    __tracebackhide__ = True
    if not _link(process, name).up:
        _fail(
            f"expected {name} to be up for {_name(process)}, but it is down",
            "loopback=True" if name == "lo" else f"`ip link set {name} up` in the child",
        )
    _holds(f"{name} is up for {_name(process)}")


def link_down(process: Any, name: str = "lo") -> None:
    """Expect a network device of this name in the process's network namespace, and that it is down."""
    __tracebackhide__ = True
    if _link(process, name).up:
        _fail(f"expected {name} to be down for {_name(process)}, but it is up", 'is "net" in the flags?')
    _holds(f"{name} is down for {_name(process)}")


def clock_offset(process: Any, *, monotonic: float | None = None, boottime: float | None = None) -> None:
    """Expect these offsets, in seconds, between the process's clocks and the caller's; see time_namespaces(7)."""
    __tracebackhide__ = True
    theirs, ours = _ask(process, "clocks"), _host(process, "clocks")
    for clock, expected in (("monotonic", monotonic), ("boottime", boottime)):
        if expected is None:
            continue
        found = (getattr(theirs, f"{clock}_offset") - getattr(ours, f"{clock}_offset")) / 1e9
        if found != expected:
            _fail(
                f"expected the {clock} clock of {_name(process)} {expected:+} s from the host's, but it is {found:+} s",
                f'{clock}={expected} (with "time" in the flags)',
            )
        _holds(f"the {clock} clock of {_name(process)} is {expected:+} s from the host's")


@contextmanager
def attempt(*, strict: bool = False) -> Iterator[None]:
    """Run the checks of an exercise: what does not hold yet is printed, and stops them without an error.

    With ``strict``, or with ``NSLAB_STRICT=1`` in the environment as a grader sets it, it is an error.

    >>> with nslab.check.attempt():
    ...     nslab.check.isolated(os.getpid(), "uts")
    not yet: expected pid ... in a uts namespace of its own, but it is in the host's (uts:[...]). Hint: ...
    """
    __tracebackhide__ = True
    try:
        yield
    except (AssertionError, NameError, ProcessLookupError) as error:
        if strict or os.environ.get("NSLAB_STRICT") == "1":
            raise
        print(f"not yet: {error}")


def exited(process: Any, status: int = 0) -> None:
    """Expect the process to have ended with this return code; it is not waited for."""
    __tracebackhide__ = True
    found = process.poll()
    if found is None:
        _fail(f"expected {_name(process)} to have ended, but it still runs", "wait() for it")
    if found != status:
        last = getattr(process, "last_line", "")
        hint = f"it wrote {last!r} last" if last else "look at its output"
        _fail(f"expected {_name(process)} to end with {status}, but it ended with {found}", hint)
    _holds(f"{_name(process)} ended with {status}")


# ------------------------------------------------------------------------------------------------------ the questions


def _kinds(types: Iterable[str]) -> list[str]:
    found = [kind for name in types for kind in names(parse_flags(name))]
    if not found:
        raise ValueError('name at least one type of namespace: "uts", "mnt", …')
    return found


def _name(process: Any) -> str:
    return getattr(process, "called", None) or f"pid {getattr(process, 'pid', process)}"


def _ask(process: Any, question: str) -> Any:
    """Ask a function of `nslab`, or what was seen of the process."""
    if hasattr(process, "recall"):
        return process.recall(question)
    with _living(process) as looked_at:
        return nslab.snapshot(looked_at).hostname if question == "hostname" else getattr(nslab, question)(looked_at)


def _host(process: Any, question: str) -> Any:
    """Ask the same of the caller; or of the machine that the process was seen on."""
    if hasattr(process, "recall"):
        return getattr(process.host, question)
    return nslab.namespaces(os.getpid()) if question == "namespaces" else getattr(nslab, question)()


def _namespaces(process: Any) -> Any:
    if hasattr(process, "namespaces"):
        return process.namespaces
    try:
        return nslab.namespaces(getattr(process, "pid", process))
    except FileNotFoundError as error:
        raise ProcessLookupError(errno.ESRCH, error.strerror) from None


def _pids(process: Any) -> tuple[int, ...]:
    """Return its pid on every level, from the caller's to its own."""
    if hasattr(process, "recall"):
        return tuple(process.recall("pids"))
    held = getattr(process, "held", None)
    if held is not None:
        return tuple(held.pids)
    return nslab.processes(process).roots[0].pids


@contextmanager
def _living(process: Any) -> Iterator[Any]:
    """Give what can be looked at; the process of a cell has its namespaces kept."""
    held = getattr(process, "held", None)
    if held is None:
        yield process
    else:
        with held.looker() as pid:
            yield pid


def _map(process: Any, kind: str, expected: Iterable[tuple[int, int, int]]) -> None:
    __tracebackhide__ = True
    wanted = [tuple(line) for line in expected]
    maps = _ask(process, "id_maps")
    lines = maps.users if kind == "uid" else maps.groups
    found = [(line.inside, line.outside, line.count) for line in lines]
    if found != wanted:
        _fail(
            f"expected the {kind}_map {_lines(wanted)} for {_name(process)}, but it is {_lines(found)}",
            f'(inside, outside, count); map_root_user=True makes (0, your {kind}, 1), with "user" in the flags',
        )
    _holds(f"the {kind}_map of {_name(process)} is {_lines(wanted)}")


def _lines(lines: Iterable[tuple[int, ...]]) -> str:
    return ", ".join(map(str, lines)) or "empty"


def _link(process: Any, name: str) -> Link:
    __tracebackhide__ = True
    links: dict[str, Link] = {link.name: link for link in _ask(process, "network").links}
    if name not in links:
        _fail(f"expected a device {name} for {_name(process)}, but it has {', '.join(links) or 'none'}", "`ip link`")
    return links[name]


def _mount(process: Any, target: str) -> Mount:
    __tracebackhide__ = True
    found: list[Mount] = [mount for mount in _ask(process, "mounts") if mount.target == target]
    if not found:
        _fail(f"expected a mount on {target} for {_name(process)}, but there is none", "`findmnt` in the child")
    return found[-1]  # the one on top


def _holds(sentence: str) -> None:
    print(f"✓ {sentence}")


def _fail(sentence: str, hint: str) -> NoReturn:
    __tracebackhide__ = True
    raise CheckError(f"{sentence}. Hint: {hint}.")
