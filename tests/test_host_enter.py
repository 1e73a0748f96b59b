"""``host.enter``: one thread inside, and exactly back."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from conftest import ROOT, assert_unchanged, inode, snapshot
from nested import as_nobody, inside, mount

import nslab
from nslab import _core

T = TypeVar("T")
KINDS = ["cgroup", "ipc", "mnt", "net", "uts"]
pytestmark = pytest.mark.skipif(not ROOT, reason="needs root: an ordinary user's rights are within the user namespace")


def here(kind: str) -> int:
    """Return the inode of a namespace of this thread."""
    return os.stat(f"/proc/thread-self/ns/{kind}").st_ino


def in_a_thread(function: Callable[[], T]) -> T:
    """Return what it returns in a thread that ends with it; what it raises is raised here."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    returned, value = outcome[0]
    if not returned:
        raise value
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str) -> None:
    with nslab.Host(kind) as host:

        def visit() -> None:
            before = {name: here(name) for name in KINDS}
            with host.enter(kind):
                assert {name: here(name) for name in KINDS} == before | {kind: host.namespaces[kind].inode}
            assert {name: here(name) for name in KINDS} == before

        in_a_thread(visit)


def test_all_at_once() -> None:
    with nslab.Host("cgroup ipc mnt net uts pid time", hostname="web", loopback=True) as host:

        def visit() -> None:
            place = snapshot()
            with host.enter("cgroup ipc mnt net uts"):
                assert all(here(kind) == host.namespaces[kind].inode for kind in KINDS)
                assert os.uname().nodename == "web"
            assert_unchanged(place)

        in_a_thread(visit)


def test_no_other_thread_moves() -> None:
    with nslab.Host("net uts", hostname="web") as host, host.enter("net uts"):
        assert in_a_thread(lambda: os.uname().nodename) == "web", "a thread begins where its maker is"
        script = "readlink /proc/self/ns/net"
        inner = nslab.run(0, ["sh", "-c", script], capture_output=True, text=True).stdout
        assert inner == f"net:[{host.namespaces['net'].inode}]\n"

    with nslab.Host("net uts", hostname="web") as host:
        inside, seen = threading.Barrier(2), []

        def visit() -> None:
            with host.enter("net uts"):
                inside.wait()
                inside.wait()
                seen.append(os.uname().nodename)

        thread = threading.Thread(target=visit)
        thread.start()
        inside.wait()
        assert os.uname().nodename != "web"
        assert here("net") == inode("net")
        inside.wait()
        thread.join()
        assert seen == ["web"]


def test_the_directory_and_the_root_come_back(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with nslab.Host("mnt") as host:

        def visit() -> None:
            _core.unshare_fs()
            os.chdir(tmp_path / "below")
            with host.enter("mnt"):
                assert os.getcwd() == "/"
            assert os.getcwd() == str(tmp_path / "below")
            os.chroot(tmp_path)
            assert os.listdir("/") == ["below"]

        in_a_thread(visit)
    assert os.path.isdir("/proc/self")


def chrooted(directory: str) -> list[str]:
    """Enter and leave from a root that is not that of the mount namespace."""
    mount("proc", f"{directory}/proc", "proc")
    with nslab.Host("mnt") as host:
        # Before there is nothing to import from.
        entered = host.enter("mnt")
        os.chroot(directory)
        os.chdir("/below")
        before = os.stat("/")
        with entered:
            assert not os.path.samestat(os.stat("/"), before)
        assert os.path.samestat(os.stat("/"), before)
        return [os.getcwd(), *sorted(os.listdir("/"))]


def test_a_root_that_was_changed_comes_back(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "proc").mkdir()
    assert inside("mnt pid", chrooted, str(tmp_path)) == ["/below", "below", "proc"]


def test_mounts_made_inside_stay_inside() -> None:
    with nslab.Host("mnt") as host:

        def visit() -> None:
            with host.enter("mnt"):
                mount("none", "/mnt", "tmpfs")
                Path("/mnt/inside").touch()

        in_a_thread(visit)
        assert host.run(["ls", "/mnt"], capture_output=True, text=True).stdout == "inside\n"
    assert not Path("/mnt/inside").exists()


def test_one_in_the_other() -> None:
    with nslab.Host("uts", hostname="a") as a, nslab.Host("uts net", hostname="b") as b:
        own = os.uname().nodename
        with a.enter("uts"):
            with b.enter("uts"):
                assert os.uname().nodename == "b"
                with a.enter("uts"):
                    assert os.uname().nodename == "a"
                assert os.uname().nodename == "b"
            assert os.uname().nodename == "a"
        assert os.uname().nodename == own


def test_it_comes_back_from_an_exception_too() -> None:
    before = here("uts")
    with nslab.Host("uts") as host, pytest.raises(ZeroDivisionError), host.enter("uts"):
        1 // 0  # noqa: B018
    assert here("uts") == before


def test_a_host_that_ends_meanwhile() -> None:
    before = here("uts")
    with nslab.Host("uts", hostname="web") as host:
        with host.enter("uts"):
            host.close()
            # The thread itself keeps the namespace.
            assert os.uname().nodename == "web"
        assert here("uts") == before


def test_leaving_out_of_order_is_refused_and_can_be_made_good() -> None:
    before = here("net"), here("uts")
    with nslab.Host("net uts") as host, ExitStack() as stack:
        outer, inner = host.enter("net"), host.enter("uts")
        outer.__enter__()
        stack.callback(outer.__exit__, None, None, None)
        inner.__enter__()
        stack.callback(inner.__exit__, None, None, None)
        with pytest.raises(RuntimeError, match="another namespace since"):
            outer.__exit__(None, None, None)
        assert here("net") != before[0]
    assert (here("net"), here("uts")) == before


def test_leaving_in_another_thread_is_refused() -> None:
    with nslab.Host("net") as host, host.enter("net") as entered:
        with pytest.raises(RuntimeError, match="moves only itself back"):
            in_a_thread(lambda: entered.__exit__(None, None, None))
        with pytest.raises(RuntimeError, match="entered already"):
            entered.__enter__()


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ("pid", "children only.*host.run"),
        ("user", "several threads.*host.run"),
        ("time", "several threads.*host.run"),
        ("net pid", "children only"),
        ("ipc", "no ipc namespace of its own"),
        ("", "at least one"),
        ("nett", "did you mean 'net'"),
    ],
)
def test_what_no_thread_can_enter(kinds: str, words: str) -> None:
    with nslab.Host("net pid user time") as host:
        before = snapshot()
        with pytest.raises(ValueError, match=words):
            host.enter(kinds)
        assert_unchanged(before)


def test_only_the_maker_enters() -> None:
    with nslab.Host("net", name="other"), pytest.raises(ValueError, match="only the process that made"):
        nslab.Host.find("other").enter("net")


def refused_to_nobody() -> tuple[str, int, str]:
    with nslab.Host("user net", map_root_user=True) as host:
        # Once per process: the thread for `kill_child`, which must not be born inside.
        nslab.run(0, ["true"], kill_child=True)
        before = snapshot()
        try:
            with host.enter("net"):
                raise AssertionError("it was not refused")
        except PermissionError as error:
            assert_unchanged(before)
            assert isinstance(error, nslab.SpawnError)
            return error.step, error.errno or 0, error.hint or ""


def test_without_the_right_to() -> None:
    step, number, hint = as_nobody(refused_to_nobody)
    assert (step, number) == ("setns", errno.EPERM)
    assert "CAP_SYS_ADMIN" in hint


def test_a_thread_that_was_started_inside_keeps_nobody_there() -> None:
    with nslab.Host("mnt") as host:

        def visit() -> None:
            before, go_on = here("mnt"), threading.Event()
            with host.enter("mnt"):
                thread = threading.Thread(target=go_on.wait)
                thread.start()
            assert here("mnt") == before
            go_on.set()
            thread.join()

        in_a_thread(visit)


@pytest.mark.parametrize("kill_child", [False, True])
def test_programs_that_are_started_inside_are_inside(kill_child: bool) -> None:
    kinds = ["ipc", "mnt", "net", "uts"]
    with nslab.Host(kinds) as host:

        def visit() -> None:
            with host.enter(kinds):
                os.chdir("/proc")
                process = nslab.spawn(0, ["sleep", "60"], kill_child=kill_child)
                function = nslab.call(0, os.stat, "/proc/self/ns/uts")
            assert os.readlink(f"/proc/{process.pid}/cwd") == "/proc"
            assert function.st_ino == host.namespaces["uts"].inode
            for kind in kinds:
                # Also when this thread is somewhere else.
                assert process.namespaces[kind] == host.namespaces[kind]
                assert inode(kind, process.pid) == host.namespaces[kind].inode
            process.kill()
            process.wait()
            assert nslab.run(0, ["true"], kill_child=kill_child).returncode == 0
            with nslab.spawn(0, ["cat"], kill_child=kill_child, stdin=nslab.PIPE) as later:
                assert inode("net", later.pid) == here("net")

        in_a_thread(visit)
