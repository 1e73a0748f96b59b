"""``python -m proof.oracle FD EXAMPLES SEED COMPILED``, in the laboratory: nslab beside unshare(1) and the C program.

The same request by `nslab.spawn`, by the line that `Plan.unshare_command` gives and, for so many, by what
`Plan.c_source` compiles to; every difference in what the program sees has a row in `KNOWN`, or is a failure.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis

import nslab

from . import laboratory
from .fuzzed import told
from .model import Accepted, Request, nanoseconds, predict
from .requests import requests
from .trial import PATIENCE, DifferenceError, facts
from .world import PLACE, REPORT, Seen, World, read_report

# What unshare(1), nsenter(1), setpriv(1), setsid(1), env(1) and a shell can do too.
OPTIONS = (
    *("hostname", "domainname", "map_root_user", "map_current_user", "map_users", "map_groups", "setgroups"),
    *("propagation", "mount_proc", "loopback", "monotonic", "boottime", "kill_child", "cwd", "env", "umask"),
    *("user", "group", "extra_groups", "start_new_session", "restore_signals"),
)


@dataclasses.dataclass
class Known:
    """A difference that is explained."""

    fact: str
    #: By the request, the command and what both have seen.
    applies: Callable[[Request, str, Any, Any], bool]
    reason: str


def _has_fraction(request: Request, *_: object) -> bool:
    return any(nanoseconds(request.options.get(clock) or 0)[1] for clock in ("monotonic", "boottime"))


# Of unshare(1); the C program has none.
KNOWN = [
    Known("offsets", _has_fraction, "unshare(1) takes whole seconds"),
    Known(
        "environment",
        lambda _, line, mine, other: " -- sh -c " in line and all(name.startswith(b"PWD=") for name in mine ^ other),
        "the shell in the line, which sets names and umask, says in PWD where it is",
    ),
    Known(
        "status",
        lambda request, line, mine, other: (mine, other) == (-9, 1) and bool(re.search("--(fork|kill-child)", line)),
        "unshare(1) --fork wants to end by the signal of its child, sets SIGKILL back to its default first, which the "
        "kernel refuses, and exits with 1",
    ),
]


UNSHARE = "unshare(1)"


class Oracle:
    """Runs requests both ways and counts."""

    def __init__(self, world: World, compiled: int) -> None:
        self.world, self.compiled = world, compiled
        version = subprocess.run(["unshare", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.version = tuple(map(int, re.findall(r"\d+", version)))
        self.counts: collections.Counter[str] = collections.Counter()
        self.left_out: collections.Counter[str] = collections.Counter()
        self.explained: collections.Counter[str] = collections.Counter()

    def compare(self, request: Request) -> None:
        if not isinstance(predict(self.world, request), Accepted):
            self.left_out["refused by nslab, as predicted"] += 1
            return
        plan = nslab.plan(request.flags, request.argv, **request.options)
        line = plan.unshare_command()
        if reason := self._inexpressible(line):
            self.left_out[reason] += 1
        else:
            self._both(plan, request, ["sh", "-c", line], UNSHARE)
        if self.compiled > 0:
            self.compiled -= 1
            self._both(plan, request, [compiled(plan.c_source())], "the C program")

    def _inexpressible(self, line: str) -> str | None:
        """Return what the line leaves out, and says so, or this version of unshare(1) does not know."""
        several = [line.count(f"--map-{kind}s=") for kind in ("user", "group")]
        if self.version < (2, 40) and max(several) > (0 if self.world.privileged else 1):
            return "several ranges of ids, before util-linux 2.40"
        if "setgroups=deny: left out" in line:
            return "a group map of several ids where setgroups(2) is denied"
        if "hostname: left out" in line:
            return "a host name with the end of a line in it"
        if "hostname(1) refuses this name" in line and ("--user" in line or not self.world.privileged):
            return "a host name that hostname(1) refuses, in a user namespace"
        return None

    def _both(self, plan: nslab.Plan, request: Request, command: list[str], by: str) -> None:
        REPORT.write_bytes(b"")
        ours = plan.spawn().wait(PATIENCE), read_report()
        REPORT.write_bytes(b"")
        restore = request.options.get("restore_signals", True)
        status = subprocess.run(command, timeout=PATIENCE, check=False, restore_signals=restore).returncode
        if not REPORT.stat().st_size:
            raise DifferenceError(f"{by} failed with {status}: {command[-1]}")
        # A shell says 128 + N of a program that a signal has ended.
        theirs = 128 - status if ours[0] < 0 and status > 128 else status, read_report()
        mine, other = ({"status": end, **facts(self.world, seen)} for end, seen in (ours, theirs))
        for fact in mine:
            if mine[fact] == other[fact]:
                continue
            known = [
                known
                for known in KNOWN
                if known.fact == fact and known.applies(request, command[-1], mine[fact], other[fact])
            ]
            if by != UNSHARE or not known:
                raise DifferenceError(f"{fact}: {mine[fact]} by nslab, {other[fact]} by {by}: {command[-1]}")
            self.explained[f"{fact}: {known[0].reason}"] += 1
        for clock in ("monotonic", "boottime"):
            before, after = (_unshifted(seen, clock) for _, seen in (ours, theirs))
            if not 0 <= after - before < PATIENCE * 10**9:
                raise DifferenceError(f"{clock} differs: {command[-1]}")
        self.counts[by] += 1


def _unshifted(seen: Seen, clock: str) -> int:
    """Return a clock without its offset."""
    seconds, nanoseconds = seen.offsets[clock]
    return int(seen[clock]) - seconds * 10**9 - nanoseconds


def compiled(source: str) -> str:
    """Compile the C program and return its path."""
    directory = Path(f"{PLACE}/scratch")
    (directory / "twin.c").write_text(source)
    command = ["cc", "-Wall", "-Werror", "-o", f"{directory}/twin", f"{directory}/twin.c"]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise DifferenceError(f"the C program does not compile: {done.stderr}")
    return f"{directory}/twin"


def main(fd: int, examples: int, seed: int, count: int) -> None:
    os.set_inheritable(fd, False)
    failures: list[str] = []
    with laboratory.world() as world:
        oracle = Oracle(world, count)

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(requests(world, OPTIONS))
        def agrees(request: Request) -> None:
            oracle.compare(request)

        try:
            agrees()
        except BaseException as error:
            failures += told(error)
    with os.fdopen(fd, "w") as answer:
        counted = {"counts": oracle.counts, "left out": oracle.left_out, "explained": oracle.explained}
        json.dump({**counted, "failures": failures}, answer)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
