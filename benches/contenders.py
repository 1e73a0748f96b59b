"""One contender as a program: the ways to run a child in new namespaces, behind one protocol.

It answers the lines ``FLAGS PAYLOAD COUNT`` on stdin with COUNT lines ``called returned reaped closed``
(CLOCK_MONOTONIC, ns) on stdout. ``baseline.c`` speaks the same, so nobody can be treated differently by the driver,
and nobody pays for what the driver itself has imported.
"""

import argparse
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

# What each contender needs is imported where it is built: nobody pays for another one's modules.

Stamps = tuple[int, int, int, int]
Live = Callable[[], Stamps]


def with_nslab(names: list[str], argv: list[str], timeout: float | None) -> Live:
    import nslab

    flags = " ".join(names)
    options: dict[str, Any] = {"map_root_user": True} if "user" in names else {}

    def live() -> Stamps:
        called = monotonic_ns()
        process = nslab.spawn(flags, argv, **options)
        returned = monotonic_ns()
        status = process.wait(timeout)
        reaped = monotonic_ns()
        # Or the next spawn would pay for it; the baseline closes its pidfd here.
        del process
        closed = monotonic_ns()
        expect_zero(status)
        return called, returned, reaped, closed

    return live


def with_popen(names: list[str], argv: list[str], timeout: float | None) -> Live:
    return popen(names, argv, timeout)


def with_preexec_fn(names: list[str], argv: list[str], timeout: float | None) -> Live:
    """The recipe that forks: any `preexec_fn` makes `subprocess` copy the page tables."""
    return popen(names, argv, timeout, preexec_fn=lambda: None)


def popen(
    names: list[str],
    argv: list[str],
    timeout: float | None,
    preexec_fn: Callable[[], object] | None = None,
) -> Live:
    import subprocess

    only_without_namespaces(names)

    def live() -> Stamps:
        called = monotonic_ns()
        process = subprocess.Popen(argv, preexec_fn=preexec_fn)
        returned = monotonic_ns()
        status = process.wait(timeout)
        reaped = monotonic_ns()
        del process
        closed = monotonic_ns()
        expect_zero(status)
        return called, returned, reaped, closed

    return live


def with_posix_spawn(names: list[str], argv: list[str], timeout: float | None) -> Live:
    only_without_namespaces(names)

    def live() -> Stamps:
        called = monotonic_ns()
        pid = os.posix_spawn(argv[0], argv, os.environ)
        returned = monotonic_ns()
        _, status = os.waitpid(pid, 0)
        reaped = monotonic_ns()
        expect_zero(status)
        return called, returned, reaped, reaped

    return live


UNSHARE = {
    "cgroup": ["--cgroup"],
    "ipc": ["--ipc"],
    "mnt": ["--mount"],
    "net": ["--net"],
    "pid": ["--pid", "--fork"],  # without --fork the program stays outside the new pid namespace
    "time": ["--time"],
    "user": ["--user", "--map-root-user"],
    "uts": ["--uts"],
}


def with_unshare(names: list[str], argv: list[str], timeout: float | None) -> Live:
    return run(["unshare", *(option for name in names for option in UNSHARE[name]), *argv])


BWRAP = {
    "cgroup": ["--unshare-cgroup"],
    "ipc": ["--unshare-ipc"],
    "mnt": [],  # always
    "net": ["--unshare-net"],
    "pid": ["--unshare-pid", "--as-pid-1"],
    "time": [],  # never
    "user": ["--unshare-user", "--uid", "0", "--gid", "0"],
    "uts": ["--unshare-uts"],
}


def with_bwrap(names: list[str], argv: list[str], timeout: float | None) -> Live:
    options = [option for name in names for option in BWRAP[name]]
    return run(["bwrap", "--dev-bind", "/", "/", *options, *argv])


def run(command: list[str]) -> Live:
    import subprocess

    def live() -> Stamps:
        called = monotonic_ns()
        subprocess.run(command, check=True)
        reaped = monotonic_ns()
        # Popen returns before the tool has made anything: there is no earlier moment to report.
        return called, reaped, reaped, reaped

    return live


CONTENDERS: dict[str, Callable[[list[str], list[str], float | None], Live]] = {
    "nslab": with_nslab,
    "subprocess": with_popen,
    "preexec_fn": with_preexec_fn,
    "posix_spawn": with_posix_spawn,
    "unshare": with_unshare,
    "bwrap": with_bwrap,
}


def only_without_namespaces(names: list[str]) -> None:
    if names:
        raise ValueError("makes no namespaces")


def expect_zero(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"the payload ended with {status}")


def grow_to(mebibytes: int) -> mmap.mmap:
    """Memory that was really touched, until this process has the wanted size.

    Private, as a data frame is: of shared memory even a fork copies no page tables.
    """
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    missing = (mebibytes << 20) - resident_pages * mmap.PAGESIZE
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, max(missing, mmap.PAGESIZE), flags=private)
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = 1
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--memory", type=int, default=0, metavar="MIB", help="size of the parent")
    parser.add_argument("--timeout", type=float, help="the timeout= of wait()")
    options = parser.parse_args()
    memory = grow_to(options.memory)

    for line in sys.stdin:
        flags, payload, count = line.split()
        names = [] if flags == "none" else flags.split(",")
        try:
            live = CONTENDERS[options.contender](names, [payload], options.timeout)
            lives = [live() for _ in range(int(count))]
            answer = "".join(" ".join(map(str, life)) + "\n" for life in lives)
        except Exception as error:
            reason = " ".join(str(error).split())
            answer = f"error {type(error).__name__}: {reason}\n" * int(count)
        sys.stdout.write(answer)
        sys.stdout.flush()
    memory.close()


if __name__ == "__main__":
    main()
