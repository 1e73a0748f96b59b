"""Named hosts: found by other processes, entered from a terminal."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT, with_user
from nested import inside, interpreter, mount

import nslab

COMMAND = [sys.executable, "-m", "nslab"]


def host(flags: Any, **options: Any) -> nslab.Host:
    bits, options = with_user(flags, options)
    return nslab.Host(bits, **options)


def command(*words: str) -> tuple[int, str, str]:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.unprivileged
def test_they_are_listed() -> None:
    assert nslab.hosts() == []
    with host("uts", name="b"), host("uts net", name="a") as a, host("ipc"):
        found = nslab.hosts()
        assert [each.name for each in found] == ["a", "b"]
        assert (found[0].pid, found[0].owner) == (a.pid, os.getpid())
        assert set(found[0].namespaces) >= {"net", "uts"}
        assert found[0].to_dict()["name"] == "a"
    assert nslab.hosts() == []


@pytest.mark.unprivileged
def test_one_is_found_and_used() -> None:
    with host("uts pid", name="web", hostname="web") as made:
        found = nslab.Host.find("web")
        assert (found.pid, found.name, found.alive) == (made.pid, "web", True)
        assert found.namespaces == made.namespaces
        assert found.run(["sh", "-c", "uname -n"], capture_output=True).stdout == b"web\n"
        with found.spawn(["sleep", "600"]) as process:
            assert made.pids() == found.pids() == [process.pid]
            process.kill()
        found.close()
        found.close()
        assert not found.alive
        assert made.alive
        with pytest.raises(ProcessLookupError):
            found.run(["true"])


@pytest.mark.unprivileged
def test_one_that_was_found_ends_with_its_maker() -> None:
    with host("uts", name="web"):
        found = nslab.Host.find("web")
    assert not found.alive
    with pytest.raises(ProcessLookupError):
        found.run(["true"])


@pytest.mark.unprivileged
def test_a_name_is_taken_once() -> None:
    with host("uts", name="web") as made:
        with pytest.raises(FileExistsError) as caught:
            host("net", name="web")
        assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, "web")
        assert [found.pid for found in nslab.hosts()] == [made.pid]
    with host("net", name="web") as again:
        assert again.alive


def claim(name: str) -> None:
    """Take the name, or say why not; keep it until somebody closes our input."""
    bits, options = with_user("uts", {})
    try:
        with nslab.Host(bits, name=name, **options):
            print("got it", flush=True)
            sys.stdin.read()
    except FileExistsError:
        print("taken", flush=True)
        sys.stdin.read()


@pytest.mark.unprivileged
def test_of_many_who_want_it_one_gets_it() -> None:
    words = interpreter(claim, "wanted")
    all_of_them = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(6)]
    said = [process.stdout.readline() for process in all_of_them if process.stdout]
    assert sorted(said) == [b"got it\n", *[b"taken\n"] * 5]
    for process in all_of_them:
        process.communicate()


@pytest.mark.unprivileged
def test_who_is_not_there() -> None:
    with pytest.raises(ProcessLookupError, match="no host has the name web"):
        nslab.Host.find("web")
    with pytest.raises(ValueError, match="a host's name is"):
        nslab.Host.find("../web")


def hosts_of_nobody() -> list[str]:
    assert len(nslab.hosts()) == 1
    os.setuid(65534)
    return [found.name for found in nslab.hosts()]


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_another_users_are_not_ours() -> None:
    with nslab.Host("uts", name="roots"):
        assert "roots" not in inside(0, hosts_of_nobody)


# ----------------------------------------------------------------------------------------------------- the command


@pytest.mark.unprivileged
def test_nslab_hosts() -> None:
    assert command("hosts") == (0, "NAME  PID  OWNER  NAMESPACES\n", "")
    with host("uts", name="web") as made:
        status, output, _ = command("hosts")
        assert status == 0
        assert re.fullmatch(rf"web +{made.pid} +{os.getpid()} +.*uts", output.splitlines()[1])
        [found] = json.loads(command("hosts", "--json")[1])
        assert (found["name"], found["pid"]) == ("web", made.pid)


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["web", "--", "uname", "-n"], (0, "web\n")),
        (["web", "uname", "-n"], (0, "web\n")),
        (["web", "sh", "-c", "exit 3"], (3, "")),
        (["web", "sh", "-c", "kill -TERM $$"], (128 + signal.SIGTERM, "")),
        (["--wd", "/proc", "web", "pwd"], (0, "/proc\n")),
        (["web", "no-such-program"], (127, "")),
    ],
)
def test_nslab_enter(words: list[str], expected: tuple[int, str]) -> None:
    with host("uts", name="web", hostname="web"):
        status, output, _ = command("enter", *words)
        assert (status, output) == expected


@pytest.mark.unprivileged
def test_nslab_enter_what_is_not_there() -> None:
    status, output, complaint = command("enter", "web", "true")
    assert (status, output) == (125, "")
    assert complaint == "nslab: no host has the name web (nslab hosts: there is none)\n"
    status, _, complaint = command("enter")
    assert status == 2
    assert "required: NAME" in complaint


class Terminal:
    """A shell on a terminal of its own, in whose foreground ``nslab enter`` runs."""

    def __init__(self, script: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        argv = ["setsid", "--ctty", "sh", "-c", script]
        environment = {**os.environ, "PS1": "ready> ", "ENV": "/dev/null", "TERM": "dumb"}
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)

    def until(self, words: str) -> str:
        said = ""
        while words not in said:
            assert select.select([self.master], [], [], 30)[0], f"it waits, and has said {said!r}"
            try:
                said += os.read(self.master, 65536).decode()
            except OSError:  # EIO: nobody has the terminal open any more
                raise AssertionError(f"it has ended, and had said {said!r}") from None
        return said

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        os.close(self.master)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with host("all", map_root_user=True, name="web", hostname="web", mount_proc=True):
        words = " ".join(COMMAND)
        made = Terminal(f"{words} enter web bash --norc --noediting -i; echo status $?; exec cat")
        try:
            made.until("ready> ")
            yield made
        finally:
            made.close()


@pytest.mark.unprivileged
def test_a_shell_has_the_terminal_and_its_size(terminal: Terminal) -> None:
    terminal.type("stty size; tty; uname -n; echo d''one\n")
    said = terminal.until("done")
    assert "33 77" in said
    assert "web" in said
    assert "not a tty" not in said
    assert "no job control" not in said


@pytest.mark.unprivileged
def test_the_interrupt_ends_the_program_and_not_the_shell(terminal: Terminal) -> None:
    # Once it says so, it is in the foreground.
    terminal.type("sh -c 'echo g''o; exec sleep 600'\n")
    terminal.until("go\r\n")
    terminal.type("\x03")
    terminal.until("ready> ")
    terminal.type("echo $?\n")
    assert "130" in terminal.until("ready> ")


@pytest.mark.unprivileged
def test_job_control(terminal: Terminal) -> None:
    terminal.type("sh -c 'echo go; kill -STOP $$; echo on'\n")
    terminal.until("Stopped")
    terminal.type("jobs; fg\n")
    assert "Stopped" in terminal.until("on\r\nready> ")
    terminal.type("cat\n")
    terminal.until("cat\r\n")
    terminal.type("echoed\n")
    assert terminal.until("echoed\r\nechoed")
    terminal.type("\x1a")
    terminal.until("Stopped")
    terminal.type("kill %1; wait; echo d''one\n")
    terminal.until("done")


@pytest.mark.unprivileged
def test_whoever_comes_after_has_the_terminal_again(terminal: Terminal) -> None:
    terminal.type("exit 5\n")
    terminal.until("status 5")
    # A group in the background would be stopped by its first read.
    terminal.type("mine\n")
    terminal.until("mine\r\nmine")


def written_by_a_host() -> list[str]:
    sys.dont_write_bytecode = True
    mount("none", "/mnt", "tmpfs")
    for place in ("/run", "/tmp"):
        # What this process and its children write there appears below /mnt; what others do does not.
        upper, work = f"/mnt{place}", f"/mnt{place}-work"
        os.mkdir(upper)
        os.mkdir(work)
        layers = f"lowerdir={place},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", place], check=True)
    with nslab.Host("net uts", name="written"):
        assert "written" in [found.name for found in nslab.hosts()]
        return os.listdir("/mnt/run") + os.listdir("/mnt/tmp")


@pytest.mark.unprivileged
def test_nothing_is_written_anywhere() -> None:
    assert inside("mnt", written_by_a_host) == []
