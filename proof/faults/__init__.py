"""Every system call of a spawn fails once: what is told, and what is left.

::

    machine ── prove ─┬─ host of its own (pid mnt uts ipc net cgroup)
                      │    matrix ── supervisor ═ holds every call of ═ worker ── a fork for each cell
                      │                 │                                          nslab.spawn(…), twice
                      │               strace, once for each plan
                      └─ another one, with every second cell

`calls` finds the system calls with strace(1), `cells` crosses them with the errnos that fit, `supervisor` lets one call
of one process fail (by `listener`, because strace cannot choose the process), `left` looks what there is, and `expect`
compares it with what `rules` say.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import nslab

from ..part import DIRECTORY, Part
from . import left
from .cells import FITTING

Line = dict[str, Any]


def prove(short: bool) -> Part:
    part = Part(
        "faults",
        "Fault matrix",
        "Every system call that the caller, the child, the init, the process in between and the helpers make from the "
        "call to its return fails once with each errno that fits it, and once its process is killed there. Each time: "
        "`SpawnError` with the step and the errno (or the signal), or the very same program where there is another "
        "way; nothing is left, nothing is changed, and the next call works.",
        ["process", "system call", "plans", "cells", "what came of them"],
    )
    with part.timed():
        lines = run(short)
        cells = [line for line in lines if "found" in line]
        for line in lines:
            if line["failure"]:
                where = " ".join(str(line.get(key, "")) for key in ("process", "call", "fault"))
                part.expect(False, f"{line['plan']}: {where}: {line['failure']}")
        part.expect(bool(cells), "there are no cells")
        summarise(part, cells, lines)
        written = text(cells)
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        (DIRECTORY / "faults.txt").write_text(written)
        if not short:
            print(written)
    return part


def run(short: bool) -> list[Line]:
    """Run all shards at once, each in a host where nothing can reach the machine."""
    if os.geteuid() != 0:
        return [{"plan": "all", "failure": "only root can run it: it holds the system calls of setuid programs"}]
    shards = len(os.sched_getaffinity(0))
    outside = json.dumps(left.namespaces(os.getpid()))
    words = [sys.executable, "-m", "proof.faults.matrix", outside]
    options: dict[str, Any] = {"init": True, "mount_proc": True, "hostname": "proof", "stdout": subprocess.PIPE}
    hosts = [
        nslab.spawn(" ".join(MADE), [*words, str(shard), str(shards), *(["--short"] if short else [])], **options)
        for shard in range(shards)
    ]
    lines = []
    for host in hosts:
        output, _ = host.communicate()
        lines += [json.loads(line) for line in output.splitlines()]
        if host.returncode:
            lines.append({"plan": "all", "failure": f"a shard ended with status {host.returncode}"})
    return lines


# The namespaces of a shard.
MADE = ("mnt", "pid", "uts", "ipc", "net", "cgroup")


def summarise(part: Part, cells: list[Line], lines: list[Line]) -> None:
    """Add one row for each system call of each kind of process, and why each outcome is right."""
    rows: dict[tuple[str, str], list[Line]] = {}
    for cell in cells:
        rows.setdefault((cell["process"], cell["call"].partition("(")[0]), []).append(cell)
    for (process, call), those in sorted(rows.items()):
        outcomes = Counter(outcome(cell) for cell in those)
        words = ", ".join(f"{what} {count}" for what, count in outcomes.most_common())
        part.row(process, f"`{call}`", len({cell["plan"] for cell in those}), len(those), words)
    plans = Counter(cell["plan"] for cell in cells)
    part.notes.append(f"{len(cells)} cells in {len(plans)} plans: " + ", ".join(f"{p} ({n})" for p, n in plans.items()))
    faults = Counter(cell["fault"] for cell in cells)
    part.notes.append(
        "Faults: " + ", ".join(f"{fault} {faults[fault]}" for fault in [*FITTING, "KILL"] if faults[fault])
    )
    part.notes.append(
        "*same* is what the plan does without a fault: the same program, in all that an option can change."
    )
    reasons = Counter(cell["reason"] for cell in cells)
    part.notes.append("\n".join(["Why each is right:", "", *(f"- {why}: {n}" for why, n in reasons.most_common())]))
    replayed = sum("replayed" in line for line in lines)
    part.notes.append(
        f"{replayed} cells were run a second time with `strace -f --inject`, where it can aim at one process (it "
        "counts calls, and cannot choose who makes them): each with the same outcome."
    )
    part.kernel.append(
        "`close`, `munmap`, `exit_group`, `getpid` and their like, `wait4` and `waitid` (but for EINTR) cannot fail, "
        "or have done what they were asked for whatever they answer: their process is killed there, and that is all. "
        "Nor can `futex(FUTEX_WAKE)`."
    )
    part.notes.append("The whole matrix, plan by plan and call by call, is in `target/proof/faults.txt`.")


def outcome(cell: Line) -> str:
    """Say what came of it, without the errno: that is the fault's."""
    found = str(cell["found"])
    return f"`{found.split()[0]}`" if re.fullmatch(r"\w+ (E[A-Z]+|SIG9)", found) else found


def text(cells: list[Line]) -> str:
    """One line for each call of each process of each plan."""
    table: dict[tuple[str, str, str, int], dict[str, str]] = {}
    for cell in cells:
        key = (cell["plan"], cell["process"], " ".join(cell["call"].split())[:100], cell["ordinal"])
        table.setdefault(key, {})[cell["fault"]] = cell["found"]
    lines, last = [], None
    for (plan, process, call, _), faults in sorted(table.items(), key=lambda row: row[0][0]):
        if plan != last:
            lines += ["", plan]
            last = plan
        lines.append(
            f"  {process:12} {call:100}  " + "; ".join(f"{fault} → {found}" for fault, found in faults.items())
        )
    return "\n".join(lines) + "\n"
