"""`spawn`, `run` and `plan`: the one signature, which everything else forwards."""

from __future__ import annotations

import functools
import subprocess

from ._process import Process, entered

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime
    import os
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import IO, Any, Literal, TypeVar

    from . import _core
    from ._namespace import Flags
    from ._plan import Plan

    Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Argv = Path | Sequence[Path]
    Stream = int | IO[Any] | None
    IdMap = Iterable[tuple[int, int, int]] | Literal["auto", "subids", "all"]
    Offset = int | float | datetime.timedelta
    Function = TypeVar("Function")


def _forwarded(declared: Function) -> Function:
    """Give the declared signature to a function that passes on only what it was given: most calls name few options."""
    new, still_alive = Process.__new__, subprocess._active  # type: ignore[attr-defined]

    @functools.wraps(declared)  # type: ignore[arg-type]
    def spawn(flags: Flags, argv: Argv, **options: Any) -> Process:
        process = new(Process)
        try:
            # After a program has run every line of Python is cold: most calls need no more of it than this.
            if getattr(entered, "stack", None):
                process._make(argv, (), flags, options)
            elif still_alive or not process._start(flags, argv, options):
                process._make_in_full(argv, (), flags, options)
        except BaseException as error:
            process._give_up(error)
            raise
        # Only now, with no call left in which a signal handler could raise before the caller has it.
        process._known = True
        return process

    return spawn  # type: ignore[return-value]


@_forwarded
def spawn(
    flags: Flags,
    argv: Argv,
    *,
    hostname: str | bytes | None = None,
    domainname: str | bytes | None = None,
    map_root_user: bool = False,
    map_current_user: bool = False,
    map_users: IdMap | None = None,
    map_groups: IdMap | None = None,
    setgroups: Literal["allow", "deny"] | None = None,
    propagation: Literal["private", "slave", "shared", "unchanged"] | None = None,
    mount_proc: bool | Path = False,
    loopback: bool = False,
    monotonic: Offset | None = None,
    boottime: Offset | None = None,
    join: Any = None,
    kill_child: bool | int = False,
    init: bool = False,
    cwd: Path | None = None,
    env: Mapping[Any, Any] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    pipesize: int = -1,
    close_fds: bool = True,
    pass_fds: Collection[int] = (),
    user: str | int | None = None,
    group: str | int | None = None,
    extra_groups: Iterable[str | int] | None = None,
    umask: int = -1,
    restore_signals: bool = True,
    start_new_session: bool = False,
    process_group: int | None = None,
    executable: Path | None = None,
    shell: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    bufsize: int = -1,
    universal_newlines: bool | None = None,
    preexec_fn: None = None,
) -> Process:
    """Clone a child into new namespaces, set them up, execute a program; return its `Process` once it executes.

    ``flags`` names the namespaces: ``"uts pid"``, ``Namespace.UTS | Namespace.PID``, ``["uts", "pid"]``, ``"all"``, or
    0 for a plain child. ``argv`` is the program and its arguments. Any thread may call it; see clone(2).

    - ``hostname``, ``domainname`` (uts): at most 64 bytes.
    - ``map_root_user``, ``map_current_user`` (user): map the caller to 0, or to itself.
    - ``map_users``, ``map_groups`` (user): ``[(inside, outside, count), …]``, or ``"auto"``, ``"subids"``, ``"all"`` as
      in unshare(1); newuidmap(1) writes what the kernel would not take from the caller.
    - ``setgroups`` (user): ``"allow"``, ``"deny"``, or None for what the map requires.
    - ``propagation`` (mnt): ``"private"`` (the default), ``"slave"``, ``"shared"`` or ``"unchanged"``.
    - ``mount_proc`` (mnt and pid): True or a path: a fresh proc(5).
    - ``loopback`` (net): bring ``lo`` up.
    - ``monotonic``, ``boottime`` (time): clock offsets in seconds, or a `datetime.timedelta`.
    - ``join``: namespaces to enter first: a `Process`, a `NamespaceId` or a mapping of them, a path, an object with
      ``fileno()``, an open fd (namespace file or pidfd), or a sequence of those.
    - ``kill_child``: True (SIGKILL) or a signal the program gets when this process ends, however it ends.
    - ``init`` (pid): a tiny init of the library is PID 1, the program PID 2: orphans are reaped, signals work as they
      do elsewhere, and the namespace ends with the program.
    - All others are those of `subprocess.Popen`; ``preexec_fn`` is refused.

    Raises `ValueError` or `TypeError` before anything is cloned for what could never work, and `SpawnError`, with the
    step, the errno and a hint, for what the kernel refuses.

    >>> nslab.spawn("uts", ["sh", "-c", "test $(uname -n) = lab"], hostname="lab").wait()
    0
    """
    raise NotImplementedError


def run(
    flags: Flags,
    argv: Argv,
    *,
    input: str | bytes | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    r"""Run a program in new namespaces, wait for it and return a `subprocess.CompletedProcess`.

    ``input`` goes to its standard input, ``capture_output`` pipes its output, ``timeout`` is in seconds, ``check``
    makes a return code other than 0 an error; ``flags``, ``argv`` and the others are those of `spawn`.

    Raises what `spawn` raises, `subprocess.TimeoutExpired` (the child is killed first) and
    `subprocess.CalledProcessError`.

    >>> nslab.run("pid", ["sh", "-c", "echo $$"], capture_output=True, text=True).stdout
    '1\n'
    """
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        options["stdin"] = subprocess.PIPE
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options["stdout"] = options["stderr"] = subprocess.PIPE
    process = Process.__new__(Process)
    process._make(argv, (), flags, options)
    with process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired as expired:
            process.kill()
            # Without a timeout: what it wrote belongs to the exception, and a killed writer closes its pipes. A
            # grandchild that keeps them open must not hold us.
            process.wait()
            raise expired
        except:
            process.kill()
            raise
        returncode = process.wait()
    if check and returncode:
        raise subprocess.CalledProcessError(returncode, process.args, output=stdout, stderr=stderr)
    return subprocess.CompletedProcess(process.args, returncode, stdout, stderr)


def plan(flags: Flags, argv: Argv, **options: Any) -> Plan:
    """Check a request and put its steps in order, without cloning anything; the arguments are those of `spawn`.

    Raises `ValueError` or `TypeError` for what could never work.

    >>> print(nslab.plan("uts", ["true"], hostname="lab"))
    parent  clone3({flags=CLONE_NEWUTS, exit_signal=SIGCHLD})
    child   unshare(CLONE_FILES)
    child   sethostname("lab", 3)
    ...
    """
    from ._plan import Plan

    dry = _DryRun(argv, flags=flags, **options)
    for stream in (dry.stdin, dry.stdout, dry.stderr):
        if stream:
            stream.close()
    return Plan(dry.made, dry.args, options)


class _DryRun(Process):
    """Everything `Process` does with its arguments, up to the clone."""

    made: _core.Plan
    _by_subprocess = True

    def _run_plan(self, plan: _core.Plan, *streams: int) -> None:
        self.made = plan
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]
