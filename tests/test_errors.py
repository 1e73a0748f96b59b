"""`SpawnError`: its class, its parts, its copies, and who was killed when."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import seccomp
from conftest import assert_no_child
from nested import inside, refusal

import nslab
from nslab._errors import from_core


def failure(flags: Any, argv: Any = ("true",), **options: Any) -> nslab.SpawnError:
    with pytest.raises(nslab.SpawnError) as caught:
        nslab.spawn(flags, argv, **options)
    return caught.value


def mixed(number: int) -> type[OSError]:
    """Return the class that Python has for an errno."""
    return type(OSError(number, ""))


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_the_class_follows_the_errno(number: int) -> None:
    error = from_core(number, "clone", "CLONE_NEWUTS", None)
    assert isinstance(error, nslab.SpawnError)
    assert isinstance(error, mixed(number))
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror, error.step) == (number, os.strerror(number), "clone")
    others = {mixed(other) for other in errno.errorcode} - set(mixed(number).__mro__)
    assert not isinstance(error, tuple(others))


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["/nonexistent"], {}),
        (["no-such-program"], {}),
        (["/etc/passwd"], {}),
        (["/"], {}),
        (["/etc/passwd/x"], {}),
        (["true"], {"executable": "/nonexistent"}),
        (["true"], {"cwd": "/nonexistent"}),
        (["true"], {"cwd": "/etc/passwd"}),
        (["true"], {"cwd": b"/nonexistent"}),
        (["true"], {"cwd": Path("/nonexistent")}),
        ([b"/nonexistent"], {}),
        ([Path("/nonexistent")], {}),
        ("/nonexistent", {}),
        ("/nonexistent/sh", {"shell": True, "executable": "/nonexistent/sh"}),
    ],
)
def test_errno_class_and_filename_are_those_of_subprocess(
    argv: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Since Python 3.13 it is, for some options, os.posix_spawn that fails, and names a path as text.
    monkeypatch.setattr(subprocess, "_USE_POSIX_SPAWN", False)
    with pytest.raises(OSError) as theirs:
        subprocess.run(argv, check=False, **options)
    ours = failure("uts", argv, **options)
    assert isinstance(ours, type(theirs.value))
    assert (ours.errno, ours.strerror) == (theirs.value.errno, theirs.value.strerror)
    assert ours.filename == theirs.value.filename
    assert type(ours.filename) is type(theirs.value.filename)
    assert ours.filename2 is None


def test_every_part_of_an_error() -> None:
    error = failure("uts", cwd="/nonexistent")
    assert error.args == (errno.ENOENT, "No such file or directory")
    assert (error.errno, error.strerror, error.filename) == (errno.ENOENT, "No such file or directory", "/nonexistent")
    assert (error.step, error.detail, error.signal) == ("chdir", "/nonexistent", None)
    assert str(error) == "[Errno 2] chdir: No such file or directory: '/nonexistent'"


def test_the_detail_is_what_the_step_was_about() -> None:
    assert failure("uts pid", ["/nonexistent"]).detail == "/nonexistent"
    assert failure(0, join="/nonexistent/ns").detail == "/nonexistent/ns"
    assert failure("user", map_users=[(0, 0, 1)], user=7).detail == "7"
    assert failure("mnt pid", mount_proc="/nonexistent").detail == "/nonexistent"


def test_without_a_path_there_is_no_filename() -> None:
    error = failure("user", map_root_user=True, user=7)
    assert (error.step, error.errno, error.filename) == ("setuid", errno.EINVAL, None)
    assert str(error) == "[Errno 22] setuid: Invalid argument: 7"


def test_the_hint_is_a_note_that_a_traceback_shows(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    error = failure(0, [str(script)])
    assert error.hint
    assert error.__notes__ == [error.hint]
    assert error.hint in "".join(traceback.format_exception(error))


def test_what_speaks_for_itself_has_no_hint() -> None:
    error = failure(0, ["/nonexistent"])
    assert error.hint is None
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        *(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda: failure("uts", ["/nonexistent"]),
        lambda: failure("uts", ["/"]),
        lambda: failure("user", map_root_user=True, user=7),
        lambda: from_core(None, "sethostname", "lab", 9),
    ],
    ids=["missing", "refused", "without filename", "killed"],
)
def test_it_copies_and_pickles(
    make: Callable[[], nslab.SpawnError], again: Callable[[nslab.SpawnError], nslab.SpawnError]
) -> None:
    error = make()
    same = again(error)
    assert type(same) is type(error)
    assert str(same) == str(error)
    for part in ("args", "errno", "strerror", "filename", "step", "detail", "signal", "hint"):
        assert getattr(same, part) == getattr(error, part), part
    assert getattr(same, "__notes__", None) == getattr(error, "__notes__", None)


def test_it_travels_between_processes() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        inside(0, failure_elsewhere)
    assert isinstance(caught.value, nslab.SpawnError)
    assert (caught.value.step, caught.value.filename) == ("execve", "/nonexistent")


def failure_elsewhere() -> None:
    nslab.spawn("uts", ["/nonexistent"])


@pytest.mark.parametrize("call", [nslab.spawn, nslab.run, lambda *args, **kw: nslab.plan(*args, **kw).spawn()])
def test_it_is_the_same_error_from_every_call(call: Callable[..., object]) -> None:
    with pytest.raises(nslab.SpawnError) as caught:
        call("uts", ["/nonexistent"], hostname="lab")
    assert (caught.value.step, caught.value.filename) == ("execve", "/nonexistent")


def test_it_has_no_context_that_is_no_cause() -> None:
    error = failure("uts", ["/nonexistent"])
    assert error.__cause__ is None
    assert error.__context__ is None


# A step, the system call in which the filter ends the child, a request with that step.
KILLED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("sethostname", "sethostname", "uts", {"hostname": "lab"}),
    ("propagation", "mount", "mnt", {}),
    ("setns", "setns", "", {"join": "/proc/self/ns/uts"}),
    ("setns", "setns", "uts", {"join": "/proc/self/ns/uts"}),
    ("sethostname", "sethostname", "user uts", {"hostname": "lab", "map_users": [(0, 0, 9)]}),
    ("setuid", "setreuid", "uts", {"user": 1}),
]


@pytest.mark.parametrize(("step", "call", "flags", "options"), KILLED)
def test_killed_during_set_up(step: str, call: str, flags: str, options: dict[str, Any]) -> None:
    inside(0, _killed, step, call, flags, options)


def _killed(step: str, call: str, flags: str, options: dict[str, Any]) -> None:
    seccomp.kill(call)
    error = refusal(flags, options)
    assert (error.signal, error.errno, error.step) == (signal.SIGSYS, None, step)
    assert "SIGSYS" in str(error)
    assert step in str(error)
    assert "None" not in str(error)


@pytest.mark.parametrize("call", ["sethostname", "mount", "setns"])
def test_killed_during_set_up_by_another_process(call: str) -> None:
    inside(0, _killed_by_another, call)


def test_killed_once_execve_has_begun_is_a_return_code() -> None:
    inside(0, _killed_in_execve)


def _kill_when_held(call: str) -> None:
    held = seccomp.Held(call)
    threading.Thread(target=lambda: os.kill(held.wait(), signal.SIGKILL)).start()


def _killed_by_another(call: str) -> None:
    _kill_when_held(call)
    with pytest.raises(nslab.SpawnError) as caught:
        nslab.spawn("uts mnt", ["true"], hostname="lab", join="/proc/self/ns/ipc")
    assert (caught.value.signal, caught.value.errno) == (signal.SIGKILL, None)
    assert caught.value.step == ("propagation" if call == "mount" else call)
    assert_no_child()


def _killed_in_execve() -> None:
    _kill_when_held("execve")
    with nslab.spawn("uts", ["/bin/true"]) as process:
        assert process.wait() == -signal.SIGKILL
    assert_no_child()


def test_killed_by_the_kernel_while_it_loads_the_program_is_a_return_code(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(unloadable())
    program.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError) as theirs:
        subprocess.run([program], check=True)
    assert theirs.value.returncode == -signal.SIGSEGV
    assert nslab.spawn("uts", [program]).wait() == -signal.SIGSEGV


def unloadable() -> bytes:
    """Return an ELF program whose only segment lies where no process has memory: found too late for an errno."""
    start = Path(sys.executable).read_bytes()[:20]
    address = 1 << 62
    header = struct.pack("<HIQQQIHHHHHH", 0, 1, address, 64, 0, 0, 64, 56, 1, 64, 0, 0)[2:]
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, 120, 120, 4096)
    return start[:16] + struct.pack("<H", 2) + start[18:20] + header + segment
