"""libFuzzer on the parsers and on `Plan::new`, by cargo-fuzz: see `fuzz/`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TARGETS = tuple(sorted(target.stem for target in Path("fuzz/targets").glob("*.rs") if target.stem != "shell"))
CORPUS = Path("target/fuzz")
TRIPLE = "x86_64-unknown-linux-gnu"
# What comes out of a run that ended by itself.
_DONE = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_COVERED = re.compile(r"cov: (\d+)")


def missing() -> str | None:
    """Say what this machine lacks for it, if anything."""
    if not _cargo_fuzz():
        return "cargo-fuzz is not installed (make .venv/cargo-fuzz)"
    if not shutil.which("c++"):
        return "there is no C++ compiler, with which libFuzzer is built (apt-get install g++)"
    return None


def build() -> str | None:
    """Compile all targets; return what the compiler said if it failed."""
    done = subprocess.run(
        [_cargo_fuzz(), "build"], env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return None if done.returncode == 0 else done.stdout[-2000:]


def run(target: str, seconds: int, start: int) -> tuple[int, int, str | None]:
    """Fuzz one target for so long; return how many inputs that were, how much code they reach, and what was found."""
    corpus = CORPUS / target
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", f"-artifact_prefix={CORPUS}/{target}-"]
    # 0 would be one of its own choice.
    options.append(f"-seed={start % 2**31 or 1}")
    command = [_cargo_fuzz(), "run", target, str(corpus.absolute()), "--", *options]
    done = subprocess.run(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + 300
    )
    runs, covered = _DONE.search(done.stdout), _COVERED.findall(done.stdout)
    found = None if done.returncode == 0 and runs else done.stdout[-2000:]
    return int(runs[1]) if runs else 0, int(covered[-1]) if covered else 0, found


def _cargo_fuzz() -> str:
    own = Path(sys.prefix) / "bin" / "cargo-fuzz"
    return str(own) if own.exists() else shutil.which("cargo-fuzz") or ""


def _environment() -> dict[str, str]:
    # The instrumentation of a stable compiler is complete, but its switches (-Z sanitizer) are for nightly ones.
    return {
        **os.environ,
        "RUSTC_BOOTSTRAP": "1",
        "CARGO_TARGET_DIR": str(Path("target").absolute()),
        "RUST_BACKTRACE": "0",
    }
