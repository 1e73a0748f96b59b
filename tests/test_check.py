"""`nslab.check`: what holds is a line on standard output, what does not is a sentence that teaches."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, spawn
from nested import inside, mount

import nslab
from nslab import check

pytestmark = pytest.mark.unprivileged

ALL: dict[str, Any] = {
    "map_root_user": True,
    "hostname": "lab",
    "mount_proc": True,
    "loopback": True,
    "boottime": 86_400,
    "monotonic": 5,
}


def child() -> nslab.Process:
    return nslab.spawn("all", ["cat"], stdin=nslab.PIPE, **ALL)


def plain() -> nslab.Process:
    return nslab.spawn(0, ["cat"], stdin=nslab.PIPE)


HOLDS: list[tuple[str, Callable[[Any], None], str]] = [
    ("isolated", lambda p: check.isolated(p, "uts"), "is in a uts namespace of its own"),
    ("isolated, all", lambda p: check.isolated(p, "all"), "is in a time namespace of its own"),
    ("isolated, alias", lambda p: check.isolated(p, "mount"), "is in a mnt namespace of its own"),
    ("is_pid1", check.is_pid1, "is PID 1 of its pid namespace"),
    ("hostname", lambda p: check.hostname(p, "lab"), "is 'lab'"),
    ("uid_map", lambda p: check.uid_map(p, [(0, os.geteuid(), 1)]), "is (0, "),
    ("gid_map", lambda p: check.gid_map(p, [(0, os.getegid(), 1)]), "is (0, "),
    ("link_up", check.link_up, "lo is up"),
    ("mounted", lambda p: check.mounted(p, "/proc", "proc"), "has a proc on /proc"),
    ("propagation", lambda p: check.propagation(p, "private"), "/ is private"),
    ("clock_offset", lambda p: check.clock_offset(p, boottime=86_400, monotonic=5), "is +86400 s"),
]

FAILS: list[tuple[str, Callable[[Any], None], str, str]] = [
    ("isolated", lambda p: check.isolated(p, "uts"), "in a uts namespace of its own, but it is in the host's", "uts"),
    ("is_pid1", check.is_pid1, "to be PID 1 of a pid namespace, but it is in the host's", "pid"),
    ("hostname", lambda p: check.hostname(p, "other"), "expected the host name 'other'", 'hostname="other"'),
    ("uid_map", lambda p: check.uid_map(p, [(7, 8, 9)]), "the uid_map (7, 8, 9)", "map_root_user=True"),
    ("gid_map", lambda p: check.gid_map(p, []), "the gid_map empty", "map_root_user=True"),
    ("no such link", lambda p: check.link_up(p, "nothing0"), "a device nothing0", "`ip link`"),
    ("link_down", lambda p: check.link_down(p, "nothing0"), "a device nothing0", "`ip link`"),
    ("not mounted", lambda p: check.mounted(p, "/no/such/mount"), "a mount on /no/such/mount", "`findmnt`"),
    ("other type", lambda p: check.mounted(p, "/", "nofs"), "expected a nofs on /", "mount -t nofs"),
    ("propagation", lambda p: check.propagation(p, "unbindable"), "/ to be unbindable", 'propagation="unbindable"'),
    ("clock_offset", lambda p: check.clock_offset(p, boottime=1), "+1 s from the host's", "boottime=1"),
    ("exited", check.exited, "to have ended, but it still runs", "wait() for it"),
]


@pytest.mark.parametrize(("name", "call", "says"), HOLDS, ids=[row[0] for row in HOLDS])
def test_what_holds(capsys: pytest.CaptureFixture[str], name: str, call: Callable[[Any], None], says: str) -> None:
    with child() as process:
        call(process)
        captured = capsys.readouterr()
        call(process.pid)
    assert says in captured.out
    assert all(line.startswith("✓ ") for line in captured.out.splitlines())
    assert captured.err == ""


@pytest.mark.parametrize(("name", "call", "says", "hint"), FAILS, ids=[row[0] for row in FAILS])
def test_what_does_not_hold(
    capsys: pytest.CaptureFixture[str],
    name: str,
    call: Callable[[Any], None],
    says: str,
    hint: str,
) -> None:
    with plain() as process, pytest.raises(check.CheckError) as caught:
        call(process)
    sentence, _, help_text = str(caught.value).partition(". Hint: ")
    assert sentence.startswith("expected ")
    assert says in sentence
    assert hint in help_text
    assert "\n" not in sentence
    assert caught.value._render_traceback_() == [f"✗ {caught.value}"]
    assert capsys.readouterr() == ("", "")


def test_every_check_has_both_tests() -> None:
    checks = {name for name in check.__all__ if name not in ("CheckError", "attempt")}
    tested = {
        name for name in checks if any(name in row[0] or f"check.{name}" in inspect.getsource(row[1]) for row in FAILS)
    }
    assert tested >= checks - {"shares", "no_mount_leak"}


def test_shares(capsys: pytest.CaptureFixture[str]) -> None:
    with child() as own, plain() as shared:
        check.shares(shared, "uts", "net")
        assert capsys.readouterr().out.count("✓") == 2
        with pytest.raises(
            AssertionError, match=r'in the host\'s uts namespace, .* Hint: leave "uts" out of the flags'
        ):
            check.shares(own, "uts")


def test_isolated_from_another() -> None:
    with child() as own, plain() as shared:
        check.isolated(own, "uts", other=shared)
        with pytest.raises(AssertionError, match=f"but it is in that of pid {own.pid}"):
            check.isolated(own, "uts", other=own)


def test_which_types() -> None:
    with pytest.raises(ValueError, match="name at least one type"):
        check.isolated(os.getpid())
    with pytest.raises(ValueError, match="did you mean 'uts'"):
        check.isolated(os.getpid(), "utss")


def test_a_child_of_init_is_not_init() -> None:
    with spawn("pid", ["sh", "-c", "sleep 60 & echo; wait"], stdout=nslab.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        (grandchild,) = nslab.processes(process).roots[0].children
        with pytest.raises(AssertionError, match="but there it is 2"):
            check.is_pid1(grandchild)
        process.kill()


def test_what_is_known_of_a_process_that_has_ended() -> None:
    with spawn("uts", ["true"]) as process:
        process.wait()
    check.isolated(process, "uts")
    check.exited(process, 0)
    with pytest.raises(AssertionError, match="to end with 3, but it ended with 0"):
        check.exited(process, 3)
    with pytest.raises(ProcessLookupError):
        check.hostname(process, "lab")


def test_link_down() -> None:
    with spawn("net", ["cat"], stdin=nslab.PIPE) as process:
        check.link_down(process)
        with pytest.raises(AssertionError, match=r"to be up .* but it is down. Hint: loopback=True"):
            check.link_up(process)


def test_a_mount_that_leaks() -> None:
    inside("mnt pid", _leak, mount_proc=True)


def _leak() -> None:
    mount("none", "/", flags=1 << 20 | 16384)  # MS_SHARED | MS_REC
    before = nslab.mounts()
    script = "mount -t tmpfs leaky /mnt"
    nslab.run("mnt pid", ["sh", "-c", script], check=True)
    check.no_mount_leak(before)
    nslab.run("mnt pid", ["sh", "-c", script], propagation="unchanged", check=True)
    with pytest.raises(AssertionError, match=r"there is /mnt \(tmpfs\)\. Hint: .*`umount /mnt` repairs"):
        check.no_mount_leak(before)
    with pytest.raises(AssertionError):
        check.no_mount_leak(before, nslab.mounts())
    check.no_mount_leak(nslab.mounts(), before)


@pytest.mark.parametrize("strict", [False, True])
def test_an_attempt(strict: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if strict:
        monkeypatch.setenv("NSLAB_STRICT", "1")
    for error in (AssertionError("wrong"), NameError("name 'mine' is not defined")):
        try:
            with check.attempt():
                raise error
        except (AssertionError, NameError) as caught:
            assert strict
            assert caught is error
        else:
            assert not strict
            assert capsys.readouterr() == (f"not yet: {error}\n", "")
    with pytest.raises(ZeroDivisionError), check.attempt():
        raise ZeroDivisionError


def test_an_attempt_can_be_strict() -> None:
    with pytest.raises(AssertionError), check.attempt(strict=True):
        check.isolated(os.getpid(), "uts")


def test_nothing_is_written_to_standard_error() -> None:
    assert "stderr" not in Path(check.__file__).read_text()
    assert ROOT or os.geteuid()
