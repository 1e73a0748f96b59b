"""Many threads, forked processes, interrupts: nobody waits for a spawn, and no child is lost."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import pytest
import seccomp
from conftest import ROOT, assert_no_child, sh
from nested import inside

import nslab

# Flags, options, and what a shell prints then.
MIX: list[tuple[str, dict[str, Any], str, str]] = [
    ("", {}, "echo plain", "plain"),
    ("uts", {"hostname": "{}"}, "uname -n", "{}"),
    ("pid", {}, "echo $$", "1"),
    ("user", {"map_root_user": True}, "id -u", "0"),
    ("user uts", {"map_users": [(0, 0, 5)], "map_groups": [(0, 0, 5)], "hostname": "{}"}, "uname -n", "{}"),
    ("mnt pid", {"mount_proc": True}, "read pid rest < /proc/self/stat; echo $pid", "1"),
    ("ipc cgroup time", {"monotonic": 1000}, "awk '/mono/ {print $2}' /proc/self/timens_offsets", "1000"),
    ("uts", {"join": "/proc/self/ns/ipc", "hostname": "{}", "kill_child": True}, "uname -n", "{}"),
]


def test_con_01_eight_threads_of_mixed_spawns() -> None:
    with ThreadPoolExecutor(8) as pool:
        wrong = [found for batch in pool.map(_mixed, range(8)) for found in batch]
    assert not wrong


def _mixed(thread: int) -> list[str]:
    wrong = []
    for number in range(200):
        flags, options, script, expected = MIX[(thread + number) % len(MIX)]
        name = f"t{thread}n{number}"
        options = {key: name if value == "{}" else value for key, value in options.items()}
        if (found := sh(flags, script, **options)) != (0, expected.format(name)):
            wrong.append(f"{flags} {options}: {found}")
    return wrong


@pytest.mark.skipif(not ROOT, reason="only root may become somebody else")
def test_threads_that_spawn_as_somebody_else_leave_this_process_dumpable() -> None:
    """The fixture of all tests looks at the flag afterwards; a lost one is lost for good."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: sh("", "id -u", user=65534), range(400)))
    assert found == [(0, "65534")] * 400


def test_con_03_the_interpreter_goes_on_while_a_spawn_is_held() -> None:
    inside(0, _held)


def _held() -> None:
    held = seccomp.Held("sethostname")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(nslab.run, "uts", ["uname", "-n"], hostname="lab", stdout=nslab.PIPE)
        # Without the lock of the interpreter this thread would get no further than here.
        held.wait()
        assert nslab.run("uts", ["echo", "meanwhile"], stdout=nslab.PIPE).stdout == b"meanwhile\n"
        assert not future.done()
        held.let_go()
        assert future.result().stdout == b"lab\n"


def test_lim_19_a_program_that_hangs_in_execve_holds_only_its_caller() -> None:
    inside(0, _held_in_execve)


def _held_in_execve() -> None:
    held = seccomp.Held("execve")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(nslab.spawn, "uts", ["/bin/true"])
        held.wait()
        assert not future.done()
        held.let_go()
        assert future.result().wait() == 0


@pytest.mark.unprivileged
def test_con_04_a_user_namespace_from_a_process_with_a_hundred_threads() -> None:
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    try:
        assert sh("user uts pid", "id -u; uname -n; echo $$", map_root_user=True, hostname="lab") == (0, "0\nlab\n1")
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_con_06_spawns_in_forked_processes_while_threads_spawn() -> None:
    inside(0, _forks)


def _forks() -> None:
    # A lock that a fork has copied in its locked state would hang for ever.
    signal.alarm(60)
    # Python 3.12 warns of what this is about.
    warnings.simplefilter("ignore", DeprecationWarning)
    context, end = multiprocessing.get_context("fork"), threading.Event()

    def work() -> None:
        while not end.is_set():
            assert nslab.spawn("uts", ["true"], kill_child=True).wait() == 0

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        for _ in range(20):
            child = context.Process(target=_in_fork)
            child.start()
            child.join()
            assert child.exitcode == 0
        end.set()
        for worker in workers:
            worker.result()
    _in_fork()


def _in_fork() -> None:
    for options in ({"hostname": "lab"}, {"hostname": "lab", "kill_child": True}):
        done = nslab.run("uts pid", ["uname", "-n"], stdout=nslab.PIPE, **options)
        assert (done.returncode, done.stdout) == (0, b"lab\n")


def test_con_08_a_subinterpreter_works_or_refuses_the_import() -> None:
    inside(0, _subinterpreter)


def _subinterpreter() -> None:
    try:
        interpreters = import_module("_interpreters")
    except ImportError:
        interpreters = import_module("_xxsubinterpreters")
    code = """
try:
    import nslab
except ImportError as error:
    assert "interpreter" in str(error), error
else:
    assert nslab.spawn("uts", ["true"]).wait() == 0
"""
    failure = interpreters.run_string(interpreters.create(), code)
    assert failure is None, failure


def test_con_11_a_process_dropped_without_wait_is_reaped_later_as_in_subprocess() -> None:
    inside(0, _dropped)


def _dropped() -> None:
    read, write = os.pipe()
    process = nslab.spawn("uts", ["cat"], stdin=read)
    pid = process.pid
    with pytest.warns(ResourceWarning, match=f"subprocess {pid} is still running"):
        del process
        gc.collect()
    os.close(write)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert nslab.spawn("uts", ["true"]).wait() == 0
    assert_no_child()


def test_con_11_a_running_process_that_is_dropped_runs_on() -> None:
    inside(0, _dropped_alive)


def _dropped_alive() -> None:
    read, write = os.pipe()
    process = nslab.spawn("uts", ["cat"], stdin=read)
    pidfd = os.pidfd_open(process.pid)
    with pytest.warns(ResourceWarning):
        del process
        gc.collect()
    signal.pidfd_send_signal(pidfd, 0)
    os.close(write)
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED)


def test_threads_that_ask_first_at_the_same_time_share_the_keeper() -> None:
    inside(0, _one_keeper)


def _one_keeper() -> None:
    start = threading.Barrier(12)

    def first() -> None:
        start.wait()
        assert nslab.spawn(0, ["true"], kill_child=True).wait() == 0

    threads = [threading.Thread(target=first) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Those of the keepers that came too late end by themselves, soon.
    signal.alarm(20)
    while len(os.listdir("/proc/self/task")) != 2:
        os.sched_yield()
    signal.alarm(0)
