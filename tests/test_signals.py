"""Signals: what the program starts with, what reaches it, and what ends it with its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, ignored_here, sh, signal_sets, spawn, with_user
from nested import inside, interpreter

import nslab

# Tells when it is ready, and leaves with 42 on SIGTERM, also on one that comes before it sleeps.
POLITE = [
    sys.executable,
    "-c",
    "import os, signal, sys\n"
    "read, write = os.pipe()\n"
    "os.set_blocking(write, False)\n"
    "signal.set_wakeup_fd(write)\n"
    "signal.signal(15, lambda *_: sys.exit(42))\n"
    "print('ready', flush=True)\n"
    "while os.read(read, 1): pass",
]


def ended(pidfd: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(milliseconds))


def masks(flags: Any = "uts", **options: Any) -> dict[str, set[int]]:
    """Return the sets of signals in the child's /proc/self/status."""
    bits, options = with_user(flags, options)
    done = nslab.run(bits, ["cat", "/proc/self/status"], capture_output=True, text=True, **options)
    return signal_sets(done.stdout)


@pytest.mark.unprivileged
@pytest.mark.parametrize("kill_child", [False, True])
def test_sig_01_the_signal_mask_is_inherited_as_in_subprocess(kill_child: bool) -> None:
    assert masks(kill_child=kill_child)["SigBlk"] == set()
    blocked = {signal.SIGUSR1, signal.SIGRTMAX}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        assert masks(kill_child=kill_child)["SigBlk"] == blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_sig_02_handlers_are_reset_and_ignored_signals_stay_ignored() -> None:
    inside(0, _with_handlers)


def _with_handlers() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    for kill_child in (False, True):
        seen = masks(kill_child=kill_child)
        assert seen["SigCgt"] == set()
        assert seen["SigIgn"] == ignored_here()
        assert signal.SIGUSR2 in seen["SigIgn"]


@pytest.mark.unprivileged
def test_sig_03_what_python_ignores_is_restored_unless_told_not_to() -> None:
    pythons = {signal.SIGPIPE, signal.SIGXFSZ}
    ignored = ignored_here()
    assert pythons <= ignored
    assert masks()["SigIgn"] == ignored - pythons
    assert masks(restore_signals=False)["SigIgn"] == ignored


@pytest.mark.unprivileged
@pytest.mark.parametrize("reaped", [False, True])
def test_sig_05_a_signal_to_who_has_ended_does_nothing(reaped: bool) -> None:
    child = spawn("uts", ["true"])
    if reaped:
        child.wait()
    else:
        assert ended(child.pidfd, 10_000)
    child.send_signal(signal.SIGTERM)
    child.terminate()
    child.kill()
    assert child.wait() == 0


def test_wai_12_a_signal_never_reaches_another_process_with_the_same_pid() -> None:
    inside("pid mnt", _pid_used_again, mount_proc=True)


def _pid_used_again() -> None:
    first = nslab.spawn(0, ["sh", "-c", "exit 3"])
    # As any other part of a program may do.
    os.waitpid(first.pid, 0)
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(first.pid - 1))
    second = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert second.pid == first.pid
    for send in (first.terminate, first.kill, lambda: first.send_signal(signal.SIGHUP)):
        send()
    second.communicate()
    assert second.returncode == 0


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["", "uts", "pid"])
def test_fwd_01_a_signal_reaches_the_program_itself_and_its_status_comes_back(flags: str) -> None:
    with spawn(flags, POLITE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.terminate()
        assert child.wait() == 42


@pytest.mark.unprivileged
@pytest.mark.parametrize(("flags", "status"), [("uts", -signal.SIGTERM), ("pid", -signal.SIGKILL)])
def test_stop_kills_only_what_sigterm_does_not_end(flags: str, status: int) -> None:
    with spawn(flags, ["cat"], stdin=nslab.PIPE) as child:
        assert child.stop(timeout=0.05) == status == child.returncode


@pytest.mark.unprivileged
def test_stop_returns_the_programs_own_status() -> None:
    with spawn("pid", POLITE, stdout=nslab.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.stop(timeout=60) == 42
        assert child.stop() == 42


def _spawn_and_wait(flags: str, kill_child: int | bool, options: dict[str, Any]) -> None:
    bits, options = with_user(flags, options)
    child = nslab.spawn(bits, ["sleep", "60"], kill_child=kill_child, **options)
    print(child.pid, flush=True)
    child.wait()


def ends_with_its_parent(flags: str, kill_child: int | bool, sig: int = signal.SIGKILL, **options: Any) -> bool:
    """Let an interpreter spawn a child, end the interpreter, return whether the child ended soon."""
    command = interpreter(_spawn_and_wait, flags, kill_child, options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert not ended(pidfd, 0)
            parent.send_signal(sig)
            parent.wait()
            # The wish to survive shows at once; the end may take the kernel a moment.
            if ended(pidfd, 60_000 if kill_child else 100):
                return True
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return False
        finally:
            os.close(pidfd)


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", ["", "uts", "pid"])
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_pds_01_killed_with_its_parent_however_that_ends(flags: str, sig: int) -> None:
    assert ends_with_its_parent(flags, True, sig)


@pytest.mark.unprivileged
def test_pds_01_another_signal_than_kill() -> None:
    assert ends_with_its_parent("uts", int(signal.SIGHUP))


def test_pds_01_survives_its_parent_unless_told_not_to() -> None:
    assert not ends_with_its_parent("uts", False)


@pytest.mark.unprivileged
def test_pds_01_not_killed_when_the_thread_that_spawned_it_ends() -> None:
    with spawn("uts", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE, kill_child=True) as before:
        pass
    made: list[nslab.Process] = []

    def work() -> None:
        made.append(spawn("uts", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE, kill_child=True))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with made[0] as child:
        assert child.communicate(b"still here") == (b"still here", None)
    assert (before.returncode, child.returncode) == (0, 0)


@pytest.mark.skipif(not ROOT, reason="only root may become another user")
def test_pds_03_still_killed_after_a_change_of_ids() -> None:
    assert ends_with_its_parent("uts", True, user=65534, group=65534, extra_groups=[])


def test_pds_03_killed_in_a_user_namespace_with_many_ids() -> None:
    assert ends_with_its_parent("user pid", True, map_users=[(0, 0, 10)], map_groups=[(0, 0, 10)])


def test_pds_04_a_signal_that_pid_1_would_ignore(invalid: Callable[..., str]) -> None:
    assert "kill_child=True" in invalid("pid", kill_child=signal.SIGTERM)


@pytest.mark.parametrize("number", [-1, 65, 1000])
def test_pds_04_what_is_no_signal(number: int, invalid: Callable[..., str]) -> None:
    assert "1 to 64" in invalid("uts", kill_child=number)


@pytest.mark.unprivileged
def test_pid_1_ignores_what_it_does_not_handle() -> None:
    # The program asks for its own answer after each signal, so it is there and has not been asked to leave.
    with spawn("pid", ["cat"], stdin=nslab.PIPE, stdout=nslab.PIPE) as child:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            child.send_signal(number)
        assert child.communicate(b"alive") == (b"alive", None)
    assert child.returncode == 0
    assert sh("pid", "kill -TERM $$; echo alive") == (0, "alive")
