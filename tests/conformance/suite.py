"""Runs the tests and compares what came of them with `expected.toml`; `run.py` starts it."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import unittest
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from result import LEFT, Result

import nslab

EXPECTED = Path(__file__).with_name("expected.toml")
TESTS = "test.test_subprocess"
# Many times what the suite takes: a test that hangs is shown where it hangs.
TIMEOUT = 600


def main(parts: list[str]) -> int:
    assert subprocess.Popen is nslab.Popen, "children/sitecustomize.py was not found"
    tests = load()
    differences, problems = expected({method(test.id()) for test in tests})
    result = run([test for test in tests if not parts or any(part in test.id() for part in parts)])
    passed, listed = compare(result, differences, problems)
    print(*problems, "", sep="\n")
    print(f"{TESTS} on nslab.Popen, Python {platform.python_version()}, uid {os.geteuid()}:")
    print(f"{passed} passed, {len(problems)} failed, {len(result.skipped)} skipped, {listed} different as listed")
    return 1 if problems or not result.testsRun else 0


def load() -> list[unittest.TestCase]:
    # What needs an installed Python, as CPython puts it, fails just as well with one that was moved after its build.
    moved = os.path.realpath(sysconfig.get_config_var("BINDIR")) != os.path.dirname(os.path.realpath(sys.executable))
    with mock.patch("sysconfig.is_python_build", return_value=moved or sysconfig.is_python_build()):
        return list(flat(unittest.defaultTestLoader.loadTestsFromName(TESTS)))


def flat(suite: Iterable[Any]) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flat(item)
        else:
            yield item


def method(name: str) -> str:
    return name.rpartition(".")[2]


def expected(methods: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return what the report of each listed test must show, and what is wrong with the list itself."""
    rows = tomllib.loads(EXPECTED.read_text())["difference"]
    here = [row for row in rows if tuple(row.get("since", ())) <= sys.version_info < tuple(row.get("before", (4,)))]
    absent = [test for row in here for test in row["tests"] if test not in methods]
    problems = [f"ABSENT {test}: take it out of {EXPECTED.name}" for test in absent]
    return {test: row["shows"] for row in rows for test in row["tests"]}, problems


def run(tests: Iterable[unittest.TestCase]) -> Result:
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        # Otherwise some tests start their interpreters with -I: those would have the standard library's Popen.
        support = "test.support.script_helper.interpreter_requires_environment"
        stack.enter_context(mock.patch(support, return_value=True))
        # It would take away the zombies that `Result` looks for.
        stack.enter_context(mock.patch("test.support.reap_children"))
        result = Result()
        unittest.TestSuite(tests).run(result)
    faulthandler.cancel_dump_traceback_later()
    return result


def compare(result: Result, differences: dict[str, str], problems: list[str]) -> tuple[int, int]:
    """Append what is not as it should be to the problems; count what passed, and what differs as listed."""
    listed = 0
    for name, report in result.reports.items():
        shows = differences.get(method(name))
        if shows is None or LEFT in report:
            problems.append(f"FAILED {name}\n{report}")
        elif shows not in report:
            problems.append(f"FAILED {name}, but without {shows!r} as listed\n{report}")
        else:
            listed += 1
    rotten = {name for name in result.passed if method(name) in differences}
    problems += [f"PASSED {name}: take it out of {EXPECTED.name}" for name in sorted(rotten)]
    return len(result.passed - rotten), listed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
