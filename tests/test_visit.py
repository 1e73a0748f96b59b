"""A child that enters another namespace for the caller: what it brings home, and that it leaves no trace."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import seccomp
from conftest import ROOT, WALL, spawn
from nested import as_nobody, fork, inside

import nslab
from nslab import _core


@contextmanager
def lab(flags: str = "uts net ipc cgroup", **options: Any) -> Iterator[nslab.Process]:
    with spawn(flags, ["cat"], stdin=nslab.PIPE, **options) as process:
        yield process


def names(process: nslab.Process) -> tuple[str, str]:
    """Return the host and the domain name of its UTS namespace."""
    fd = process.namespaces["uts"].open()
    try:
        return _core.hostname(fd)
    finally:
        os.close(fd)


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", ["lab", "x" * 64, "", "a b", "\udcff\udcfe", "ü"])
def test_the_names_of_a_uts_namespace(name: str) -> None:
    with lab(hostname=name, domainname=name[::-1]) as process:
        assert names(process) == (name, name[::-1])


@pytest.mark.unprivileged
def test_the_callers_own_names() -> None:
    own = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        host, domain = _core.hostname(own)
    finally:
        os.close(own)
    assert host == os.uname().nodename
    assert domain == Path("/proc/sys/kernel/domainname").read_text().rstrip("\n")


def visits(process: nslab.Process) -> None:
    """Enter one namespace after the other."""
    assert names(process) == ("lab", "nis")
    assert [link.name for link in nslab.network(process).links][:1] == ["lo"]
    assert nslab.ipc(process).note is None
    assert nslab.cgroup(process).note is None


def standing(*threads: int) -> dict[str, object]:
    """Return where these threads of this process stand, and what they may do."""
    found: dict[str, object] = {}
    for task in (Path(f"/proc/self/task/{thread}") for thread in threads):
        found[task.name] = {path.name: path.readlink() for path in (task / "ns").iterdir()}
        status = (task / "status").read_text().splitlines()
        found[f"{task.name} status"] = [
            line for line in status if line.startswith(("Uid", "Gid", "Cap", "SigB", "SigI", "SigC"))
        ]
    return found


@pytest.mark.unprivileged
def test_the_caller_does_not_move() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with lab(hostname="lab", domainname="nis") as process:
            threads = threading.get_native_id(), thread.native_id or 0
            before = standing(*threads)
            visits(process)
            assert standing(*threads) == before
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(not ROOT, reason="needs another user")
def test_into_the_user_namespace_of_somebody_else() -> None:
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    argv += ["unshare", "--user", "--map-root-user", "--uts", "--net", "--ipc", "--cgroup", "sh", "-c"]
    argv += ["hostname lab; echo ready; exec cat"]
    with nslab.spawn("", argv, stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        found = nslab.namespaces(process.pid)
        fd = found["uts"].open()
        assert _core.hostname(fd)[0] == "lab"
        os.close(fd)
        assert nslab.network(process.pid).namespace == found["net"]
        assert nslab.ipc(process.pid).note is None
        assert nslab.cgroup(process.pid).note is None
    # What the fixture looks at most of all: the caller is as dumpable as it was.


@pytest.mark.unprivileged
def test_signals_are_for_the_caller_alone() -> None:
    here, seen = os.getpid(), []
    before = signal.signal(signal.SIGVTALRM, lambda *_: seen.append(os.getpid()))
    with lab(hostname="lab", domainname="nis") as process:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
        try:
            while len(seen) < 20:
                visits(process)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
    assert set(seen) == {here}


@pytest.mark.unprivileged
@pytest.mark.parametrize("action", [signal.SIG_IGN, "handler"])
def test_nobody_is_told_of_the_child(action: Any) -> None:
    told: list[int] = []
    with lab(hostname="lab", domainname="nis") as process:
        before = signal.signal(signal.SIGCHLD, (lambda *_: told.append(1)) if action == "handler" else action)
        try:
            for _ in range(20):
                visits(process)
        finally:
            signal.signal(signal.SIGCHLD, before)
    assert not told


def take_children(stop: threading.Event, flags: int, taken: list[int]) -> None:
    while not stop.is_set():
        with suppress(ChildProcessError):
            taken.append(os.waitpid(-1, os.WNOHANG | flags)[0])


@pytest.mark.unprivileged
@pytest.mark.parametrize("flags", [0, WALL])
def test_while_another_thread_reaps_every_child(flags: int) -> None:
    inside("", _while_reaping, flags)


def _while_reaping(flags: int) -> None:
    with lab(hostname="lab", domainname="nis") as process:
        stop, taken = threading.Event(), list[int]()
        thread = threading.Thread(target=take_children, args=(stop, flags, taken))
        thread.start()
        try:
            for _ in range(50):
                visits(process)
        finally:
            stop.set()
            thread.join()
        if not flags:
            assert not any(taken)


def without_descriptors() -> set[int | None]:
    """Take away every free descriptor but a few, and return why the visits failed."""
    found: set[int | None] = set()
    with lab(hostname="lab", domainname="nis") as process:
        fd = process.namespaces["net"].open()
        before = os.listdir("/proc/self/fd")
        highest = os.dup(fd)
        os.close(highest)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        for room in range(6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, limit[1]))
            try:
                _core.network(fd)
                found.add(0)
            except OSError as error:
                found.add(error.errno)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        assert os.listdir("/proc/self/fd") == before
        os.close(fd)
    return found


@pytest.mark.unprivileged
def test_without_a_free_descriptor() -> None:
    assert inside("", without_descriptors) == {0, errno.EMFILE}


def without_processes() -> int | None:
    with lab() as process:
        fd = process.namespaces["uts"].open()
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        try:
            _core.hostname(fd)
        except OSError as error:
            return error.errno
        finally:
            os.close(fd)
    return None


def test_at_the_limit_of_processes() -> None:
    assert as_nobody(without_processes) == errno.EAGAIN


@pytest.mark.unprivileged
def test_in_a_forked_process() -> None:
    with lab(hostname="lab", domainname="nis") as process:
        visits(process)
        child = fork()
        if child == 0:
            try:
                visits(process)
                os._exit(0)
            except BaseException as error:
                print(error, file=sys.stderr)
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.unprivileged
def test_a_process_that_is_stopped() -> None:
    with lab(hostname="lab", domainname="nis") as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        visits(process)
        process.send_signal(signal.SIGCONT)


@pytest.mark.unprivileged
def test_a_namespace_that_no_process_is_in() -> None:
    with lab(hostname="lab", domainname="nis") as process:
        fds = {kind: process.namespaces[kind].open() for kind in ("uts", "net", "ipc")}
    assert _core.hostname(fds["uts"]) == ("lab", "nis")
    assert [link["name"] for link in _core.network(fds["net"])[0]][:1] == ["lo"]
    assert [refused for _, refused in _core.ipc(fds["ipc"])] == [None] * 4
    for fd in fds.values():
        os.close(fd)


@pytest.mark.unprivileged
def test_what_is_no_namespace() -> None:
    with open(os.devnull) as file:
        for call in (_core.hostname, _core.network, _core.ipc):
            with pytest.raises(OSError) as caught:
                call(file.fileno())
            assert caught.value.errno == errno.ENOTTY
    with pytest.raises(OSError) as caught:
        _core.hostname(-1)
    assert caught.value.errno == errno.EBADF


@pytest.mark.unprivileged
def test_from_a_small_thread_beside_busy_ones() -> None:
    stop = threading.Event()
    busy = [threading.Thread(target=lambda: [bytes(1000) for _ in iter(stop.is_set, True)]) for _ in range(2)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                visits(process)
        except BaseException as error:
            failures.append(error)

    with lab(hostname="lab", domainname="nis") as process:
        size = threading.stack_size(256 * 1024)
        small = threading.Thread(target=work)
        threading.stack_size(size)
        for thread in [*busy, small]:
            thread.start()
        small.join()
        stop.set()
        for thread in busy:
            thread.join()
    assert not failures


def refused(call: str, function: Callable[[nslab.Process], object]) -> int | None:
    with lab(hostname="lab", domainname="nis") as process:
        seccomp.refuse(call, errno.EPERM)
        try:
            function(process)
        except PermissionError as error:
            return error.errno
    return None


@pytest.mark.unprivileged
@pytest.mark.parametrize("call", ["setns", "clone"])
def test_where_a_filter_forbids_it(call: str) -> None:
    for function in (nslab.network, nslab.ipc, names):
        assert inside("", refused, call, function) == errno.EPERM


@pytest.mark.unprivileged
def test_it_survives_an_interrupt() -> None:
    script = (
        "import nslab, sys\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    while True: nslab.network(); nslab.ipc()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 7
