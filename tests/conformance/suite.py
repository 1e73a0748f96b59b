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
from collections.abc import Iterable, Iterator, Mapping
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
    every = list(flat(unittest.defaultTestLoader.loadTestsFromName(TESTS)))
    tests = [test for test in every if not parts or any(part in test.id() for part in parts)]
    names = {test.id() for test in tests}
    differences = expected({method(test.id()) for test in every})
    result = run(tests)
    failed = result.reports
    skipped = {test.id() for test, _ in result.skipped} - failed.keys()
    passed = names - failed.keys() - skipped
    listed = {test for test, report in failed.items() if differences.get(method(test), report + "?") in report}
    rotten = {test for test in passed if method(test) in differences}
    return 0


def flat(suite: Iterable[Any]) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flat(item)
        else:
            yield item


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
