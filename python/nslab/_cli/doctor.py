"""What ``nslab doctor`` prints."""

from __future__ import annotations

import errno
import textwrap
from collections.abc import Iterator, Mapping

import nslab

from .terminal import paint, width


def table(found: Mapping[str, nslab.Probe]) -> Iterator[str]:
    """Yield the lines of the table: one a namespace, with the reason and the remedy where it is refused."""
    widest = max(map(len, found), default=0)
    for name, probe in found.items():
        mark = paint("yes", "green") if probe.ok else paint("no ", "red")
        lines = list(_words(probe))
        yield f"{name:<{widest}}  {mark}  {lines[0] if lines else ''}".rstrip()
        for line in lines[1:]:
            yield " " * (widest + 7) + line
    possible = sum(probe.ok for probe in found.values())
    yield ""
    yield f"{possible} of {len(found)} possible here" if possible < len(found) else "all possible here"


def _words(probe: nslab.Probe) -> Iterator[str]:
    columns = max(width() - 14, 40)
    reason = probe.reason or ""
    if probe.step:
        number = errno.errorcode.get(probe.errno or 0, "killed")
        reason = f"{probe.step}: {number}: {reason}"
    yield from textwrap.wrap(reason, columns)
    if probe.fix:
        yield from textwrap.wrap(f"try: {probe.fix}", columns, subsequent_indent="     ", break_on_hyphens=False)
