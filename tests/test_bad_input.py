"""What can be asked for wrongly: each with a sentence that says what to do, and nothing left behind."""

from __future__ import annotations

import contextlib
import datetime
import errno
import math
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import seccomp
from conftest import ROOT
from nested import as_nobody, inside, refusal

import nslab
from nslab import _process

Invalid = Callable[..., str]
Refused = Callable[..., nslab.SpawnError]

# A value that would do, and the namespaces without which it is refused.
NEEDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "hostname": ("lab", ("uts",)),
    "domainname": ("lab", ("uts",)),
    "map_root_user": (True, ("user",)),
    "map_current_user": (True, ("user",)),
    "map_users": ([(0, 0, 1)], ("user",)),
    "map_groups": ([(0, 0, 1)], ("user",)),
    "setgroups": ("deny", ("user",)),
    "propagation": ("private", ("mnt",)),
    "mount_proc": (True, ("mnt", "pid")),
    "loopback": (True, ("net",)),
    "monotonic": (1, ("time",)),
    "boottime": (1, ("time",)),
    "init": (True, ("pid",)),
}
KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]


def test_every_option_is_in_this_table_or_needs_nothing() -> None:
    assert set(_process.OPTIONS) - set(NEEDS) == {"join", "kill_child"}


@pytest.mark.parametrize(("flags", "bit"), [(1 << 12, "0x1000"), (nslab.CLONE_NEWUTS | 0x100, "0x100"), (-1, "0x1")])
def test_an_unknown_flag_bit(flags: int, bit: str, invalid: Invalid) -> None:
    assert f"the bit {bit}" in invalid(flags)


@pytest.mark.parametrize(("flags", "meant"), [("utc", "uts"), ("uts,ipx", "ipc"), (["pid", "mont"], "mount")])
def test_an_unknown_name(flags: Any, meant: str, invalid: Invalid) -> None:
    assert f"did you mean {meant!r}?" in invalid(flags)


@pytest.mark.unprivileged
@pytest.mark.parametrize("option", NEEDS)
def test_an_option_without_its_namespace(option: str, invalid: Invalid) -> None:
    value, needed = NEEDS[option]
    others = [kind for kind in KINDS if kind not in needed]
    for flags in (0, others):
        message = invalid(flags, **{option: value})
        assert message.startswith(f"{option} needs the {' and '.join(needed)} namespace")
        assert message.endswith(f'(add "{" ".join(needed)}" to the flags)')


@pytest.mark.parametrize(("given", "missing"), [("mnt", "pid"), ("pid", "mnt")])
def test_an_option_with_one_namespace_of_two(given: str, missing: str, invalid: Invalid) -> None:
    assert f'(add "{missing}" to the flags)' in invalid(given, mount_proc=True)


@pytest.mark.parametrize("option", ["hostname", "domainname"])
@pytest.mark.parametrize("name", ["x" * 65, b"x" * 65, "é" * 33, "x" * 10_000])
def test_a_name_of_more_than_64_bytes(option: str, name: str | bytes, invalid: Invalid) -> None:
    message = invalid("uts", **{option: name})
    assert option in message
    assert f"{len(os.fsencode(name))} bytes" in message
    assert "at most 64" in message


@pytest.mark.parametrize("option", ["hostname", "domainname"])
@pytest.mark.parametrize("name", ["a\0b", b"\0", "lab\0"])
def test_a_name_with_nul(option: str, name: str | bytes, invalid: Invalid) -> None:
    message = invalid("uts", **{option: name})
    assert option in message
    assert "NUL" in message


@pytest.mark.parametrize("option", ["hostname", "domainname"])
@pytest.mark.parametrize("name", [1, ["lab"], 1.5])
def test_a_name_that_is_no_text(option: str, name: Any, invalid: Invalid) -> None:
    assert "str or bytes" in invalid("uts", **{option: name})


@pytest.mark.parametrize("argv", [[], (), iter([])])
def test_an_empty_argv(argv: Any, invalid: Invalid) -> None:
    assert "argv must not be empty" in invalid("uts", argv)


@pytest.mark.parametrize("argv", [3, 3.5, None, object(), [3], ["true", None], ["true", 3]])
def test_an_argv_that_is_no_text(argv: Any, invalid: Invalid) -> None:
    with pytest.raises(TypeError):
        nslab.spawn("uts", argv)
    assert invalid("uts", argv)


@pytest.mark.parametrize("argv", [["true", "a\0b"], ["tr\0ue"], [b"true", b"\0"], "true\0"])
def test_nul_in_an_argument(argv: Any, invalid: Invalid) -> None:
    assert "null byte" in invalid("uts", argv)


@pytest.mark.unprivileged
def test_an_argument_of_131_072_bytes(refused: Refused) -> None:
    error = refused("execve", errno.E2BIG, 0, ["true", "x" * 131_072])
    assert "131 071" in (error.hint or "")


MAPS: list[tuple[Any, str]] = [
    ([(0, 0, 10), (5, 100, 10)], "overlap inside"),
    ([(0, 100, 10), (20, 105, 10)], "overlap outside"),
    ([(0, 0, 1), (0, 0, 1)], "overlap"),
    ([(0, 0, 0)], "at least 1"),
    ([(i, i, 1) for i in range(341)], "at most 340"),
    ([(-1, 0, 1)], "ids from 0 to 4294967294"),
    ([(0, -1, 1)], "ids from 0 to 4294967294"),
    ([(0, 0, -1)], "ids from 0 to 4294967294"),
    ([(0, 2**32 - 1, 1)], "last id"),
    ([(2**32 - 1, 0, 1)], "last id"),
    ([(1, 0, 2**32 - 1)], "last id"),
    ([(0, 2**32, 1)], "ids from 0 to 4294967294"),
    ([], "empty"),
    ([(0, 0)], "(inside, outside, count)"),
    ([(0, 0, 1, 1)], "(inside, outside, count)"),
    ("everyone", '"auto"'),
    (5, "map_"),
    ([5], "map_"),
    ([("a", "b", "c")], "ids from 0 to 4294967294"),
    ([(0.5, 0, 1)], "ids from 0 to 4294967294"),
]


@pytest.mark.parametrize("option", ["map_users", "map_groups"])
@pytest.mark.parametrize(("ranges", "said"), MAPS, ids=[str(number) for number in range(len(MAPS))])
def test_an_id_map_that_the_kernel_would_refuse(option: str, ranges: Any, said: str, invalid: Invalid) -> None:
    message = invalid("user", **{option: ranges})
    assert option in message
    assert said in message


def test_an_id_map_as_long_as_the_kernel_takes() -> None:
    ranges = [(i, i, 1) for i in range(340)]
    if ROOT:
        assert nslab.spawn("user", ["true"], map_users=ranges, map_groups=ranges).wait() == 0


@pytest.mark.parametrize("value", ["maybe", 1, True, b"deny"])
def test_a_setgroups_that_is_no_word(value: Any, invalid: Invalid) -> None:
    message = invalid("user", map_root_user=True, setgroups=value)
    assert "'allow' or 'deny'" in message


@pytest.mark.parametrize("value", ["privat", "", "PRIVATE", "rprivate"])
def test_a_propagation_that_is_no_word(value: str, invalid: Invalid) -> None:
    message = invalid("mnt", propagation=value)
    assert all(word in message for word in ("private", "slave", "shared", "unchanged"))


def test_two_maps_of_the_caller_at_once(invalid: Invalid) -> None:
    message = invalid("user", map_root_user=True, map_current_user=True)
    assert "map_root_user" in message
    assert "map_current_user" in message


@pytest.mark.parametrize("option", ["monotonic", "boottime"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_offset_that_is_no_number(option: str, value: float, invalid: Invalid) -> None:
    assert "finite" in invalid("time", **{option: value})


@pytest.mark.parametrize("option", ["monotonic", "boottime"])
@pytest.mark.parametrize("value", [-(10**9), 10**10, -(10**10), 2**63, -(2**63), 10**30, 1e18, -1e300])
def test_an_offset_beyond_what_the_kernel_takes(option: str, value: float, invalid: Invalid) -> None:
    assert re.search("negative|beyond", invalid("time", **{option: value}))


@pytest.mark.parametrize("value", ["1", b"1", [1], True, datetime.date(2000, 1, 1)])
def test_an_offset_of_another_type(value: Any, invalid: Invalid) -> None:
    assert "timedelta" in invalid("time", monotonic=value)


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("program", "number"),
    [
        ("/nonexistent", errno.ENOENT),
        ("no-such-program", errno.ENOENT),
        ("/etc/passwd", errno.EACCES),
        ("/etc", errno.EACCES),
        ("/etc/passwd/true", errno.ENOTDIR),
        ("/" + "x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_a_program_that_cannot_be_executed(program: str, number: int, refused: Refused) -> None:
    error = refused("execve", number, 0, [program])
    assert error.filename == program
    assert program in str(error)


@pytest.mark.unprivileged
def test_a_program_without_its_first_line(tmp_path: Path, refused: Refused) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    error = refused("execve", errno.ENOEXEC, 0, [str(script)])
    assert "#!" in (error.hint or "")


@pytest.mark.unprivileged
def test_a_missing_directory_is_named_and_not_the_program(refused: Refused) -> None:
    error = refused("chdir", errno.ENOENT, 0, ["/nonexistent"], cwd="/no/such/directory")
    assert error.filename == "/no/such/directory"
    assert "/nonexistent" not in str(error)


@pytest.mark.parametrize("options", [{"user": "no-such-user"}, {"group": "no-such-group"}, {"user": -2}])
def test_an_unknown_user_is_what_subprocess_says(options: dict[str, Any], invalid: Invalid) -> None:
    with pytest.raises((KeyError, ValueError)) as theirs:
        subprocess.run(["true"], check=False, **options)
    with pytest.raises(type(theirs.value)) as ours:
        nslab.spawn("uts", ["true"], **options)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("options", [{"user": 2**32 - 1}, {"group": 2**32 - 1}, {"extra_groups": [0, 2**32 - 1]}])
def test_the_number_that_is_no_id(options: dict[str, Any], invalid: Invalid) -> None:
    assert invalid(0, ["true"], **options) == "4294967295 is no id: for the kernel it means to leave it as it is"


def test_pass_fds_that_are_not_open(refused: Refused) -> None:
    refused("pass_fds", errno.EBADF, "uts", pass_fds=[1000])


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_stream_that_is_no_descriptor(stream: str, refused: Refused) -> None:
    refused("stdio", errno.EBADF, 0, **{stream: -4})


def test_no_descriptor_is_left() -> None:
    error = inside(0, _no_descriptor)
    assert (error.step, error.errno) == ("clone", errno.EMFILE)
    assert str(error).startswith("[Errno 24] clone: Too many open files")


def _no_descriptor() -> nslab.SpawnError:
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    with contextlib.suppress(OSError):
        while True:
            os.dup(0)
    try:
        nslab.spawn("uts", ["true"])
    except nslab.SpawnError as error:
        return error
    raise AssertionError("there was one")


def test_the_last_descriptor_is_one_of_the_standard_streams() -> None:
    assert inside(0, _only_descriptor_0) == ("clone", errno.EMFILE)


def _only_descriptor_0() -> tuple[str, int | None]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    with contextlib.suppress(OSError):
        while True:
            os.dup(1)
    os.close(0)
    with pytest.raises(nslab.SpawnError) as caught:
        nslab.spawn(0, ["sleep", "60"])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    os.dup(1)
    return caught.value.step, caught.value.errno


@pytest.mark.unprivileged
def test_no_namespace_of_this_kind_may_be_made() -> None:
    inside("user", _sysctl_is_named, map_root_user=True)


def _sysctl_is_named() -> None:
    Path("/proc/sys/user/max_uts_namespaces").write_text("0")
    error = refusal("uts")
    assert (error.step, error.errno) == ("clone", errno.ENOSPC)
    assert "user.max_uts_namespaces" in (error.hint or "")


def test_without_privilege_and_without_user() -> None:
    error = as_nobody(refusal, "uts net")
    assert (error.step, error.errno) == ("clone", errno.EPERM)
    assert isinstance(error, PermissionError)
    assert 'add "user" to the flags' in (error.hint or "")


def test_the_child_is_killed_during_set_up() -> None:
    error = inside(0, _killed)
    assert (error.signal, error.errno, error.step) == (signal.SIGSYS, None, "sethostname")


def _killed() -> nslab.SpawnError:
    seccomp.kill("sethostname")
    return refusal("uts", {"hostname": "lab"})


def test_a_message_is_one_line(invalid: Invalid, refused: Refused) -> None:
    messages = [
        invalid("utz"),
        invalid(0, hostname="lab"),
        invalid("user", map_users=[(0, 0, 1)] * 400),
        str(refused("execve", errno.ENOENT, 0, ["/nonexistent\n"])),
        str(refused("execve", errno.E2BIG, 0, [sys.executable, "\n" * 200_000])),
    ]
    for message in messages:
        assert "\n" not in message
        assert len(message) < 300
