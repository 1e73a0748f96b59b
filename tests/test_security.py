"""What docs/security.md promises and no other test shows already."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PR_GET_DUMPABLE, ROOT, sh, with_user
from nested import LIBC, MS_BIND, MS_REC, MS_SHARED, as_nobody, checked, inside, interpreter, mount, refusal

import nslab

NOBODY = 65534
PR_SET_DUMPABLE = 4
as_root = pytest.mark.skipif(not ROOT, reason="needs root, to prepare what an ordinary user must not reach")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


# --------------------------------------------------------------------------------------- descriptors, environment, cwd


def seen_by_programs() -> dict[str, tuple[list[int], list[int]]]:
    """Return, for each way to start a program, the descriptors it should have and those it has."""
    kept = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    bits, options = with_user("uts pid", {})
    pooled, _ = with_user("net", {})
    seen = {}

    def look(name: str, start: Callable[..., nslab.Process], **more: object) -> None:
        expected = [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_inheritable(fd)]
        # And the directory that is listed, at the first number that is free.
        expected.append(min(set(range(99)) - set(expected)))
        with start(["ls", "/proc/self/fd"], close_fds=False, stdout=nslab.PIPE, text=True, **more) as process:
            seen[name] = sorted(expected), sorted(map(int, process.communicate()[0].split()))

    # All that keeps a descriptor of nslab's own: pidfds, sockets, pipes, namespaces, lifelines of hosts.
    with (
        nslab.Host(bits, name="security", **options) as host,
        nslab.Pool(pooled, size=2, **options) as pool,
        nslab.Executor(bits, max_workers=1, **options) as executor,
        nslab.spawn(bits, ["cat"], kill_child=True, stdin=nslab.PIPE, stdout=nslab.PIPE, **options),
        nslab.spawn(bits, ["cat"], init=True, stdin=nslab.PIPE, **options),
    ):
        executor.submit(os.getpid).result()
        look("plain", lambda argv, **more: nslab.spawn(0, argv, **more))
        look("new", lambda argv, **more: nslab.spawn(bits, argv, **options, **more))
        look("killed with us", lambda argv, **more: nslab.spawn(bits, argv, kill_child=True, **options, **more))
        look("below an init", lambda argv, **more: nslab.spawn(bits, argv, init=True, **options, **more))
        look("in a host", host.spawn)
        look("in a pool", pool.spawn)
    os.close(kept)
    return seen


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the descriptor of listdir itself


@pytest.mark.unprivileged
def test_nothing_that_nslab_keeps_open_is_inherited() -> None:
    for name, (expected, seen) in inside(0, seen_by_programs).items():
        assert len(expected) == 5, expected
        assert seen == expected, name


@pytest.mark.unprivileged
def test_the_init_of_a_host_has_nothing_of_the_callers() -> None:
    bits, options = with_user("uts pid", {})
    with open("/dev/null") as kept, nslab.Host(bits, **options) as host:
        os.set_inheritable(kept.fileno(), True)
        # It closes the one by which it has said that it is ready right after that.
        deadline = time.monotonic() + 5
        while os.listdir(f"/proc/{host.pid}/fd") != ["0", "1", "2"] and time.monotonic() < deadline:
            os.sched_yield()
        found = {fd: os.readlink(f"/proc/{host.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{host.pid}/fd")}
        # By these it lives: the caller, whose end it waits for, and where it finds what to kill then.
        assert found == {"0": "anon_inode:[pidfd]", "1": "/dev/null", "2": "/proc"}
        assert Path(f"/proc/{host.pid}/environ").read_bytes() == b""
        assert os.readlink(f"/proc/{host.pid}/cwd") == "/"


@as_root
def test_a_program_starts_at_the_root_of_a_mount_namespace_that_it_joins(tmp_path: Path) -> None:
    with nslab.Host("mnt") as host:
        host.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
        there = inside(0, start_from, str(tmp_path), host.pid)
    # Not in the caller's directory, from which one could go on to what that mount covers.
    assert there == ["/", "/"]


def start_from(directory: str, pid: int) -> list[str]:
    os.chdir(directory)
    argv = ["readlink", "/proc/self/cwd", "/proc/self/root"]
    return str(nslab.run(0, argv, join=f"/proc/{pid}/ns/mnt", capture_output=True, text=True).stdout).split()


# ----------------------------------------------------------------------------------------------------- mounts, dumps


def proc_by_a_link(directory: str) -> tuple[str, bool]:
    mount("none", directory, "tmpfs")
    mount("none", directory, flags=MS_SHARED)
    there, link = Path(directory, "there"), Path(directory, "link")
    there.mkdir()
    link.symlink_to(there)
    before = Path("/proc/self/mountinfo").read_text()
    status, output = sh("pid mnt", f"cat {there}/1/comm", mount_proc=link)
    assert status == 0, output
    return output, Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.unprivileged
def test_a_proc_that_a_link_leads_astray_stays_inside(tmp_path: Path) -> None:
    assert inside("mnt", proc_by_a_link, str(tmp_path)) == ("sh", True)


def mounted_in_a_host(directory: str) -> tuple[bool, bool]:
    # As systemd has it: what is mounted would travel.
    mount("none", "/", flags=MS_REC | MS_SHARED)
    before = Path("/proc/self/mountinfo").read_text()
    with nslab.Host("mnt") as host:
        with host.enter("mnt"):
            mount("none", directory, "tmpfs")
        seen = host.run(["grep", f" {directory} ", "/proc/self/mountinfo"], stdout=nslab.DEVNULL)
        return seen.returncode == 0, Path("/proc/self/mountinfo").read_text() == before


@as_root
def test_mounts_in_a_host_stay_there(tmp_path: Path) -> None:
    assert inside("mnt", mounted_in_a_host, str(tmp_path)) == (True, True)


def spawned_while_not_dumpable() -> list[int]:
    checked(LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    found = []
    for options in ({"user": NOBODY}, {"group": NOBODY, "extra_groups": []}):
        nslab.run("uts", ["true"], check=True, **options)
        found.append(checked(LIBC.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)))
    return found


@as_root
def test_who_must_not_be_dumped_stays_so() -> None:
    assert inside(0, spawned_while_not_dumpable) == [0, 0]


# ------------------------------------------------------------------------------------------- outside of one's own


def reach_out(directory: str, pid: int) -> dict[str, str]:
    """Try what only root may, on things that are not in a namespace of our own; each would do no harm."""
    done = {}

    def attempt(name: str, action: Callable[[], object]) -> None:
        try:
            action()
            done[name] = "done"
        except OSError as error:
            done[name] = errno.errorcode[error.errno or 0]

    def packets() -> None:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()

    name = socket.gethostname().encode()
    attempt("read", lambda: Path(directory, "secret").read_text())
    attempt("write", lambda: Path(directory, "public").open("a").close())
    attempt("own", lambda: os.chown(f"{directory}/public", os.geteuid(), -1))
    attempt("make a device", lambda: os.mknod(f"{directory}/null{os.getpid()}", stat.S_IFCHR, os.makedev(1, 3)))
    attempt("name the host", lambda: checked(LIBC.sethostname(name, len(name))))
    attempt("mount", lambda: mount(directory, directory, flags=MS_BIND))
    attempt("see packets", packets)
    attempt("signal", lambda: os.kill(pid, 0))
    attempt("read memory", lambda: Path(f"/proc/{pid}/mem").open("rb").close())
    attempt("read an environment", lambda: Path(f"/proc/{pid}/environ").read_bytes())
    attempt("enter", lambda: nslab.run(0, ["true"], join=f"/proc/{pid}/ns/mnt"))
    attempt("become another user", lambda: os.setresuid(1, 1, 1))
    return done


def reach_out_of_a_user_namespace(directory: str, pid: int) -> dict[str, str]:
    return inside("user", reach_out, directory, pid, map_root_user=True)


@as_root
def test_an_ordinary_user_gains_nothing_outside(open_directory: Path) -> None:
    for name, mode in (("secret", 0o600), ("public", 0o644)):
        (open_directory / name).touch(mode)
    with nslab.spawn(0, ["cat"], stdin=nslab.PIPE) as of_root:
        where = str(open_directory), of_root.pid
        # As root, in a mount namespace of its own, each of them works: it is not for another reason that they fail.
        allowed = inside("mnt uts", reach_out, *where)
        assert set(allowed.values()) == {"done"}, allowed
        refused = as_nobody(reach_out_of_a_user_namespace, *where)
    assert refused == {
        "read": "EACCES",
        "write": "EACCES",
        "own": "EPERM",
        "make a device": "EPERM",
        "name the host": "EPERM",
        "mount": "EPERM",
        "see packets": "EPERM",
        "signal": "EPERM",
        "read memory": "EACCES",
        "read an environment": "EACCES",
        "enter": "EACCES",
        "become another user": "EINVAL",
    }


def touched_by_setuid(directory: str) -> list[int]:
    """Return who owns what a program that is set-user-ID root makes: plainly, and in a user namespace."""
    program = f"{directory}/touch"
    subprocess.run([program, f"{directory}/plain"], check=True)
    nslab.run("user mnt pid", [program, f"{directory}/inside"], map_root_user=True, check=True)
    return [os.stat(f"{directory}/{name}").st_uid for name in ("plain", "inside")]


@as_root
def test_set_user_id_of_root_means_nothing_inside(open_directory: Path) -> None:
    if os.statvfs(open_directory).f_flag & os.ST_NOSUID:
        pytest.skip(f"set-user-ID programs mean nothing on {open_directory}, which is mounted nosuid")
    shutil.copy("/usr/bin/touch", open_directory)
    (open_directory / "touch").chmod(0o4755)
    assert as_nobody(touched_by_setuid, str(open_directory)) == [0, NOBODY]


# ---------------------------------------------------------------------------------------------------- the id-map helper

HELPER = """#!/bin/sh
/bin/cat /proc/$$/environ >{directory}/environ
for word; do echo "$word"; done >{directory}/words
exit 1
"""


def with_a_false_helper(directory: str, path: str) -> nslab.SpawnError:
    os.chdir(directory)
    os.environ.update(PATH=path, LD_PRELOAD="", SECRET="1")
    return refusal("user", {"map_users": [(0, NOBODY, 1), (1, 100_000, 65536)]}, ("/bin/true",))


def false_helper(directory: Path) -> None:
    program = directory / "newuidmap"
    program.write_text(HELPER.format(directory=directory))
    program.chmod(0o755)


@as_root
def test_the_helper_gets_numbers_and_no_environment(open_directory: Path) -> None:
    false_helper(open_directory)
    error = as_nobody(with_a_false_helper, str(open_directory), str(open_directory))
    assert (error.step, error.errno) == ("newuidmap", errno.EPERM)
    pid, *ranges = (open_directory / "words").read_text().splitlines()
    assert pid.isdecimal()
    assert ranges == ["0", "65534", "1", "1", "100000", "65536"]
    assert (open_directory / "environ").read_bytes() == b""


@as_root
def test_the_helper_is_not_looked_for_in_relative_directories(open_directory: Path) -> None:
    false_helper(open_directory)
    error = as_nobody(with_a_false_helper, str(open_directory), ".::../" + open_directory.name)
    # As if there were none: the kernel itself refuses.
    assert (error.step, error.errno) == ("uid_map", errno.EPERM)
    assert not (open_directory / "words").exists()


@as_root
@pytest.mark.parametrize("option", ["map_users", "map_groups"])
def test_no_helper_maps_root(option: str) -> None:
    error = as_nobody(refusal, "user", {option: [(0, NOBODY, 1), (1, 0, 1)]})
    assert (error.step, error.errno) == ("newuidmap" if option == "map_users" else "newgidmap", errno.EPERM)


def host_with_many_ids() -> str:
    with nslab.Host("user", map_users="auto", map_groups="auto") as host:
        return str(host.run(["cat", "/proc/self/uid_map"], capture_output=True, text=True).stdout)


def host_of_nobody(directory: str) -> str:
    for name in ("subuid", "subgid"):
        Path(directory, name).write_text("nobody:100000:65536\n")
        mount(f"{directory}/{name}", f"/etc/{name}", flags=MS_BIND)
    return as_nobody(host_with_many_ids)


@as_root
def test_the_helper_works_where_no_program_is_started(tmp_path: Path) -> None:
    assert inside("mnt", host_of_nobody, str(tmp_path)).split() == ["0", "100000", "65536"]


# ------------------------------------------------------------------------------------------------------- terminals

INPUT = """
import errno, fcntl, os, termios
def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
print(attempt(lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x")))
print(attempt(lambda: os.close(os.open("/dev/tty", os.O_RDWR))))
print(attempt(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)))
"""


def type_as_a_child(start_new_session: bool) -> None:
    """On a terminal: have a child type into it, open it by its name, take it over; say what came of each."""
    nslab.run("user", [sys.executable, "-c", INPUT], map_root_user=True, start_new_session=start_new_session)


def type_on_a_terminal(start_new_session: bool) -> list[str]:
    master, slave = os.openpty()
    try:
        argv = ["setsid", "--ctty", "--wait", *interpreter(type_as_a_child, start_new_session)]
        return subprocess.run(argv, stdin=slave, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    finally:
        os.close(master)
        os.close(slave)


def legacy_tiocsti() -> bool:
    """Whether this kernel lets a process type into its own terminal; it always did before Linux 6.2."""
    switch = Path("/proc/sys/dev/tty/legacy_tiocsti")
    return not switch.exists() or switch.read_text() != "0\n"


@pytest.mark.unprivileged
def test_a_new_session_cannot_type_into_the_callers_terminal() -> None:
    typed = "done" if legacy_tiocsti() else "EIO"
    # Without one, the terminal is the program's too.
    assert as_nobody(type_on_a_terminal, False)[:2] == [typed, "done"]
    refused = "EPERM" if legacy_tiocsti() else "EIO"
    assert as_nobody(type_on_a_terminal, True) == [refused, "ENXIO", "EPERM"]


# ------------------------------------------------------------------------------------------------------ named hosts


@as_root
@pytest.mark.parametrize("mode", [0o711, 0o4755], ids=["not dumpable", "set-user-ID"])
def test_another_users_process_is_no_host_of_ours(mode: int, open_directory: Path) -> None:
    shutil.copy("/usr/bin/cat", open_directory)
    (open_directory / "cat").chmod(mode)
    # It waits for somebody who writes.
    os.mkfifo(open_directory / "impostor", 0o644)
    options: dict[str, Any] = {"executable": open_directory / "cat", "cwd": open_directory}
    options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    with subprocess.Popen(["nslab-host", "impostor", "uts"], **options) as liar:
        try:
            line = Path(f"/proc/{liar.pid}/cmdline")
            while not line.read_bytes():
                os.sched_yield()  # in the midst of execve(2)
            # The kernel shows it as root's.
            assert (line.read_bytes(), line.stat().st_uid) == (b"nslab-host\0impostor\0uts\0", 0)
            assert "impostor" not in [host.name for host in nslab.hosts()]
            with pytest.raises(ProcessLookupError, match="no host has the name impostor"):
                nslab.Host.find("impostor")
        finally:
            liar.send_signal(signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------------ persist


def persist_there(place: str) -> str:
    before = Path("/proc/self/mountinfo").read_text()
    with nslab.Host("uts") as host, pytest.raises((FileExistsError, PermissionError)) as caught:
        nslab.persist(host, place)
    assert Path("/proc/self/mountinfo").read_text() == before
    return type(caught.value).__name__


@as_root
def test_files_of_namespaces_go_where_no_link_leads(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    assert inside("mnt", persist_there, str(tmp_path / "link")) == "FileExistsError"
    assert os.listdir(tmp_path / "there") == []


@as_root
@pytest.mark.parametrize("others", ["owner", "group", "everybody"])
def test_files_of_namespaces_go_where_nobody_else_writes(others: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if others == "owner":
        os.chown(place, NOBODY, NOBODY)
    else:
        place.chmod(0o775 if others == "group" else 0o1777)
    assert inside("mnt", persist_there, str(place)) == "PermissionError"


def swapped(place: str, target: str) -> tuple[str, list[str]]:
    """Put a link where the directory was, between the check and the mount."""
    core: Any = importlib.import_module("nslab._core")
    bind = core.bind

    def late(*args: object) -> None:
        bind(*args)
        LIBC.umount2(os.fsencode(place), 2)
        os.rmdir(place)
        os.symlink(target, place)

    core.bind = late
    with nslab.Host("uts") as host, pytest.raises(OSError) as caught:
        nslab.persist(host, place)
    return type(caught.value).__name__, os.listdir(target)


@as_root
def test_a_link_that_appears_later_leads_nowhere(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    assert inside("mnt", swapped, str(tmp_path / "place"), str(target)) == ("FileExistsError", [])
