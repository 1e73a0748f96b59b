"""KeyboardInterrupt at any moment: no child, thread or descriptor is left that nobody can reach."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import seccomp
from conftest import WALL, assert_no_child, other_threads
from interrupting import interrupted_at
from nested import inside
from proof.held import descriptors

import nslab


def test_an_interrupt_while_a_spawn_is_held_ends_the_child() -> None:
    inside(0, _interrupted_while_held)


def _interrupted_while_held() -> None:
    held = seccomp.Held("sethostname")
    main = threading.get_ident()

    def interrupt() -> None:
        held.wait()
        signal.pthread_kill(main, signal.SIGINT)
        held.let_go()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            nslab.spawn("uts", ["sleep", "60"], hostname="lab")
        future.result()
    gc.collect()
    assert_no_child()


def test_interrupts_at_random_moments_leave_no_child() -> None:
    inside(0, _interrupted_at_random)


def _interrupted_at_random() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    gc.freeze()
    moments, inside_it = random.Random(1), 0
    for number in range(600):
        made, depth = None, 0
        try:
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-6, 2e-3))
            try:
                made = nslab.spawn("uts", ["true"]) if number % 2 else nslab.run("uts", ["true"], capture_output=True)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt as caught:
            depth = len(list(traceback.walk_tb(caught.__traceback__)))
        if isinstance(made, nslab.Process):
            made.wait()
        elif depth == 2:
            # It came to this function and its handler: between the return and the assignment, if it was a spawn.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)
        inside_it += depth > 2
        gc.collect()
        assert_no_child()
    assert inside_it > 50


def _call_pumped() -> object:
    with contextlib.redirect_stdout(io.StringIO()):
        return nslab.call("uts", os.getpid)


def _host() -> object:
    with nslab.Host("uts") as host:
        return host.run(["true"]).returncode


def _pool() -> object:
    with nslab.Pool("ipc", size=1) as pool:
        return pool.run(["true"]).returncode


def _found() -> object:
    with nslab.Host("uts", name="found"):
        return nslab.Host.find("found").run(["true"]).returncode


def _shell() -> object:
    with nslab.shell("uts") as sh:
        return sh.run("true").returncode


def _executor() -> object:
    with nslab.Executor("uts", max_workers=1) as executor:
        return executor.submit(os.getpid).result()


# `cat` reads what `_interrupted_at_each` never writes, so a child that is lost ends with the interpreter.
CALLS: dict[str, Callable[[], object]] = {
    "spawn": lambda: nslab.spawn("uts", ["cat"], hostname="lab"),
    "spawn with pipes": lambda: nslab.spawn("user", ["cat"], stdin=-1, stdout=-1, stderr=-1, map_root_user=True),
    "spawn with kill_child": lambda: nslab.spawn("pid", ["cat"], kill_child=True),
    "Popen": lambda: nslab.Popen(["cat"], flags="uts"),
    "Plan.spawn": lambda: nslab.plan("uts", ["cat"]).spawn(),
    "run": lambda: nslab.run("uts", ["true"]),
    "run with pipes": lambda: nslab.run("uts", ["true"], capture_output=True, input=b""),
    "run with a timeout": lambda: nslab.run("uts", ["cat"], timeout=0.001),
    "call": lambda: nslab.call("uts", os.getpid),
    "call with pumped output": _call_pumped,
    "Host": _host,
    "Host.find": _found,
    "Pool": _pool,
    "Executor": _executor,
    "shell": _shell,
}
# Those that look through all processes.
LOOKING = {"Host", "Host.find", "shell"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_at_any_moment_leaves_no_child_and_no_descriptor(call: str) -> None:
    if call in LOOKING:
        # Where there are few.
        inside("pid mnt", _interrupted_at_each, call, mount_proc=True, init=True)
    else:
        inside(0, _interrupted_at_each, call)


def _interrupted_at_each(name: str) -> None:
    os.dup2(os.pipe()[0], 0)
    # Only what is made from here on has to be looked through.
    gc.freeze()
    call = CALLS[name]
    # Imports that are interrupted are another matter.
    interrupted_at(call, None)
    gc.collect()
    moment, before = 0, descriptors()
    while where := interrupted_at(call, moment):
        gc.collect()
        signal.alarm(30)
        while other_threads():
            os.sched_yield()
        signal.alarm(0)
        with pytest.raises(ChildProcessError):
            left = os.waitpid(-1, os.WNOHANG | WALL)
            pytest.fail(f"interrupted in {where}: left {left}")
        more = descriptors() - before
        # What `subprocess` has just opened for a stream, it loses itself.
        before += {kind: more.pop(kind, 0) for kind in ("pipe", "/dev/null")}
        assert not more, where
        moment += 1
    assert moment > 2


def test_an_executor_goes_on_after_an_interrupt_in_submit() -> None:
    inside(0, _submits)


def _submits() -> None:
    def submit() -> None:
        futures.append(executor.submit(abs, -1))

    futures: list[Future[int]] = []
    with nslab.Executor("uts", max_workers=1) as executor:
        moment: int | None = None
        while interrupted_at(submit, moment) or moment is None:
            # One that was half given out has cost its worker, and no more: another one does this.
            assert executor.submit(abs, -2).result(30) == 2
            moment = 0 if moment is None else moment + 1
        assert {future.result(30) for future in futures} == {1}
    assert moment > 5


def test_a_pool_has_a_set_for_the_next_after_an_interrupt() -> None:
    inside(0, _takes)


def _takes() -> None:
    signal.alarm(60)
    with nslab.Pool("ipc", size=1) as pool:
        moment: int | None = None
        while interrupted_at(lambda: pool.run(["true"]), moment) or moment is None:
            assert pool.run(["true"]).returncode == 0
            moment = 0 if moment is None else moment + 1
    signal.alarm(0)
    assert moment > 5


def test_an_interrupt_leaves_no_thread_inside_and_nothing_bound(tmp_path: Path) -> None:
    inside("mnt", _moves_and_binds, tmp_path / "bound")


def _moves_and_binds(place: Path) -> None:
    def visit() -> None:
        with host.enter("net mnt"):
            pass

    def bind() -> None:
        nslab.persist(host, place)
        nslab.unpersist(place)

    def state() -> list[str]:
        here = [os.readlink(f"/proc/thread-self/ns/{kind}") for kind in ("net", "mnt")]
        return [*here, *sorted(os.listdir("/proc/self/fd")), Path("/proc/self/mountinfo").read_text(), os.getcwd()]

    with nslab.Host("net mnt") as entered, nslab.Host("net") as host:
        for call in (bind, visit):
            interrupted_at(call, None)
            before, moment = state(), 0
            while where := interrupted_at(call, moment, spared=("unpersist",)):
                assert (state(), place.exists()) == (before, False), (where, set(state()) ^ set(before))
                moment += 1
            assert moment > 20
            host = entered
