"""Runs a pytest of its own, as a user would, on the text of a test file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree


class Case(NamedTuple):
    """What the JUnit file says of one test."""

    outcome: str
    text: str
    seconds: float


class Run(NamedTuple):
    """How a run ended and what it has said."""

    status: int
    output: str
    cases: dict[str, Case]

    def outcomes(self) -> dict[str, str]:
        return {name: case.outcome for name, case in self.cases.items()}

    def summary(self) -> dict[str, int]:
        """The numbers of the last line, such as ``{"passed": 2}``."""
        line = self.output.strip().splitlines()[-1]
        words = re.findall(r"(\d+) (passed|failed|error|skipped|xfailed|xpassed|warning|rerun|subtests passed)", line)
        return {word: int(number) for number, word in words}


INI = "[pytest]\nmarkers = plain: no mark of ours\n"
# Plugins of others, and the word of a file that needs them: to import them all takes longer than most files run.
OTHERS = {"asyncio": "asyncio", "anyio": "anyio", "rerunfailures": "flaky"}


def command(*args: str, program: tuple[str, ...] = ("-m", "pytest")) -> list[str]:
    return [sys.executable, *program, *args]


def environment(**changes: str) -> dict[str, str]:
    # What an outer run says of itself is not for the inner one.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NSLAB_PYTEST"))}
    return {**kept, "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1", **changes}


def run(
    directory: Path,
    text: str,
    *args: str,
    ini: str = "",
    timeout: float = 60,
    stdin: str = "",
    program: tuple[str, ...] = ("-m", "pytest"),
    **env: str,
) -> Run:
    """Write the file and run pytest on it; ``program`` is what Python is to run."""
    (directory / "test_inner.py").write_text(text)
    if not (directory / "pytest.ini").exists() or ini:
        (directory / "pytest.ini").write_text(INI + ini)
    without = [f"-pno:{plugin}" for plugin, word in OTHERS.items() if word not in text]
    junit = directory / "junit.xml"
    junit.unlink(missing_ok=True)
    done = subprocess.run(
        command(f"--junitxml={junit}", f"--basetemp={directory / 'tmp'}", *without, *args, program=program),
        cwd=directory,
        env=environment(**env),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    print(done.stdout)
    return Run(done.returncode, done.stdout, _cases(junit) if junit.exists() else {})


def _cases(junit: Path) -> dict[str, Case]:
    found = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        child = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        outcome = "passed" if child is None else child.tag
        text = "".join(part.text or "" for part in case)
        text += child.get("message", "") if child is not None else ""
        found[case.attrib["name"]] = Case(outcome, text, float(case.attrib["time"]))
    return found
