"""`Host`: namespaces kept alive by a tiny init, to run programs in and to enter."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import subprocess
import warnings
import weakref

from . import _core, _spawn, _warden
from ._errors import SpawnError, from_core, from_os
from ._keeper import Found, Init, has_ended, keep
from ._namespace import names, parse_flags
from ._process import OPTIONS, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Self, TypeVar

    from ._enter import Entered
    from ._inspect.ids import NamespaceId
    from ._namespace import Flags
    from ._spawn import Argv, Path

    T = TypeVar("T")

# What belongs to a program, and not to the namespaces.
_OF_PROGRAMS = {"kill_child", "init"}
# Seconds after which `close` no longer waits for those whose parents do not reap them.
_PATIENCE = 1.0


class Host:
    r"""Namespaces that stay alive until `close`, or until this *process* ends, however it ends.

    ``flags`` and ``options`` are those of `nslab.spawn`, without what belongs to a program (``cwd``, ``env``, …): that
    goes to `spawn` and `run`. ``name`` (letters, digits, ``_.-``) lets other processes of this user find the host, see
    `hosts`; ``persist`` is a directory to which the namespaces are bound, see `nslab.persist`.

    An init of a few KiB keeps them: PID 1 where there is a new pid namespace. When the host ends, so does every process
    in it. A host is a context manager, and anything that ``join`` takes.

    Raises what `nslab.spawn` raises, and `FileExistsError` when the name is taken.

    >>> with nslab.Host("user uts net", map_root_user=True, hostname="web") as host:
    ...     host.run(["uname", "-n"], capture_output=True, text=True).stdout
    'web\n'
    """

    #: The name, or None.
    name: str | None
    #: The pid of the init.
    pid: int
    _keeper: Init | Found

    def __init__(self, flags: Flags, *, name: str | None = None, persist: Path | None = None, **options: Any) -> None:
        unfit = sorted(options.keys() - (OPTIONS.keys() - _OF_PROGRAMS))
        if unfit:
            raise TypeError(f"{unfit[0]} is no option of a host: give it to host.spawn() or host.run()")
        bits = parse_flags(flags)
        if not bits:
            raise ValueError('a host needs at least one namespace of its own (flags such as "net uts")')
        if persist is not None:
            from ._persist import check

            check(names(bits))
        self._begin(name, names(bits))
        made = keep(bits, name, self._kinds, options)
        # With what `close` needs, should an interrupt come next.
        self.pid, self._keeper = made.pid, made
        made._known = True
        try:
            self._look()
            if persist is not None:
                self._persist(persist)
        except BaseException:
            # Nobody is in it yet; and whoever kept the exception would keep the host.
            self._closed = True
            made._end()
            raise

    def _begin(self, name: str | None, kinds: list[str]) -> None:
        self.name, self._kinds = name, kinds
        self._owner, self._closed = os.getpid(), False
        self._started: weakref.WeakSet[Process] = weakref.WeakSet()
        _open.add(self)

    def _look(self) -> None:
        from ._inspect.ids import current

        self.pid = self._keeper.pid
        try:
            here, self._known = current(), _core.KnownNamespaces(self.pid)
            # What a program of the host has to enter: also what the host itself has joined.
            self._bits = parse_flags([kind for kind, id in self.namespaces.items() if here.get(kind) != id])
        except OSError as error:
            raise from_os(error, "note_namespaces") from None

    def _persist(self, directory: Path) -> None:
        from ._persist import persist

        try:
            persist(self, directory)
        except (SpawnError, FileExistsError):
            raise
        except OSError as error:
            raise from_os(error, "bind") from None

    @classmethod
    def find(cls, name: str) -> Self:
        r"""Return the host of this name that another process of this user has made.

        It ends with that process; closing what is returned here only forgets it. Raises `ProcessLookupError` when there
        is none, or more than one.

        >>> with nslab.Host("user uts", map_root_user=True, name="demo", hostname="found"):
        ...     nslab.Host.find("demo").run(["uname", "-n"], capture_output=True, text=True).stdout
        'found\n'
        """
        from ._hosts import find

        pid, pidfd, kinds = find(name)
        host = cls.__new__(cls)
        host._begin(name, kinds)
        host.pid, host._keeper = pid, Found(pid, pidfd)
        host._look()
        return host

    # ------------------------------------------------------------------------------------------ running programs

    def spawn(self, argv: Argv, *, flags: Flags = 0, **options: Any) -> Process:
        """Execute a program in the host and return its `Process`; ``options`` are those of `nslab.spawn`.

        ``flags`` are further namespaces, new for this program. Where the host has a mount namespace the program starts
        in its root, as with nsenter(1), unless ``cwd`` says otherwise.

        Raises what `nslab.spawn` raises, and `ProcessLookupError` when the host has ended.

        >>> with nslab.Host("user pid", map_root_user=True) as host:
        ...     host.spawn(["sh", "-c", "exit 3"]).wait()
        3
        """
        options = self._joining(options)
        process = Process.__new__(Process)
        self._started.add(process)
        process._make(argv, (), flags, options)
        # Only now, with no call left in which a signal handler could raise before the caller has it.
        process._known = True
        return process

    def run(self, argv: Argv, *, flags: Flags = 0, **options: Any) -> subprocess.CompletedProcess[Any]:
        r"""Run a program in the host, wait for it; the options and what is returned are those of `nslab.run`.

        Raises what `nslab.run` raises, and `ProcessLookupError` when the host has ended.

        >>> with nslab.Host("user uts", map_root_user=True, hostname="web") as host:
        ...     host.run(["uname", "-n"], capture_output=True, text=True).stdout
        'web\n'
        """
        return _spawn.run(flags, argv, **self._joining(options))

    def call(self, fn: Callable[..., T], /, *args: Any, timeout: float | None = None, **options: Any) -> T:
        """Call ``fn(*args)`` in a fresh Python in the host; return what it returns, raise what it raises.

        ``timeout`` is in seconds; the other options are those of `spawn`. See `nslab.call` for how the function gets
        there, and for what is raised; `ProcessLookupError` when the host has ended.

        >>> with nslab.Host("user uts", map_root_user=True, hostname="web") as host:
        ...     host.call(os.uname).nodename
        'web'
        """
        from ._call import call

        return call(options.pop("flags", 0), fn, *args, timeout=timeout, **self._joining(options))

    def _joining(self, options: dict[str, Any]) -> dict[str, Any]:
        if "join" in options:
            raise TypeError("join: a program of a host joins the host, and nothing else")
        return {**options, "join": self}

    def _to_join(self) -> list[tuple[int, int, _core.KnownNamespaces]]:
        """Return a pidfd, which namespaces of it to enter, and which they are: asking each time would cost more."""
        # As `alive`, with fewer lines of Python.
        try:
            ended = self._closed or self._keeper._look() is not None
        except OSError as error:
            raise from_os(error, "setns") from None
        if ended:
            raise from_core(errno.ESRCH, "setns", f"{self!r}", None)
        return [(self._keeper.fileno(), self._bits, self._known)]

    def enter(self, kinds: Flags) -> Entered:
        """Move the calling *thread*, and nothing else, into namespaces of the host while a ``with`` block runs.

        ``kinds`` are of cgroup, ipc, mnt, net and uts. Afterwards the thread is where it was, with the root and the
        directory that it had; having been in a mount namespace, it keeps a directory and a umask of its own, which
        `os.chdir` in other threads no longer changes. Programs and threads started inside are inside.

        Raises `ValueError` for pid, user and time, which no thread can enter alone, and for what the host has not got;
        `PermissionError` without CAP_SYS_ADMIN here and in the host; `ProcessLookupError` when the host has ended. On
        leaving, `RuntimeError` in another thread, or before what was entered later has been left.

        See setns(2).
        """
        from ._enter import Entered

        return Entered(self, parse_flags(kinds))

    # ------------------------------------------------------------------------------------------- what it knows

    @property
    def alive(self) -> bool:
        """Whether the namespaces are still kept."""
        return not self._closed and self._keeper.poll() is None

    @property
    def namespaces(self) -> Mapping[str, NamespaceId]:
        """The namespaces of a program in it, by type."""
        return self._keeper.namespaces

    def fileno(self) -> int:
        """Return a pidfd of the init: readable once the host has ended."""
        return self._keeper.fileno()

    def pids(self) -> list[int]:
        """Return the pids of the processes in the host, without its init, in order; see lsns(8).

        >>> with nslab.Host("user uts", map_root_user=True) as host, host.spawn(["sleep", "60"]) as process:
        ...     host.pids() == [process.pid], process.kill()
        (True, None)
        """
        return sorted(pid for pid in _warden.pids() if pid != self.pid and self._has(pid))

    def _has(self, pid: int) -> bool:
        inodes = ((kind, self.namespaces[kind].inode) for kind in self._kinds)
        try:
            if not any(os.stat(f"/proc/{pid}/ns/{kind}").st_ino == inode for kind, inode in inodes):  # noqa: PTH116
                return False
            opened = _core.Fd(os.pidfd_open, pid)
        except OSError:
            return False  # It has ended, or is another user's.
        with opened as pidfd:
            # A zombie still has its user namespace, and is its parent's.
            return not has_ended(pidfd, 0) and (self.alive or self._is_in_the_same(pid))

    def _is_in_the_same(self, pid: int) -> bool:
        """Decide without the init, after whose end an inode may already be that of another namespace."""
        from ._inspect.ids import namespaces

        try:
            found = namespaces(pid)
        except OSError:
            return False
        # Before Linux 6.18 there are no numbers, so nobody can say.
        ours = ((found[kind].id, self.namespaces[kind].id) for kind in self._kinds)
        return any(theirs == mine and mine is not None for theirs, mine in ours)

    def _is_found(self) -> bool:
        return isinstance(self._keeper, Found)

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.alive else "ended"
        return f"<Host {' '.join(filter(None, [self.name, *self._kinds]))}: {state}>"

    # --------------------------------------------------------------------------------------------------- ending

    def close(self) -> None:
        """End the host and every process in it; do nothing the second time, and in a fork of this process."""
        if self._closed or os.getpid() != self._owner:
            return
        if isinstance(self._keeper, Found):
            self._closed = True
            self._keeper.forget()
            return
        if "pid" not in self._kinds:
            # Nothing but a pid namespace ends all that is in it.
            # In the order of their pids, so parents mostly before their children, who would be missed.
            while any(list(map(self._kill, filter(self._owner.__ne__, self.pids())))):
                self._reap()
        # Should an interrupt come now, its last reference reaps it.
        self._keeper._known = False
        self._keeper.kill()
        self._closed = True
        try:
            # The kernel ends a pid namespace when all in it are reaped; those that we have started, by us.
            self._reap()
            self._keeper.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            # Somebody's child; ours is a zombie when that has been reaped.
            self._keeper._known = True
            subprocess._active.append(self._keeper)  # type: ignore[attr-defined]

    def _kill(self, pid: int) -> bool:
        """Kill a process that is in the host, and no other that has got its pid; return False if it does not end."""
        try:
            opened = _core.Fd(os.pidfd_open, pid)
        except OSError:
            # Not before it may have forked.
            return True
        with opened as pidfd:
            if self._has(pid):
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                except PermissionError:
                    return False
                # One that waits for a device ends when it has got it.
                return has_ended(pidfd, _PATIENCE)
        return True

    def _reap(self) -> None:
        for process in [process for process in self._started if process._known]:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                continue
        subprocess._cleanup()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._abandon()

    def _abandon(self) -> None:
        keeper = getattr(self, "_keeper", None)
        if keeper is not None and not self._closed and os.getpid() == self._owner:
            if keeper.poll() is None and isinstance(keeper, Process):
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()


# Those that nobody has closed.
_open: weakref.WeakSet[Host] = weakref.WeakSet()


@atexit.register
def _abandon_all() -> None:
    """End them while Python can still import what that takes."""
    for host in list(_open):
        host._abandon()
