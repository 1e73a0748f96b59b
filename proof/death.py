"""kill -9 of everything that others depend on, at random moments, and a look at what survives."""

from __future__ import annotations

from collections.abc import Callable

from . import kills
from .kills import Found
from .part import Part, seed
from .watched import CheckError, watched

# What is killed, who does it, and how often in the full and in the short form.
CASES: list[tuple[str, Callable[[str, int, int], Found], str, int, int]] = [
    ("the parent of programs with kill_child", kills.of_a_parent, "kill_child", 120, 15),
    ("the parent of programs without it", kills.of_a_parent, "plain", 60, 8),
    ("the owner of hosts", kills.of_a_parent, "owner", 80, 8),
    ("the user of a pool", kills.of_a_parent, "pool", 40, 5),
    ("the caller of an executor and of call", kills.of_a_parent, "caller", 40, 4),
    ("the owner of a shell, with its warden", kills.of_a_parent, "shell", 20, 2),
    ("the init of a host", kills.of_a_hosts_init, "", 40, 5),
    ("the init above a program", kills.of_an_init, "", 40, 5),
    ("a worker of an executor", kills.of_a_worker, "", 30, 4),
    ("the interpreter of a call", kills.of_a_call, "", 20, 3),
    ("the child of a test marked for namespaces", kills.of_a_test, "", 10, 1),
]


def prove(short: bool) -> Part:
    total = sum(few if short else full for *_, full, few in CASES)
    part = Part(
        "death",
        "Death",
        f"kill -9 at {total} random moments: with `kill_child`, in a host and in a worker nothing survives one second; "
        "without it the program lives on; no mount, network link, named host or file is left.",
        ["what is killed", "times", "survived", "slowest end", "living on", "left behind"],
    )
    start = seed(short)
    with part.timed():
        for what, kill, victim, full, few in CASES:
            count = few if short else full
            try:
                found = watched(kill, victim, count, start, seconds=60 + 5 * count)
            except CheckError as error:
                part.expect(False, f"{what} (seed {start}): {error}")
                continue
            for failure in (*found["survived"], *found["left"]):
                part.expect(False, f"{what} (seed {start}): {failure}")
            slowest = f"{1000 * found['slowest']:.0f} ms"
            lives = found.get("lives", "–")
            part.row(what, count, len(found["survived"]), slowest, lives, len(found["left"]))
    part.notes.append(
        "Whoever is orphaned becomes a child of the process that looks (PR_SET_CHILD_SUBREAPER), so none can hide; the "
        "slowest end is from the kill (of a host's init: from `Host.close`, which ends who was in it; of workers and "
        "tests: from their end) to the moment when it has no child any more. What lives on was known to be "
        f"running when its parent was killed, and is ended afterwards. The moments come from PROOF_SEED={start}."
    )
    return part
