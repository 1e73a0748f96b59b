"""What every test gets: a shell in new namespaces, and the check that nothing is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nslab

ROOT = os.geteuid() == 0
PR_GET_DUMPABLE = 3
WALL = 0x40000000
KEYBOARD: dict[int, Any] = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """As an ordinary user, keep the tests that are meant for one."""
    if ROOT:
        return
    wanted = [item for item in items if item.get_closest_marker("unprivileged")]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted


def pytest_sessionstart() -> None:
    # A shell without job control ignores these for what it puts into the background, and so would all our children.
    for number, handler in KEYBOARD.items():
        signal.signal(number, handler)
    # Programs of tests buffer what they print, whatever the tests are run with.
    os.environ.pop("PYTHONUNBUFFERED", None)
    refuse_to_change_this_host()
    # Started once per process, at the first kill_child; it would look like a leak of the test that comes first.
    flags, options = with_user("", {"kill_child": True})
    nslab.run(flags, ["true"], **options)


def pytest_collection_finish() -> None:
    # What is there now stays; so `snapshot` need look only through what the tests make, which is most of their time.
    gc.freeze()


def refuse_to_change_this_host() -> None:
    """Stop if the namespaces are not new: what the tests mount, set and kill in them would be this host's."""
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
    _, output = sh(kinds, f"cd /proc/self/ns && stat -L -c '%n:%i' {' '.join(kinds)}")
    if set(output.split()) & {f"{kind}:{inode(kind)}" for kind in kinds} or len(output.split()) != len(kinds):
        pytest.exit(f"this build of nslab makes no namespaces: {output}", returncode=2)


def with_user(flags: Any, options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Add what an ordinary user needs to make namespaces: a user namespace in which he is root."""
    bits = int(nslab.plan(flags, ["true"])._core.flags)
    if bits and not ROOT and not bits & nslab.Namespace.USER:
        bits |= nslab.Namespace.USER
        options = {"map_root_user": True, **options}
    return bits, options


def sh(flags: Any, script: str, **options: Any) -> tuple[int, str]:
    """Run a shell script in new namespaces (for an ordinary user with the user namespace); return (status, output)."""
    bits, options = with_user(flags, options)
    done = nslab.run(
        bits, ["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    return done.returncode, done.stdout.strip()


def spawn(flags: Any, argv: Any, **options: Any) -> nslab.Process:
    """`nslab.spawn`, for an ordinary user with the user namespace."""
    bits, options = with_user(flags, options)
    return nslab.spawn(bits, argv, **options)


def inode(kind: str, pid: int | str = "self") -> int:
    """Return the inode of a namespace, read from /proc without nslab."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def signal_sets(status: str) -> dict[str, set[int]]:
    """Return the sets of signals (``SigBlk``, ``SigIgn``, …) in the text of a /proc/PID/status."""
    rows = re.findall(r"^(Sig\w+):\s*([0-9a-f]{16})$", status, re.MULTILINE)
    return {name: {bit + 1 for bit in range(64) if int(mask, 16) >> bit & 1} for name, mask in rows}


def ignored_here() -> set[int]:
    """Return what this process ignores: also what Python cannot say, as 32 and 33, which are libc's."""
    return signal_sets(Path("/proc/self/status").read_text())["SigIgn"]


def snapshot() -> dict[str, Any]:
    """Return everything that a failed or finished spawn must not have changed."""
    gc.collect()
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue  # the descriptor of listdir itself
    return {
        "fds": fds,
        "threads": len(os.listdir("/proc/self/task")),
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        # Without SIGALRM, which pytest-timeout takes for itself.
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGALRM}},
        "hostname": Path("/proc/sys/kernel/hostname").read_text(),
        "domainname": Path("/proc/sys/kernel/domainname").read_text(),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "namespaces": {kind: inode(kind) for kind in os.listdir("/proc/self/ns")},
        "dumpable": ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
        "umask": umask(),
        "cwd": os.getcwd(),
    }


def umask() -> str:
    """Return this process's umask without changing it."""
    status = Path("/proc/self/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("Umask"))


def assert_no_child() -> None:
    """Fail if this process has any child, a zombie included."""
    try:
        child = os.waitpid(-1, os.WNOHANG | WALL)
    except ChildProcessError:
        return
    pytest.fail(f"a child is left: {child}")


def other_threads() -> list[str]:
    """Return the names of this process's other threads, without the one that kill_child needs, which stays."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(task.name) != os.getpid() and (name := (task / "comm").read_text().strip()) != "nslab-keeper":
                names.append(name)
    return names


def assert_unchanged(before: dict[str, Any]) -> None:
    """Fail if anything is not as in this snapshot."""
    # A thread that Python has joined may still be on its way out of the kernel.
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > before["threads"] and time.monotonic() < deadline:
        os.sched_yield()
    after = snapshot()
    # One of before may have been on its way out then.
    before["threads"] = min(before["threads"], after["threads"])
    for what, value in before.items():
        assert after[what] == value, f"{what} changed"


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """No zombie, same fds, threads, signal mask, handlers, hostname, mount table, …, after every test."""
    before = snapshot()
    yield
    assert_unchanged(before)
    assert_no_child()


@pytest.fixture
def lasting() -> str:
    """A number of seconds that tells the processes of this test from all others."""
    return f"61.{os.getpid()}{time.monotonic_ns() % 1_000_000}"


@pytest.fixture
def refused() -> Callable[..., nslab.SpawnError]:
    """Assert that a spawn fails in this step with this errno and leaves nothing behind; return the error."""

    def check(step: str, errno: int | None, flags: Any, argv: Any = ("true",), **options: Any) -> nslab.SpawnError:
        before = snapshot()
        with pytest.raises(nslab.SpawnError) as caught:
            nslab.spawn(flags, argv, **options)
        assert (caught.value.step, caught.value.errno) == (step, errno), caught.value
        assert_unchanged(before)
        assert_no_child()
        return caught.value

    return check


@pytest.fixture
def invalid() -> Callable[..., str]:
    """Assert that a request is refused before any clone; return the message."""

    def check(flags: Any, argv: Any = ("true",), **options: Any) -> str:
        before = snapshot()
        messages = set()
        for call in (nslab.spawn, nslab.plan, nslab.run):
            with pytest.raises((ValueError, TypeError)) as caught:
                call(flags, argv, **options)
            assert not isinstance(caught.value, OSError)
            messages.add(str(caught.value))
        assert len(messages) == 1, messages
        assert_unchanged(before)
        assert_no_child()
        return messages.pop()

    return check


def reachable_by_others(paths: list[str]) -> str:
    """Return a shell script that makes these directories reachable for every user, in its own mount namespace.

    A closed directory on the way (root's home) is covered by an empty one in which only the wanted ones appear.
    """
    closed: dict[str, list[str]] = {}
    for path in map(Path, sorted(set(paths))):
        if shut := shut_on_the_way(path):
            closed.setdefault(shut[0], []).append(str(path))
    lines = ["set -e"]
    for cover, wanted in closed.items():
        lines += ["stage=$(mktemp -d)", "mount -t tmpfs none $stage"]
        lines += [f"mkdir $stage/{i}; mount --rbind '{path}' $stage/{i}" for i, path in enumerate(wanted)]
        lines += [f"mount -t tmpfs -o mode=755 none '{cover}'"]
        lines += [f"mkdir -p '{path}'; mount --rbind $stage/{i} '{path}'" for i, path in enumerate(wanted)]
        # The directory itself is the host's.
        lines += ["umount -R $stage", "rmdir $stage"]
    return "\n".join(lines)


def shut_on_the_way(path: Path) -> list[str]:
    """Return the directories on the way to it, from the root on, that are closed to others."""
    return [str(parent) for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001]


def as_ordinary_user(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a shell command as uid 65534 without groups and capabilities; ``$PYTHON`` is this interpreter."""
    repository = str(Path(__file__).parent.parent)
    needed = [repository, sys.prefix, sys.base_prefix]
    script = reachable_by_others(needed)
    # Without root's own directories: one that may not be searched turns ENOENT into EACCES, see execvp(3).
    path = [each for each in os.get_exec_path() if Path(each).is_dir() and not shut_on_the_way(Path(each, "program"))]
    drop = "exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all"
    script += f"\ncd '{repository}'\nexport HOME=/tmp TMPDIR=/tmp PYTHONDONTWRITEBYTECODE=1\n{drop} sh -c \"$0\""
    env = {**os.environ, "PATH": os.pathsep.join(path), "PYTHON": sys.executable}
    return nslab.run(
        "mnt",
        ["/bin/sh", "-c", script, command],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
