"""docs/proof.md, from what the parts have found."""

from __future__ import annotations

import os
import platform
import textwrap
from pathlib import Path

from .part import DIRECTORY, Part

PAGE = Path("docs/proof.md")
HEAD = """\
# Proof

What nslab promises, tried on a real kernel and counted. This page is written by `python -m proof --page` from the
last full run of each part; every number is reproduced by `make proof`, or by the command in its section. CI runs
`make proof-short`.
"""


def machine() -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"Linux {platform.release().split('-')[0]} {platform.machine()}, {os.cpu_count()} CPUs, {memory:.0f} GiB, "
        f"Python {platform.python_version()}."
    )


def section(part: Part) -> str:
    verdict = "holds" if part.holds else "does not hold"
    command = f"python -m proof {part.name}" + (" --short" if part.short else "")
    lines = [f"## {part.title}", "", part.claim, ""]
    lines += [f"**{verdict}** · `{command}` · {part.seconds:.0f} s", ""]
    if part.rows:
        lines += table(part.columns, part.rows)
    lines += [f"{note}\n" for note in part.notes]
    if part.kernel:
        lines += ["What the kernel prevents:", "", *(f"- {reason}" for reason in part.kernel), ""]
    if part.failures:
        lines += ["Failures:", "", *(f"- {failure}" for failure in part.failures), ""]
    return "\n".join(lines)


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (columns, *rows)]
    head, *body = (f"| {' | '.join(row)} |" for row in cells)
    return [head, f"|{'---|' * len(columns)}", *body, ""]


def write(names: tuple[str, ...]) -> None:
    parts = [Part.load(name) for name in names if (DIRECTORY / f"{name}.json").exists()]
    for part in parts:
        # A whole one names files of the machine it was found on; it stays in target/proof.
        failures = [failure.replace(os.getcwd(), ".") for failure in part.failures]
        part.failures = [textwrap.shorten(failure, 110, placeholder=" …") for failure in failures]
    missing = [name for name in names if name not in {part.name for part in parts}]
    without = f"No full run of these parts was kept: {', '.join(missing)}.\n" if missing else ""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join([HEAD, machine(), "", without, *map(section, parts)]).rstrip() + "\n")
