"""The Rust half of nslab."""

from collections.abc import Callable
from typing import Any, Self, final

from typing_extensions import disjoint_base

__all__ = [
    "Child",
    "Fd",
    "Handshake",
    "Held",
    "KnownNamespaces",
    "Leaving",
    "Plan",
    "Target",
    "bind",
    "capabilities",
    "cgroup",
    "clocks",
    "collapse_memory",
    "descriptors",
    "enter",
    "hold",
    "hostname",
    "id_maps",
    "ipc",
    "keep_namespaces",
    "lsns",
    "make_private",
    "mount_id",
    "mounts",
    "namespaces",
    "network",
    "open_namespace",
    "plan",
    "processes",
    "relations",
    "setns",
    "start_keeper",
    "table",
    "unmount",
    "unshare_fs",
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

@disjoint_base
class Child:
    """The class that `nslab.Process` stands on: a child that executes its program, once it has been started."""

    def __new__(cls, *_args: Any, **_options: Any) -> Self: ...
    def _start(
        self,
        flags: Any,
        argv: Any,
        options: dict[str, Any],
        bits: int | None = None,
        own: dict[str, Any] | None = None,
        /,
    ) -> bool:
        """Starts a program that gets nothing but namespaces; False, and nothing done, if the call asks for more."""
    def _run(self, plan: Plan, stdin: int, stdout: int, stderr: int) -> None:
        """Runs a plan with these descriptors as 0, 1 and 2; -1 leaves the caller's own."""
    @property
    def _child_created(self) -> bool:
        """Whether there is, or was, a process."""
    def __del__(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int:
        """Waits for the child to end and returns the return code; see `subprocess.Popen.wait`."""
    def _sleep(self, timeout: float | None = None, /) -> int | None:
        """The return code once it has ended; None when the timeout (in seconds) is over first."""
    def _look(self) -> int | None:
        """The return code if it has ended, else None."""
    def _signal(self, signal: int) -> None:
        """Sends a signal to this process and no other."""
    def _kill_and_reap(self) -> None:
        """SIGKILL, and reaps it."""
    @property
    def pidfd(self) -> int:
        """The open pidfd, see pidfd_open(2); closed with the object."""
    def fileno(self) -> int:
        """The pidfd: readable once the process has ended."""
    def _made_plan(self) -> Plan:
        """What was run."""
    def _step_times(self) -> list[tuple[str, int, int]]:
        """``(name, start, duration)`` of each step in nanoseconds of ``CLOCK_MONOTONIC``."""
    def _namespaces(self) -> list[tuple[str, int, int, int | None]]:
        """``(type, device, inode, id)`` of each namespace of the program."""
    def _usage(self) -> tuple[Any, ...] | None:
        """The 16 numbers of `resource.struct_rusage`, once it has been reaped."""

@final
class Fd:
    """A descriptor that is closed with its last reference, whatever exception comes."""

    def __new__(cls, open: Callable[..., int], /, *args: Any, **options: Any) -> Self:
        """Calls ``open`` with the rest, and takes over the descriptor that it returns."""
    @staticmethod
    def pair(open: Callable[[], tuple[int, int]]) -> tuple[Fd, Fd]:
        """The same for a function that returns two, such as `os.pipe`."""
    def fileno(self) -> int:
        """The number."""
    def close(self) -> None:
        """Closes it now: an exception may keep this object for long."""
    def __enter__(self) -> int:
        """The number."""
    def __exit__(self, *_error: object) -> None: ...

@final
class Handshake:
    """Memory shared with a fork: who holds the namespaces, and who goes on for the fork."""

    def __new__(cls) -> Handshake: ...
    def let_in(self, holder: int) -> None:
        """Lets the fork enter the namespaces of this process."""
    @property
    def successor(self) -> int:
        """The pid of the process that goes on for the fork, or 0."""

@final
class Held:
    """Namespaces that nothing but these descriptors keeps: closed with the object, whatever exception comes."""

    def _to_join(self) -> list[tuple[int, int]]:
        """Return the descriptor and the bit of each, for `join`."""

    def close(self) -> None:
        """Forget them now: an exception may keep this object for long."""

@final
class KnownNamespaces:
    """The namespaces of a process that stay what they are, for `join`."""

    def __new__(cls, pid: int) -> Self: ...

class Leaving:
    """A context manager whose `_leave` is called again where an exception of a signal handler came out of it."""

    def __new__(cls, *_args: Any, **_options: Any) -> Self: ...
    def __exit__(self, *_error: object) -> None: ...

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

def setns(fd: int, bits: int) -> None:
    """Moves the calling thread into namespaces."""

def start_keeper() -> None:
    """Starts the thread that clones for ``kill_child``, unless it runs."""

def unshare_fs() -> None:
    """Gives the calling thread a root, a directory and a umask of its own, see unshare(2)."""

def bind(source: Any, target: Any, name: Any) -> None:
    """Makes a file or directory appear at another place, which an error calls by this name, see mount(2)."""

def mount_id(fd: int) -> int:
    """Which mount an open file is on, as in mountinfo; see statx(2)."""

def make_private(path: Any) -> None:
    """Keeps what is mounted below this mount from reaching other namespaces, see mount_namespaces(7)."""

def unmount(path: Any) -> None:
    """Takes a mount away, once nobody uses it any more, see umount(2)."""

def keep_namespaces(on: bool) -> None:
    """Whether each child, from now on, leaves descriptors of its new namespaces, with the bit of each, in `_kept`."""

def hold(bits: int, options: dict[str, Any]) -> Held:
    """Makes namespaces and returns a descriptor and the bit of each; raises `nslab.SpawnError`."""

_Id = tuple[str, int, int, int | None]
_Object = tuple[int, int, int, int, int, list[int]]
_Queue = tuple[str, int, int, int, int | None]

def network(namespace: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[int, _Id, int | None]]]:
    """``(links, routes, peers)`` of an open network namespace: dicts, and ``(number, namespace, pid of one in it)``."""

def ipc(
    namespace: int,
) -> tuple[
    tuple[list[_Object], int | None],
    tuple[list[_Object], int | None],
    tuple[list[_Object], int | None],
    tuple[list[_Queue], int | None],
]:
    """Message queues, semaphore sets, shared memory and POSIX queues of an open IPC namespace, or an errno each."""

def cgroup(target: Target) -> tuple[list[tuple[int, list[str], str, str | None]], int | None]:
    """``(hierarchy, controllers, outside, inside)`` of each of a process's control groups; why the insides are None."""

def hostname(namespace: int) -> tuple[str, str]:
    """The host name and the NIS domain name of an open UTS namespace."""

def enter(plan: Plan, parent: int, handshake: Handshake) -> None:
    """Waits to be let in, and takes this process, a fork, into the holder's namespaces and a new pid namespace.

    There it goes on as another process; it ends with the process behind the pidfd `parent`.
    """

def descriptors() -> list[int]:
    """The descriptors of this process."""

def collapse_memory() -> int:
    """Puts the memory of this process into huge pages, which makes forks of it cheaper; returns how many there are."""
