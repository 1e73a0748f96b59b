"""What the command line and the configuration say, and what is possible here."""

from __future__ import annotations

import errno
import os

import pytest

import nslab


def check(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` for what cannot work."""
    leaks = config.getini("nslab_leaks")
    if leaks not in ("fail", "ignore"):
        raise pytest.UsageError(f"nslab_leaks must be fail or ignore, not {leaks!r}")
    if config.getoption("nslab_shell_on_fail") and (
        hasattr(config, "workerinput") or config.getoption("numprocesses", None)
    ):
        raise pytest.UsageError(
            "--nslab-shell-on-fail needs the terminal, which the workers of -n do not have: leave one of the two out"
        )


def missing(config: pytest.Config) -> str:
    """Return ``"skip"`` or ``"fail"``: what becomes of a test whose namespaces are not permitted here."""
    chosen: str = config.known_args_namespace.nslab_missing or config.getini("nslab_missing") or "skip"
    if chosen not in ("skip", "fail"):
        raise pytest.UsageError(f"nslab_missing must be skip or fail, not {chosen!r}")
    return chosen


def header() -> str:
    """Return the line for the report's header: which namespaces can be made here."""
    found = nslab.probe()
    inside = os.environ.get("NSLAB_PYTEST", "")
    where = ""
    if inside.startswith("inside:"):
        kinds = [entry.partition(":")[0] for entry in inside.removeprefix("inside:").split(",")]
        where = f"inside new {' '.join(kinds)}; "
    return f"nslab: {where}" + " ".join(f"{name} {_verdict(result)}" for name, result in found.items())


def _verdict(found: nslab.Probe) -> str:
    if found.ok:
        return "✓"
    return f"✗({errno.errorcode.get(found.errno or 0, found.step)})"
