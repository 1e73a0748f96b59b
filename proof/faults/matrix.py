"""The cells of one shard, in a host of its own: prints a line of JSON for each."""

from __future__ import annotations

import argparse
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterator

from . import cells, expect, left
from .calls import Call
from .cells import Cell
from .plans import PLANS, Plan, prepare_host
from .supervisor import Outcome, Supervisor

# What must not be the machine's own.
NEW = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("outside", type=json.loads, help="the namespaces of the machine, which these are not")
    parser.add_argument("shard", type=int)
    parser.add_argument("shards", type=int)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    here = left.namespaces(os.getpid())
    if any(here[kind] == arguments.outside[kind] for kind in NEW):
        sys.exit("this would happen on the machine itself")
    prepare_host()
    supervisor = Supervisor()
    try:
        for plan in PLANS:
            for line in shard(supervisor, plan, arguments.shard, arguments.shards, arguments.short):
                print(json.dumps(line), flush=True)
    finally:
        supervisor.close()


def shard(supervisor: Supervisor, plan: Plan, number: int, count: int, short: bool) -> Iterator[dict[str, object]]:
    """Run every ``count``-th cell of the plan, and some of them again under strace."""
    base, calls, alone = traced(supervisor, plan)
    yield {"plan": plan.name, "failure": sound(plan, base)}
    wanted = cells.cells(plan, calls)
    some = chosen(wanted)
    for cell in (some if short else wanted)[number::count]:
        outcome = run(supervisor, cell)
        verdict = expect.judge(cell, outcome, base)
        yield {**described(cell), "found": verdict.found, "reason": verdict.rule.reason, "failure": verdict.failure}
    # Not to be killed: what the caller does then it does not do otherwise, and may be the same call. And not a futex:
    # to strace it is one call to wait and to wake.
    aimed = [cell for cell in some if cell.fault.how != "KILL" and cell.name != "futex"]
    again = [cell for cell in aimed if (cell.fault.process, cell.fault.number, cell.fault.ordinal) in alone]
    for cell in again[number :: count * (8 if short else 1)]:
        verdict = expect.judge(cell, supervisor.replay(plan, cell.fault, cell.name), base)
        yield {
            **described(cell),
            "replayed": verdict.found,
            "failure": verdict.failure and f"strace: {verdict.failure}",
        }


def described(cell: Cell) -> dict[str, object]:
    fault = cell.fault
    names = {"plan": cell.plan.name, "process": fault.process, "call": cell.call}
    return {**names, "ordinal": fault.ordinal, "fault": fault.how}


# A process, the number of a call, and how many times it has made it.
Aim = tuple[str, int, int]


def traced(supervisor: Supervisor, plan: Plan) -> tuple[Outcome, list[tuple[str, Call]], set[Aim]]:
    """Return what comes of the plan without a fault, its calls, and those that strace can fail in one process only.

    strace and the listener must have seen the same calls.
    """
    base, seen = supervisor.trace(plan)
    parent = supervisor.held[0][0]
    said = [place for place, call in enumerate(seen) if call.is_control and call.name == "write"]
    of_thread: dict[int, list[Call]] = {}
    for place, call in enumerate(seen):
        if not call.is_control and (call.tid != parent or place < said[0]):
            of_thread.setdefault(call.tid, []).append(call)
    calls: list[tuple[str, Call]] = []
    aims: list[Aim] = []
    for tid, process, number in supervisor.held:
        same = of_thread.get(tid, [])[:1]
        if not same or same[0].number != number:
            saw = same[0].text if same else "none"
            raise RuntimeError(f"{plan.name}: the listener held call {number} of the {process}, strace saw {saw}")
        calls.append((process, of_thread[tid].pop(0)))
        aims.append((process, number, 1 + len([aim for aim in aims if aim[:2] == (process, number)])))
    if of_thread.get(parent):
        raise RuntimeError(f"{plan.name}: the listener did not hold {of_thread[parent][0].text}")
    # Up to the end of the first call, in which the fault is.
    made = Counter((call.tid, call.number) for call in seen[: said[1] + 1])
    alone = {
        aim for aim in aims if len([n for (_, number), n in made.items() if number == aim[1] and n >= aim[2]]) == 1
    }
    return base, calls, alone


def sound(plan: Plan, base: Outcome) -> str:
    """Say what is wrong without any fault."""
    found = expect.described(base, base)
    if plan.fails:
        return "" if found == " ".join(plan.fails) else f"{found} instead of {' '.join(plan.fails)}"
    problems = [base.trouble] if base.trouble else []
    if base.program is None:
        problems.append(f"does not run: {base.result}")
    if base.again is None or expect.described(base.again, base) != found:
        problems.append("runs once only")
    problems += [f"{what} changed" for outcome in (base, base.again) if outcome for what in outcome.changed]
    return "; ".join(problems)


def chosen(wanted: list[Cell]) -> list[Cell]:
    """Take one fault of each system call of each process of a plan: the same each time, but not the same everywhere."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in wanted:
        groups.setdefault((cell.fault.process, cell.name), []).append(cell)
    return [
        group[zlib.crc32(f"{cell.plan.name} {cell.fault.process} {cell.name}".encode()) % len(group)]
        for group in groups.values()
        for cell in group[:1]
    ]


def run(supervisor: Supervisor, cell: Cell) -> Outcome:
    """Run a cell; once more if the call was not made: some are made only when another process is slower."""
    for _ in range(3):
        outcome = supervisor.run(cell.plan, cell.fault)
        if outcome.reached:
            break
    return outcome


if __name__ == "__main__":
    main()
