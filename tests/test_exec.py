"""From argv to the running program: execve, environment, directory, descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import sh, spawn
from nested import inside

import nslab

ARG_MAX = 131_071  # MAX_ARG_STRLEN without the NUL


def executable(path: Path, content: bytes = b"") -> str:
    path.write_bytes(content)
    path.chmod(0o755)
    return str(path)


def output(argv: list[str] | list[bytes], **options: Any) -> str:
    done = nslab.run("uts", argv, stdout=nslab.PIPE, stderr=nslab.STDOUT, text=True, **options)
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


def test_exe_01_a_missing_program(refused: Callable[..., nslab.SpawnError]) -> None:
    error = refused("execve", errno.ENOENT, "uts", ["/nonexistent", "x"])
    assert isinstance(error, FileNotFoundError)
    assert error.filename == "/nonexistent"


@pytest.mark.parametrize("name", ["no-such-program", "", "/nonexistent/../true", "true/"])
def test_exe_01_the_error_is_that_of_subprocess(name: str, refused: Callable[..., nslab.SpawnError]) -> None:
    with pytest.raises(OSError) as theirs:
        subprocess.run([name], check=False)
    ours = refused("execve", theirs.value.errno, "uts", [name])
    assert isinstance(ours, type(theirs.value))
    assert (ours.filename, ours.strerror) == (theirs.value.filename, theirs.value.strerror)


def test_exe_01_the_first_error_in_path_that_says_more_than_missing(
    tmp_path: Path, refused: Callable[..., nslab.SpawnError]
) -> None:
    (tmp_path / "tool").touch(0o644)
    env = {"PATH": f"/nonexistent:{tmp_path}:/nowhere"}
    error = refused("execve", errno.EACCES, 0, ["tool"], env=env)
    assert error.filename == "tool"


@pytest.mark.parametrize("kind", ["not executable", "directory", "device"])
def test_exe_02_what_may_not_be_executed(kind: str, tmp_path: Path, refused: Callable[..., nslab.SpawnError]) -> None:
    plain = tmp_path / "plain"
    plain.touch(0o644)
    program = {"not executable": str(plain), "directory": str(tmp_path), "device": "/dev/null"}[kind]
    error = refused("execve", errno.EACCES, "uts", [program])
    assert isinstance(error, PermissionError)
    assert error.filename == program


@pytest.mark.parametrize("content", [b"echo hello\n", b"", Path("/bin/true").read_bytes()[:50]])
def test_exe_03_what_is_no_program_is_not_given_to_a_shell(
    content: bytes, tmp_path: Path, refused: Callable[..., nslab.SpawnError]
) -> None:
    program = executable(tmp_path / "program", content)
    assert refused("execve", errno.ENOEXEC, "uts", [program]).filename == program


def test_exe_04_a_script_without_its_interpreter(tmp_path: Path, refused: Callable[..., nslab.SpawnError]) -> None:
    script = executable(tmp_path / "script", b"#!/no/such/interpreter\n")
    error = refused("execve", errno.ENOENT, "uts", [script])
    assert error.filename == script
    assert script in str(error)
    assert "\n" not in str(error)
    assert "interpreter" in (error.hint or "")


def test_exe_05_a_program_that_is_being_written(tmp_path: Path, refused: Callable[..., nslab.SpawnError]) -> None:
    program = executable(tmp_path / "program", Path("/bin/true").read_bytes())
    with open(program, "ab"):
        refused("execve", errno.ETXTBSY, "uts", [program])
    assert nslab.spawn("uts", [program]).wait() == 0


def test_exe_07_the_longest_argument() -> None:
    assert nslab.spawn("uts", ["true", "x" * ARG_MAX]).wait() == 0


def test_exe_07_an_argument_too_long(refused: Callable[..., nslab.SpawnError]) -> None:
    refused("execve", errno.E2BIG, "uts", ["true", "x" * (ARG_MAX + 1)])


def test_exe_07_many_arguments_too_long_together(refused: Callable[..., nslab.SpawnError]) -> None:
    most = resource.getrlimit(resource.RLIMIT_STACK)[0] // 4
    refused("execve", errno.E2BIG, "uts", ["true", *["x" * 100_000] * (most // 100_000 + 1)])


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["true", "a\0b"], {}),
        (["tr\0ue"], {}),
        (["true"], {"executable": "/bin/tr\0ue"}),
        (["true"], {"cwd": "/\0"}),
        (["true"], {"env": {"A\0": "b"}}),
        (["true"], {"env": {"A": "b\0"}}),
        (["true"], {"env": {"A=B": "c"}}),
        ([b"true", b"\0"], {}),
    ],
)
def test_exe_09_nul_anywhere_and_an_equals_sign_in_a_name(
    argv: list[str], options: dict[str, object], invalid: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Since Python 3.13 it is, for some options, os.posix_spawn that complains, in other words.
    monkeypatch.setattr(subprocess, "_USE_POSIX_SPAWN", False)
    with pytest.raises(ValueError) as theirs:
        subprocess.run(argv, check=False, **options)  # type: ignore[call-overload]
    assert invalid("uts", argv, **options) == str(theirs.value)


def test_exe_10_no_arguments_at_all(invalid: Callable[..., str]) -> None:
    assert invalid("uts", []) == "argv must not be empty: its first item names the program"
    assert "argv" in invalid("uts", [], executable="/bin/true")


def test_exe_11_a_missing_directory_is_named(refused: Callable[..., nslab.SpawnError]) -> None:
    error = refused("chdir", errno.ENOENT, "uts", ["true"], cwd="/nonexistent")
    assert isinstance(error, FileNotFoundError)
    assert error.filename == "/nonexistent"


def test_exe_11_a_directory_that_is_a_file(refused: Callable[..., nslab.SpawnError]) -> None:
    error = refused("chdir", errno.ENOTDIR, "uts", ["/nonexistent"], cwd="/bin/true")
    assert isinstance(error, NotADirectoryError)


@pytest.mark.unprivileged
def test_exe_11_a_relative_program_is_looked_for_in_the_new_directory(tmp_path: Path) -> None:
    executable(tmp_path / "tool", b"#!/bin/sh\npwd\n")
    with spawn("uts", ["./tool"], cwd=tmp_path, stdout=nslab.PIPE, text=True) as child:
        assert child.communicate()[0].strip() == str(tmp_path)


def test_exe_13_a_thousand_failures_leave_no_descriptor() -> None:
    # The autouse fixture compares; more than one descriptor a failure would also reach the limit.
    for _ in range(1000):
        with pytest.raises(FileNotFoundError):
            nslab.spawn("uts", ["/nonexistent"], stdin=nslab.PIPE, stdout=nslab.PIPE, stderr=nslab.PIPE)


def listed(**options: Any) -> list[int]:
    # `ls` is another process than the shell, whose descriptors it lists.
    status, text = sh("uts", "ls /proc/$$/fd; :", **options)
    assert status == 0, text
    return sorted(map(int, text.split()))


@pytest.mark.unprivileged
def test_exe_14_only_the_descriptors_that_are_passed() -> None:
    with contextlib.ExitStack() as stack:
        fds = [stack.enter_context(open("/dev/null")).fileno() for _ in range(6)]
        os.set_inheritable(fds[0], True)
        assert listed(pass_fds=fds[1::2]) == [0, 1, 2, *fds[1::2]]


def test_exe_14_every_inheritable_descriptor_with_close_fds_false() -> None:
    with open("/dev/null") as kept, open("/dev/null") as closed:
        os.set_inheritable(kept.fileno(), True)
        found = listed(close_fds=False)
        assert kept.fileno() in found
        assert closed.fileno() not in found


def test_exe_16_none_of_many_descriptors_leaks_and_the_limit_costs_nothing() -> None:
    inside(0, _many_descriptors)


def _many_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for _ in range(100):
        os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
    children = [nslab.spawn(0, ["ls", "/proc/self/fd"], stdout=nslab.PIPE, text=True) for _ in range(5)]
    for child in children:
        # 3 is the directory that ls reads.
        assert child.communicate()[0].split() == ["0", "1", "2", "3"]
    cost = min(step.duration for child in children for step in child.timeline if step.name == "close_fds")
    # One call for each possible number takes 50 ns at the very least.
    assert cost < hard * 50, f"closing took {cost} ns"


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("options", "is_leader"),
    [({"start_new_session": True}, (True, True)), ({"process_group": 0}, (False, True)), ({}, (False, False))],
)
def test_exe_18_session_and_process_group(options: dict[str, object], is_leader: tuple[bool, bool]) -> None:
    with spawn("uts", ["cat"], stdin=nslab.PIPE, **options) as child:
        assert (os.getsid(child.pid) == child.pid, os.getpgid(child.pid) == child.pid) == is_leader


def test_exe_18_an_existing_process_group() -> None:
    with (
        nslab.spawn(0, ["cat"], stdin=nslab.PIPE, process_group=0) as leader,
        nslab.spawn("uts", ["cat"], stdin=nslab.PIPE, process_group=leader.pid) as member,
    ):
        assert os.getpgid(member.pid) == leader.pid


@pytest.mark.unprivileged
def test_exe_19_the_environment_is_exactly_what_is_given() -> None:
    with spawn("uts", ["/usr/bin/env"], env={"A": "1", "EMPTY": ""}, stdout=nslab.PIPE, text=True) as child:
        assert sorted(child.communicate()[0].split()) == ["A=1", "EMPTY="]
    with spawn("uts", ["/usr/bin/env"], env={}, stdout=nslab.PIPE) as child:
        assert child.communicate()[0] == b""


def test_exe_19_without_env_it_is_the_callers_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSLAB_TEST", "now")
    assert output(["printenv", "NSLAB_TEST"]) == "now\n"


def test_exe_19_path_of_the_given_environment_finds_the_program(tmp_path: Path) -> None:
    executable(tmp_path / "tool", b"#!/bin/sh\necho found\n")
    assert output(["tool"], env={"PATH": f"/nonexistent:{tmp_path}"}) == "found\n"


def test_exe_20_the_first_argument_need_not_be_the_program() -> None:
    text = output(["zero", "/proc/self/cmdline"], executable="/bin/cat")
    assert text.split("\0")[:2] == ["zero", "/proc/self/cmdline"]


@pytest.mark.parametrize("value", ["\udcff\udcfe", b"\xff\xfe"])
def test_exe_21_bytes_that_are_no_text_survive(value: str | bytes) -> None:
    script = "import os; print(os.environb[b'A'].hex(), os.fsencode(__import__('sys').argv[1]).hex())"
    argv = [sys.executable, "-c", script, value]
    done = nslab.run("uts", argv, env={**os.environ, "A": value}, capture_output=True, text=True)
    assert done.stdout == "fffe fffe\n"


@pytest.mark.unprivileged
def test_exe_22_much_output_on_both_streams() -> None:
    script = "head -c 1048576 /dev/zero >&2; head -c 1048576 /dev/zero"
    with spawn("uts", ["sh", "-c", script], stdout=nslab.PIPE, stderr=nslab.PIPE) as child:
        assert [len(stream) for stream in child.communicate()] == [2**20, 2**20]


@pytest.mark.unprivileged
def test_exe_23_writing_where_nobody_reads_ends_the_program() -> None:
    with spawn("uts", ["yes"], stdout=nslab.PIPE) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.wait() == -13
    with spawn("uts", ["sh", "-c", "yes; exit $?"], stdout=nslab.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.close()
        assert shell.wait() == 128 + 13


def in_memory(content: bytes) -> int:
    fd = os.memfd_create("program")
    os.write(fd, content)
    os.fchmod(fd, stat.S_IRWXU)
    return fd


def test_exe_25_a_program_without_a_path(refused: Callable[..., nslab.SpawnError]) -> None:
    fd = in_memory(b"#!/bin/sh\necho from memory\n")
    path = f"/proc/self/fd/{fd}"
    try:
        assert output([path], pass_fds=[fd]) == "from memory\n"
        refused("execve", errno.ENOENT, "uts", [path])
    finally:
        os.close(fd)
