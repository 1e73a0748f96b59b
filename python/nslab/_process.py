"""`Process`: a `subprocess.Popen` whose child is made, waited for and signalled by the Rust core."""

from __future__ import annotations

import errno
import operator
import os
import subprocess
import sys
import threading

from . import _core, _options
from ._errors import SpawnError, from_core, from_os
from ._namespace import parse_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import resource
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._inspect.ids import NamespaceId
    from ._plan import Plan, StepTime

    PopenBase = subprocess.Popen[Any]
else:
    PopenBase = subprocess.Popen


#: Has, as ``stack``, what `Host.enter` has put this thread into.
entered = threading.local()

# Every option that `subprocess.Popen` does not have, and what turns it into what the core takes, if that differs.
OPTIONS: dict[str, Callable[[Any], Any] | None] = {
    "hostname": _options.name,
    "domainname": _options.name,
    "map_root_user": None,
    "map_current_user": None,
    "map_users": None,
    "map_groups": None,
    "setgroups": None,
    "propagation": None,
    "mount_proc": _options.mount_point,
    "loopback": None,
    "monotonic": _options.clock_offset,
    "boottime": _options.clock_offset,
    "join": _options.namespaces_to_join,
    "kill_child": _options.death_signal,
    "init": None,
}

# CPython 3.11 to 3.14 pass different arguments in different places, but agree on the names.
_CODE = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]
_ARGUMENTS = _CODE.co_varnames[1 : _CODE.co_argcount]


def _pick(*names: str) -> Callable[[tuple[Any, ...]], Any]:
    return operator.itemgetter(*map(_ARGUMENTS.index, names))


_program = _pick("args", "executable", "shell", "preexec_fn")
_process = _pick(
    *("cwd", "env", "close_fds", "pass_fds", "restore_signals", "start_new_session"),
    *("process_group", "umask", "uid", "gid", "gids"),
)
_streams = _pick("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class Process(_core.Child, PopenBase):
    """A child process in its namespaces: everything `subprocess.Popen` documents, and a handle that *is* the process.

    ``args`` and the further arguments are those of `subprocess.Popen`; ``flags`` and the other keywords are those of
    `nslab.spawn`, which see for what is raised.

    >>> with nslab.Popen(["uname", "-n"], stdout=subprocess.PIPE, text=True) as process:
    ...     process.stdout.read().strip() == os.uname().nodename
    True
    """

    _plan: _core.Plan | None = None
    # Whether somebody has it: until then it ends with its last reference, whatever exception came.
    _known = False
    # Its namespaces, where they had to be noted at once.
    _rows: Any = None
    # Whether a call with nothing but the program takes the general way too.
    _by_subprocess = False

    def __init__(self, args: Any, *positional: Any, flags: Any = None, **options: Any) -> None:
        try:
            self._make(args, positional, flags, options)
        except BaseException:
            self._end()
            raise
        self._known = True

    def _make(self, args: Any, positional: tuple[Any, ...], flags: Any, options: dict[str, Any]) -> None:
        is_inside = getattr(entered, "stack", None)
        if is_inside and options.get("kill_child"):
            from ._enter import joining

            options = joining(options)
        try:
            in_full = positional or self._by_subprocess or subprocess._active  # type: ignore[attr-defined]
            if in_full or not self._start(flags, args, options):
                self._make_in_full(args, positional, flags, options)
            if is_inside:
                # Later the thread may be elsewhere.
                self._rows = self._namespaces()
        except BaseException as error:
            self._give_up(error)
            raise

    def _make_in_full(self, args: Any, positional: tuple[Any, ...], flags: Any, options: dict[str, Any]) -> None:
        """Do what the core does not by itself: convert the options, and ask `subprocess` for the streams."""
        if subprocess._active:  # type: ignore[attr-defined]
            subprocess._cleanup()  # type: ignore[attr-defined]
        rest = dict(options)
        self._request = bits, own = parse_flags(flags), _take_own(rest)
        if not (rest or positional or self._by_subprocess) and self._start(flags, args, options, bits, own):
            return
        if sys.flags.warn_default_encoding:
            _options.say_encoding(rest)
        super().__init__(args, *positional, **rest)

    def _give_up(self, error: BaseException) -> None:
        """End a child that its caller will never get; complete what is said of it."""
        self._end()
        if type(error) is OSError and error.errno in (errno.EMFILE, errno.ENFILE):
            # Whatever noticed it, such as a module of ours.
            raise from_os(error, "clone") from None

    def _end(self) -> None:
        """End a child that its caller never got, as an exception came between."""
        if self.returncode is None:
            self._kill_and_reap()
            self.returncode = self._look()

    def __repr__(self) -> str:
        # As `subprocess` prints a Popen, so that what was written for that reads the same.
        text = f"<Popen: returncode: {self.returncode} args: {self.args!r}>"
        return text if len(text) <= 80 else text[:76] + "...>"

    def _get_handles(self, *streams: Any) -> Any:
        try:
            return super()._get_handles(*streams)  # type: ignore[misc]
        except OSError as error:
            if error.errno is None:  # What is no file has no descriptor.
                raise
            raise from_os(error, "stdio") from None

    def _execute_child(self, *arguments: Any) -> None:
        args, executable, shell, preexec_fn = _program(arguments)
        if preexec_fn is not None:
            raise ValueError(
                "preexec_fn is refused: Python must not run between clone and exec. Use cwd, umask, user, group, "
                "start_new_session, process_group, or let the program do it"
            )
        argv, executable = _command(args, executable, shell)
        process = _process(arguments)
        sys.audit("subprocess.Popen", executable, argv, process[0], process[1])
        if self._plan is None:
            flags, options = self._request
            self._plan = _core.plan(flags, argv, executable, options, *process)
        try:
            self._run_plan(self._plan, *_streams(arguments))
        except SpawnError as error:
            _name_file(error, executable, process[0])
            raise

    def _run_plan(self, plan: _core.Plan, *streams: int) -> None:
        stdin, _, _, stdout, _, stderr = streams
        if (lowest := min(stdin, stdout, stderr)) < -1:
            raise from_core(errno.EBADF, "stdio", str(lowest), None)
        self._run(plan, stdin, stdout, stderr)
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]

    # ------------------------------------------------------------------------------------------------- waiting

    def _internal_poll(self, _deadstate: int | None = None, *_: Any) -> int | None:
        # Called by __del__, at a time when module globals may be gone.
        if self.returncode is None:
            self.returncode = self._look()
        return self.returncode

    # `wait` is the core's, but for one with a timeout.
    _wait_as_subprocess = subprocess.Popen.wait

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            self.returncode = self._sleep(timeout)
            if self.returncode is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    async def wait_async(self) -> int:
        """Wait under asyncio, by the running loop's reader on the pidfd, and return the return code.

        >>> asyncio.run(nslab.spawn("uts", ["true"]).wait_async())
        0
        """
        import asyncio

        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        # A copy: a loop has one reader for a descriptor, and several tasks may wait.
        with _core.Fd(os.dup, self.pidfd) as pidfd:
            loop.add_reader(pidfd, _resolve, ended)
            try:
                if self.poll() is None:
                    await ended
            finally:
                loop.remove_reader(pidfd)
        return self.wait()

    def stop(self, timeout: float = 5.0) -> int:
        """End the process: SIGTERM, then, after ``timeout`` seconds, SIGKILL; return the return code.

        A program that is PID 1 ignores SIGTERM unless it has a handler, see pid_namespaces(7).

        >>> nslab.spawn("pid", ["sleep", "60"]).stop(timeout=0.1)
        -9
        """
        self.terminate()
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait()

    # ---------------------------------------------------------------------------------------------- signalling

    def send_signal(self, sig: int) -> None:
        """Send ``sig`` through the pidfd, so never to another process that got the same pid."""
        self.poll()
        if self.returncode is None:
            self._signal(sig)

    def _forsaken(self) -> None:
        """Its last reference goes, and nobody has waited for it."""
        if not self._known:
            self._end()
        PopenBase.__del__(self)

    # ------------------------------------------------------------------------------------------- what it knows

    @property
    def namespaces(self) -> Mapping[str, NamespaceId]:
        """The namespaces of the *program*, by type; still there after the exit.

        >>> with nslab.spawn("uts", ["true"]) as process:
        ...     process.namespaces["uts"] == nslab.namespaces(os.getpid())["uts"]
        False
        """
        from ._inspect.ids import from_rows

        return from_rows(self._rows or self._namespaces(), self.pid)

    @property
    def plan(self) -> Plan:
        """The `Plan` that was run."""
        from ._plan import Plan

        return Plan(self._made_plan(), self.args, {})

    @property
    def timeline(self) -> tuple[StepTime, ...]:
        """What each step cost in this very child, ``clone`` and ``execve`` included."""
        from ._plan import StepTime

        return tuple(map(StepTime._make, self._step_times()))

    @property
    def rusage(self) -> resource.struct_rusage | None:
        """What the process used, as `resource.struct_rusage`; None before it was waited for."""
        numbers = self._usage()
        if numbers is None:
            return None
        import resource

        return resource.struct_rusage(numbers)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ._display.of import card_of

        return card_of(self)._repr_mimebundle_(include, exclude)


class _Plain(PopenBase):
    """Asks `subprocess` of this very Python what it does for a call with nothing but the program."""

    def _execute_child(self, *arguments: Any) -> None:
        self._closed_child_pipe_fds = True


# A call with nothing but the program sets no more than differs from these.
for _name, _value in vars(_Plain("true")).items():
    setattr(Process, _name, _value)


def _take_own(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `nslab.spawn` out of those of `subprocess`, converted."""
    own = {}
    for name in [name for name in options if name in OPTIONS]:
        convert, own[name] = OPTIONS[name], options.pop(name)
        if convert and own[name] is not None:
            try:
                own[name] = convert(own[name])
            except (TypeError, ValueError) as error:
                if not str(error).startswith(name):
                    error.args = (f"{name}: {error}",)
                raise
    return own


def _name_file(error: SpawnError, executable: Any, cwd: Any) -> None:
    """Give the exception the file name that `subprocess` gives: the program or the directory, as it was passed."""
    if error.step == "execve":
        error.filename = executable
    elif error.step == "chdir":
        error.filename = cwd


def _resolve(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _command(args: Any, executable: Any, shell: bool) -> tuple[list[Any], Any]:
    """Return argv and the program, by the rules of `subprocess.Popen`."""
    if isinstance(args, (str, bytes)):
        argv: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        argv = [args]
    else:
        argv = list(args)
    if shell:
        argv = ["/bin/sh", "-c", *argv]
        if executable:
            argv[0] = executable
    if not argv:
        raise ValueError("argv must not be empty: its first item names the program")
    return argv, argv[0] if executable is None else executable


if "NSLAB_RECORD" in os.environ:
    # A submission that is to be graded.
    from ._grade import recorder

    recorder.begin(Process)
