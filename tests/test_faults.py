"""The fault matrix can fail, and stays as it is where it has failed once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import planted_faults
import pytest
from conftest import ROOT
from nested import inside
from proof.faults import MADE, matrix, plans
from proof.faults.cells import Cell, cells
from proof.faults.expect import judge
from proof.faults.supervisor import Supervisor

pytestmark = pytest.mark.skipif(not ROOT, reason="only root may hold the system calls of setuid programs")

# A plan, the process, its call, the fault, and what comes of it: each was wrong once.
MENDED = [
    ("plain", "parent", r"rt_sigprocmask\(SIG_SETMASK, ~\[\]", "EPERM", "clone EPERM"),
    ("plain", "child", r"rt_sigprocmask\(", "EPERM", "sigmask EPERM"),
    ("process options", "child", r"umask\(", "EPERM", "umask EPERM"),
    ("process options", "parent", r"pipe2\(", "ENOMEM", "stdio ENOMEM"),
    ("all, without clone3", "child", r"rt_sigaction\(SIGINT, NULL", "EPERM", "clear_sighand EPERM"),
    ("join beside", "parent", r"openat\(", "EMFILE", "clone EMFILE"),
    ("join time", "child", r"fcntl\(.*FD_CLOEXEC", "EPERM", "setns EPERM"),
    ("join time", "child", r"capset\(.*inheritable=0", "EPERM", "setns EPERM"),
    ("join time", "child", r"setns\(", "KILL", "setns SIG9"),
    ("kill_child", "parent", r"clone3\(.*CLONE_THREAD", "EPERM", "clone EPERM"),
    ("ids by newuidmap", "newuidmap", r"execve\(", "ENOMEM", "newuidmap ENOMEM"),
    ("Host", "child", r"execveat\(", "KILL", "init SIG9"),
    ("Host", "parent", r'openat\(.*"/proc", O_RDONLY', "EMFILE", "clone EMFILE"),
    ("Host", "parent", r'openat\(.*"/proc/thread-self/ns/user"', "ENOMEM", "note_namespaces ENOMEM"),
    ("Host, persist", "child", r"name_to_handle_at\(", "EPERM", "same"),
    ("missing program", "parent", r'newfstatat\(.*"/nonexistent"', "EPERM", "execve ENOENT"),
]


def found(rows: list[tuple[str, str, str, str, str]], module: str) -> list[tuple[str, str]]:
    """Run the first cell that each row means; return what came of it, and why that is wrong."""
    plans.prepare_host()
    supervisor = Supervisor(module)
    known = {plan.name: plan for plan in (*plans.PLANS, *planted_faults.PLANS)}
    results = []
    try:
        for name, process, call, fault, _ in rows:
            base, calls, _ = matrix.traced(supervisor, known[name])
            cell = next(cell for cell in cells(known[name], calls) if means(cell, process, call, fault))
            verdict = judge(cell, matrix.run(supervisor, cell), base)
            results.append((verdict.found, verdict.failure))
    finally:
        supervisor.close()
    return results


def means(cell: Cell, process: str, call: str, fault: str) -> bool:
    return (cell.fault.process, cell.fault.how) == (process, fault) and bool(re.match(call, cell.call))


def in_a_host(rows: list[tuple[str, str, str, str, str]], module: str = "proof.faults.plans") -> list[tuple[str, str]]:
    tests = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}"}
    return inside(" ".join(MADE), found, rows, module, mount_proc=True, init=True, hostname="proof", env=env)


def test_what_was_wrong_once() -> None:
    results = in_a_host(MENDED)
    assert results == [(expected, "") for *_, expected in MENDED]


def test_each_planted_fault_is_found() -> None:
    rows = [(plan.name, "child", r"sethostname\(", "EPERM", "") for plan in planted_faults.PLANS]
    failures = [failure for _, failure in in_a_host(rows, "planted_faults")]
    words = [
        "sethostname EIO instead of sethostname EPERM",
        "clone EPERM instead of sethostname EPERM",
        "differs in",
        "descriptors",
        "python Z",
        "/dev/shm/left",
        "signals",
        "afterwards execve ENOENT",
    ]
    assert [expected for expected, failure in zip(words, failures, strict=True) if expected not in failure] == []
