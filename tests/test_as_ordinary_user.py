"""The second pass: every test marked ``unprivileged`` once more, as a user without privileges."""

from __future__ import annotations

import os
import re

import pytest
from conftest import ROOT, as_ordinary_user


@pytest.mark.skipif(not ROOT, reason="this is the second pass already")
@pytest.mark.timeout(1200)
def test_suite_as_ordinary_user() -> None:
    run = "$PYTHON -m pytest -p no:cacheprovider -m unprivileged --color=no -q tests"
    done = as_ordinary_user(f"id -u; {run}")
    print(done.stdout)
    assert done.stdout.startswith("65534\n")
    assert done.returncode == os.EX_OK, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 20
