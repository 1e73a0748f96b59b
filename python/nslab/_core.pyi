"""The Rust half of nslab."""

from typing import Any, final

__all__ = [
    "Child",
    "Plan",
    "Target",
    "capabilities",
    "clocks",
    "id_maps",
    "lsns",
    "mounts",
    "namespaces",
    "open_namespace",
    "plan",
    "processes",
    "relations",
    "spawn",
    "table",
]

@final
class Plan:
    """A checked request, see `nslab.Plan`."""

    @property
    def flags(self) -> int:
        """The ``CLONE_NEW*`` bits."""
    @property
    def steps(self) -> list[tuple[str, str, str]]:
        """``(name, detail, side)`` of each step, in the order of execution."""
    def unshare_command(self) -> str:
        """The same experiment as an unshare(1) line."""
    def c_source(self) -> str:
        """The same experiment as a C program."""
    def spawn(self, stdin: int, stdout: int, stderr: int) -> Child:
        """Runs it with these descriptors as 0, 1 and 2; -1 leaves the caller's own. Raises `nslab.SpawnError`."""

@final
class Child:
    """A child that executes its program. Dropped unclaimed (an exception came between), it is killed and reaped."""

    @property
    def pid(self) -> int:
        """The pid in the caller's pid namespace."""
    @property
    def pidfd(self) -> int:
        """The pidfd, open as long as this object."""
    @property
    def plan(self) -> Plan:
        """What was run."""
    @property
    def timeline(self) -> list[tuple[str, int, int]]:
        """``(name, start, duration)`` of each step in nanoseconds of ``CLOCK_MONOTONIC``."""
    @property
    def namespaces(self) -> list[tuple[str, int, int, int | None]]:
        """``(type, device, inode, id)`` of each namespace of the program."""
    @property
    def rusage(self) -> tuple[Any, ...] | None:
        """The 16 numbers of `resource.struct_rusage`, once it has been reaped."""
    def claim(self) -> int:
        """From now on the caller looks after it; returns the pid."""
    def poll(self) -> int | None:
        """The return code if it has ended, else None."""
    def wait(self, timeout: float | None = None) -> int | None:
        """Sleeps until it ends; None when the timeout (in seconds) is over first."""
    def send_signal(self, signal: int) -> None:
        """Sends a signal to this process and no other."""
    def end(self) -> None:
        """SIGKILL, and reaps it."""

@final
class Target:
    """A process, and never another one with the same pid; see `nslab._inspect.target`."""

    def __new__(cls, pid: int | None = None, pidfd: int | None = None) -> Target: ...
    @property
    def pid(self) -> int:
        """The pid in the caller's pid namespace."""
    def close(self) -> None:
        """Gives the descriptor back; from then on nothing can be read."""
    def runs(self) -> bool:
        """Whether it still runs: neither reaped nor a zombie."""
    def read(self, name: str) -> bytes:
        """The contents of one of its files in `/proc`."""
    def namespaces(self) -> list[tuple[str, int, int, int | None]]:
        """``(type, device, inode, id)`` of each of its namespaces."""
    def namespace(self, name: str) -> tuple[str, int, int, int | None] | None:
        """``(type, device, inode, id)`` of one; None where this kernel has no such type or it may not be looked at."""

def plan(
    flags: int,
    argv: list[Any],
    executable: Any,
    options: dict[str, Any],
    cwd: Any,
    env: Any,
    close_fds: Any,
    pass_fds: Any,
    restore_signals: Any,
    start_new_session: Any,
    process_group: int,
    umask: int,
    uid: int | None,
    gid: int | None,
    gids: list[int] | None,
    /,
) -> Plan:
    """Checks and orders a request; see `nslab.plan`."""

def spawn(flags: int, argv: list[Any], executable: Any, options: dict[str, Any], /) -> Child:
    """`plan` and `Plan.spawn` in one, for a program that gets nothing but namespaces."""

def namespaces(pid: int | None = None) -> list[tuple[str, int, int, int | None]]:
    """``(type, device, inode, id)`` of each namespace of a process, or of what a child of this thread would get."""

def open_namespace(bits: int, device: int, inode: int, id: int | None, pid: int | None) -> int:
    """Opens a namespace by its numbers, or through this process if it is still in it; returns the descriptor."""

def relations(
    bits: int, device: int, inode: int, id: int | None, pid: int | None
) -> tuple[tuple[str, int, int, int | None] | None, tuple[str, int, int, int | None] | None, int | None]:
    """``(parent, owner, owner's uid)`` of a namespace; each is None where the kernel does not show it."""

def lsns(bits: int, progress: Any | None) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Every namespace of these types, and the processes that may not be looked into; see `nslab.lsns`."""

def processes(target: Target | None) -> tuple[list[tuple[Any, ...]], list[int]]:
    """All processes, or the target and its descendants, in no order; and those of which nothing can be read."""

def mounts(target: Target) -> list[tuple[Any, ...]]:
    """The lines of its mountinfo."""

def id_maps(target: Target) -> tuple[list[list[int]], list[list[int]], bool | None]:
    """Inside, outside, count of each range of users and of groups; whether setgroups(2) is allowed."""

def capabilities(target: Target) -> tuple[list[int], int, bool]:
    """Effective, permitted, inheritable, bounding, ambient, as bits; how many there are; whether no new are given."""

def clocks(target: Target) -> tuple[tuple[int, int], tuple[int, int], int]:
    """The offsets of the monotonic and the boot clock, what they show, and the wall clock, in nanoseconds."""

def table() -> list[tuple[str, int, str, str, str, str, str]]:
    """Name, bit, C name, switch of unshare(1), manual page, first kernel and meaning of each type of namespace."""
