"""What helps to understand a failure inside: the namespaces of the test, their links and their mounts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import nslab

from .._namespace import names


def of(pid: int, flags: int) -> list[tuple[str, str]]:
    """Return the sections for a report about this process."""
    found = []
    with contextlib.suppress(OSError):
        found.append(("namespaces", _namespaces(pid, flags)))
    if flags & nslab.Namespace.NET:
        with contextlib.suppress(OSError):
            found.append(("links", _links(pid)))
    if flags & nslab.Namespace.MNT:
        with contextlib.suppress(OSError):
            found.append(("mounts", _mounts(pid)))
    return found


def _namespaces(pid: int, flags: int) -> str:
    new = set(names(flags))
    rows = nslab.namespaces(pid).items()
    return "\n".join(f"{name:<8}{found}{'  new' if name in new else ''}" for name, found in rows)


def _links(pid: int) -> str:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return "\n".join(line.partition(":")[0].strip() for line in lines)


def _mounts(pid: int) -> str:
    rows = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        rows.append(f"{fields[4]:<32} {kind}")
    return "\n".join(rows)


