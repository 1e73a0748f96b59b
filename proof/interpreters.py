"""Which CPythons are at hand, and environments of them with the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In which the wheel is to work; with a t the free-threaded builds that PyO3 takes, of which each has one of its own.
WANTED = ("3.11", "3.12", "3.13", "3.14", "3.15", "3.14t", "3.15t")
ENVIRONMENTS = Path("target/pythons")
ASK = """
import importlib.util, json, platform, sys, sysconfig
test = importlib.util.find_spec("test")
print(json.dumps([
    platform.python_version(), bool(sysconfig.get_config_var("Py_GIL_DISABLED")), platform.python_implementation(),
    bool(test and importlib.util.find_spec("test.test_subprocess")),
]))
"""


@dataclass(frozen=True)
class Interpreter:
    path: str
    version: str
    free_threaded: bool
    #: Whether it carries CPython's own tests.
    has_tests: bool

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2]) + "t" * self.free_threaded

    def __str__(self) -> str:
        return f"CPython {self.version}" + " (free-threaded)" * self.free_threaded


def at_hand() -> dict[str, Interpreter]:
    """Return the newest of each minor version that is wanted, rather with its tests than without."""
    found = sorted(filter(None, map(_ask, _paths())), key=lambda each: (each.has_tests, _numbers(each.version)))
    return {minor: each for minor in WANTED for each in found if each.minor == minor}


def _paths() -> Iterator[str]:
    for minor in WANTED:
        yield from filter(None, (shutil.which(f"python{minor}", path=path) for path in os.get_exec_path()))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for pattern in (f"{pyenv}/versions/*/bin/python3", f"{sys.prefix}/pythons/*/usr/bin/python3.[0-9]*"):
        yield from map(str, Path("/").glob(pattern.lstrip("/")))


def _ask(path: str) -> Interpreter | None:
    done = subprocess.run([path, "-c", ASK], capture_output=True, text=True, timeout=60)
    if done.returncode:
        return None  # a shim of pyenv for a version that is not selected
    version, free_threaded, implementation, has_tests = json.loads(done.stdout)
    return Interpreter(path, version, free_threaded, has_tests) if implementation == "CPython" else None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip; ours installs into it."""

    directory: Path

    @classmethod
    def make(cls, interpreter: Interpreter, directory: Path) -> Environment:
        command = [interpreter.path, "-m", "venv", "--without-pip", "--clear", str(directory)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return cls(directory.absolute())

    @property
    def python(self) -> str:
        return str(self.directory / "bin/python")

    @property
    def path(self) -> str:
        return f"{self.directory}/bin:{os.environ['PATH']}"

    def install(self, *words: str) -> subprocess.CompletedProcess[str]:
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--only-binary=:all:"]
        return subprocess.run([*pip, *words], capture_output=True, text=True)

    def install_with(self, group: str, wheel: Path) -> list[str]:
        """Install a wheel, and of a dependency group what can be; return of what there is no wheel for this Python."""
        if not self.install(str(wheel), "--group", group).returncode:
            return []
        self.install(str(wheel))
        groups = tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"]
        return [each for each in _flat(groups, group) if self.install(each).returncode]

    def run(self, command: Sequence[str], timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
        env: Mapping[str, str] = {**os.environ, "PATH": self.path, "VIRTUAL_ENV": str(self.directory)}
        options = {"env": env, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        return subprocess.run([self.python, *command], text=True, timeout=timeout, **options)


def _flat(groups: dict[str, Any], group: str) -> Iterator[str]:
    for each in groups[group]:
        if isinstance(each, str):
            yield each
        else:
            yield from _flat(groups, each["include-group"])
