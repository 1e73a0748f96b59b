"""Grades a submission as a teacher does: by the command, on files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from commands import command

from nslab._grade.formats import as_json
from nslab._grade.judge import judge

#: What makes the namespaces of the checks below, as any user.
LAB = 'import nslab\nlab = nslab.spawn("user uts pid", {argv!r}, map_root_user=True, hostname="{name}")\nlab.wait()\n'

CHECKS = """
import pytest
from nslab import check

@pytest.mark.points(3)
def test_isolated(submission):
    "A host name of its own."
    lab = submission.run().process("lab")
    check.isolated(lab, "uts")
    check.hostname(lab, "container")

def test_ends(submission):
    check.exited(submission.run())
"""

#: Runs a program where each system call that has to do with namespaces ends its caller.
CONTAINER = [
    sys.executable,
    "-c",
    "import errno, os, sys\n"
    f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    "import seccomp\n"
    "seccomp.refuse('clone3', errno.ENOSYS)\n"
    "seccomp.kill('clone', bits=(0, 0x7E020000))\n"
    "for call in ('unshare', 'setns', 'mount', 'sethostname'):\n"
    "    seccomp.kill(call)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n",
]


def lab(name: str = "container", argv: list[str] | None = None) -> str:
    """The text of a submission."""
    return LAB.format(name=name, argv=argv or ["true"])


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)


def verb(directory: Path, *words: str, **options: Any) -> tuple[int, str]:
    """Run a verb there; return its status and what it wrote, which is never on standard error."""
    done = command(*words, cwd=directory, **options)
    assert done.stderr == ""
    return done.returncode, done.stdout


def grade(directory: Path, checks: str, submission: str = "submission.py", timeout: float = 60) -> Any:
    """Judge a submission by the text of checks; return the grade as JSON has it, with the checks also by name."""
    write(directory, checks=checks)
    found = json.loads(as_json(judge(directory / "checks.py", directory / submission, timeout=timeout)))
    return found | {"by_name": {check["name"]: check for check in found["checks"]}}


WHOLE = """
import nslab
lab = nslab.spawn("all", ["true"], map_root_user=True, hostname="container", loopback=True, mount_proc=True,
                  boottime=86_400, propagation="slave")
lab.wait()
"""
