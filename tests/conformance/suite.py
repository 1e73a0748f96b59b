"""Runs the tests and compares what came of them with `expected.toml`; `run.py` starts it."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
import unittest
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from result import Result

import nslab

EXPECTED = Path(__file__).with_name("expected.toml")
TESTS = "test.test_subprocess"
# Many times what the suite takes: a test that hangs is shown where it hangs.
TIMEOUT = 600


def main(parts: list[str]) -> int:
    assert subprocess.Popen is nslab.Popen, "children/sitecustomize.py was not found"
    tests = list(flat(unittest.defaultTestLoader.loadTestsFromName(TESTS)))
    differences, problems = expected({method(test.id()) for test in tests})
    wanted = [test for test in tests if not parts or any(part in test.id() for part in parts)]
    names = [test.id() for test in wanted]
    count = compare(names, run(wanted), differences, problems)
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{TESTS} on nslab.Popen, Python {platform.python_version()}, uid {os.geteuid()}:")
    print(
        f"{count['passed']} passed, {len(problems)} failed, {count['skipped']} skipped, "
        f"{count['listed']} different as {EXPECTED.name} has it"
    )
    return 1 if problems else 0


def flat(suite: Iterable[Any]) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flat(item)
        else:
            yield item


def method(name: str) -> str:
    return name.rpartition(".")[2]


def expected(methods: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return what the report of each listed test must show, and the problems of the list itself."""
    rows = tomllib.loads(EXPECTED.read_text())["difference"]
    present = [row for row in rows if sys.version_info >= tuple(row.get("since", ()))]
    listed = [test for row in present for test in row["tests"]]
    problems = [f"{EXPECTED.name}: no such test: {test}" for test in listed if test not in methods]
    return {test: row["shows"] for row in rows for test in row["tests"]}, problems


def run(tests: Iterable[unittest.TestCase]) -> Result:
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    # Without this, some tests start their interpreters with -I, which have the standard library's Popen.
    environment = mock.patch("test.support.script_helper.interpreter_requires_environment", return_value=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch), environment:
        result = Result()
        unittest.TestSuite(tests).run(result)
    faulthandler.cancel_dump_traceback_later()
    return result


def compare(names: Iterable[str], result: Result, differences: dict[str, str], problems: list[str]) -> Counter[str]:
    """Count the tests that did what they should; the others become problems."""
    reports = result.reports
    skipped = {test.id() for test, _ in result.skipped}
    count: Counter[str] = Counter()
    # Also what failed outside of a test: a class that cannot be set up.
    for name in dict.fromkeys([*names, *reports]):
        report, shows = reports.get(name), differences.get(method(name))
        if report is None:
            if name in skipped:
                count["skipped"] += 1
            elif shows is None:
                count["passed"] += 1
            else:
                problems.append(f"PASSED {name}: {EXPECTED.name} must not list it")
        elif shows is None:
            problems.append(f"FAILED {name}\n{report}")
        elif shows not in report:
            problems.append(f"FAILED {name}, without {shows!r}, which {EXPECTED.name} has for it\n{report}")
        else:
            count["listed"] += 1
    return count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
