"""The pid namespace: which signals arrive, and from whom."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
from pathlib import Path

import pytest
from conftest import inode, sh, spawn
from nested import LIBC, checked, inside, interpreter

import nslab


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", ["KILL", "TERM", "USR1"])
def test_pid_04_pid_1_survives_its_own_signals(name: str) -> None:
    assert sh("pid", f"kill -{name} $$; exit 3") == (3, "")
    assert sh(0, f"kill -{name} $$; exit 3")[0] == -signal.Signals[f"SIG{name}"]


@pytest.mark.unprivileged
def test_pid_08_pid_1_ignores_what_it_has_no_handler_for() -> None:
    with spawn("pid", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as child:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            child.send_signal(number)
        child.terminate()
        # Not just alive at this moment: none is pending, and it still does its work.
        pending = [line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if "Pnd" in line]
        assert [line.split()[1] for line in pending] == ["0" * 16] * 2
        assert child.communicate("still here\n") == ("still here\n", None)
    assert child.returncode == 0


@pytest.mark.unprivileged
def test_pid_08_stop_kills_where_sigterm_does_nothing() -> None:
    assert spawn("pid", ["sleep", "100"]).stop(timeout=0.05) == -signal.SIGKILL
    assert spawn(0, ["sleep", "100"]).stop(timeout=100) == -signal.SIGTERM


def sender() -> int:
    """Wait for SIGUSR1, which is blocked, and return who sent it."""
    # Not for ever: where it never comes, the test shall fail soon.
    info = signal.sigtimedwait({signal.SIGUSR1}, 20)
    assert info
    return info.si_pid


def print_the_sender() -> None:
    """Runs in the child: wait for SIGUSR1 and print who sent it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    print("ready", flush=True)
    print(sender())


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["pid", ""])
def test_pid_09_a_sender_outside_has_no_pid(flags: str) -> None:
    with spawn(flags, interpreter(print_the_sender), stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGUSR1)
        assert int(child.stdout.readline()) == (0 if flags else os.getpid())


class SigEvent(ctypes.Structure):
    """struct sigevent, see sigevent(3type)."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_char * 48),
    )


def open_queue() -> int:
    """Open the message queue ``/q`` of this ipc namespace, and make it if there is none."""
    return checked(LIBC.mq_open(b"/q", os.O_RDWR | os.O_CREAT, 0o600, None))


def send_message() -> None:
    """Send something to the queue."""
    checked(LIBC.mq_send(open_queue(), b"x", ctypes.c_size_t(1), 0))


def ask_for_notice() -> None:
    """Ask for SIGUSR1 at the next message."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    event = SigEvent(signo=signal.SIGUSR1, notify=0)
    checked(LIBC.mq_notify(open_queue(), ctypes.byref(event)))


def print_the_messages_sender() -> None:
    """Runs in the child: print who sent a message."""
    ask_for_notice()
    print("ready", flush=True)
    print(sender())


def message_from_outside(flags: str) -> tuple[int, int]:
    """Return the sender's pid as the receiver, a child in these namespaces, sees it, and as it is."""
    with spawn(flags, interpreter(print_the_messages_sender), stdout=nslab.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        send_message()
        return int(child.stdout.readline()), os.getpid()


def message_from_inside(flags: str) -> tuple[int, int]:
    """The same with the child as sender."""
    ask_for_notice()
    with spawn(flags, interpreter(send_message)) as child:
        return sender(), child.pid


def test_pid_12_the_sender_of_a_message_is_numbered_as_the_receiver_counts() -> None:
    seen, pid = inside("ipc", message_from_outside, "")
    assert seen == pid
    seen, pid = inside("ipc", message_from_outside, "pid")
    assert seen == 0
    seen, pid = inside("ipc", message_from_inside, "pid")
    assert seen == pid


F_SETSIG = 10


def print_the_signal_of(fd: int) -> None:
    """Runs in the child: own the descriptor, and print what comes when it becomes readable."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, F_SETSIG, signal.SIGUSR1)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    print("ready", flush=True)
    sender()
    print(os.getpid(), os.read(fd, 10).decode(), flush=True)


def test_pid_14_a_descriptors_signal_crosses_namespaces() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = interpreter(print_the_signal_of, theirs.fileno())
        with spawn("pid", reader, pass_fds=[theirs.fileno()], stdout=nslab.PIPE, text=True) as child:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            assert nslab.run("pid", ["sh", "-c", "echo $$"], stdout=ours).returncode == 0
            assert child.stdout.readline() == "1 1\n"


RESTART, POWER_OFF = 0x01234567, 0x4321FEDC


def reboot(command: int, host: int) -> None:
    """Runs as PID 1 of a namespace of its own, else does nothing."""
    assert os.getpid() == 1
    assert inode("pid") != host
    checked(LIBC.reboot(ctypes.c_int(command)))


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("command", "number"), [(RESTART, signal.SIGHUP), (POWER_OFF, signal.SIGINT)], ids=["restart", "power off"]
)
def test_pid_23_a_reboot_ends_pid_1_with_a_signal(command: int, number: int) -> None:
    # Always with a user namespace: its root has no power over the machine.
    argv = interpreter(reboot, command, inode("pid"))
    assert nslab.run("user pid", argv, map_root_user=True).returncode == -number
