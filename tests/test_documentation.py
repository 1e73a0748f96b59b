"""Every Python block of the README runs, and every docstring example."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import nslab

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
MODULES = [f"nslab.{module.name}" for module in pkgutil.iter_modules(nslab.__path__)]
EXAMPLES = ["nslab", *(name for name in MODULES if name not in {"nslab.__main__", "nslab._core"})]


def test_the_readme_has_examples() -> None:
    assert len(BLOCKS) == 10


@pytest.mark.unprivileged
@pytest.mark.parametrize("block", BLOCKS)
def test_readme(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, str(README), "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    shared = {"nslab": nslab, "os": os, "asyncio": asyncio, "subprocess": subprocess}
    outcome = doctest.testmod(module, extraglobs=shared, optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0
