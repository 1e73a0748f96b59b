"""Functions called for the user of these tests, by `call` and by executors, and scripts that do so."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import with_user

import nslab

HERE = str(Path(__file__).parent)
WITHOUT_CLOUDPICKLE = "sys.modules['cloudpickle'] = None\n"


def call(flags: Any, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`nslab.call`, for an ordinary user with the user namespace."""
    bits, options = with_user(flags, options)
    return nslab.call(bits, fn, *args, **options)


def wait_for(path: Path) -> str:
    """Return what a function has written, once it is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return path.read_text()


def script(tmp_path: Path, text: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script that has `called` and a `call` for this user; return what it printed, errors included."""
    path = tmp_path / "script.py"
    path.write_text(f"import sys; sys.path.insert(0, {HERE!r})\nimport called, nslab\nfrom calling import call\n{text}")
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    return subprocess.run([sys.executable, str(path)], check=False, **options)


def executor(flags: Any, max_workers: int | None = 2, **options: Any) -> nslab.Executor:
    """`nslab.Executor`, for an ordinary user with the user namespace."""
    bits, options = with_user(flags, options)
    return nslab.Executor(bits, max_workers, **options)
