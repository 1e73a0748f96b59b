"""Findings as Markdown and JSON."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata

from findings import Bar, Findings, Row, Summary


def environment() -> dict[str, str]:
    try:
        version = metadata.version("nslab")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return {
        "nslab": version,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def as_json(findings: Findings) -> str:
    bars = [{**asdict(bar), "ok": bar.ok} for bar in findings.bars]
    rows = [asdict(row) for row in findings.rows]
    content = {
        "environment": environment(),
        "command": sys.argv[1:],
        "bars": bars,
        "rows_in_microseconds": rows,
        "notes": findings.notes,
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_markdown(findings: Findings) -> str:
    parts = [
        "# nslab bench",
        ", ".join(f"{what} {value}" for what, value in environment().items()),
        "## Bars",
        "Ratios are medians of neighbouring whole lives (spawn, wait, close); `min ÷ min` divides the best "
        "of each; `A/A` is the C baseline divided by itself: the accuracy of that line.",
        table(
            ["measure", "flags", "measured", "bar", "", "min ÷ min", "A/A"],
            (bar_cells(bar) for bar in findings.bars),
        ),
        "## Times",
        "Microseconds, min / median / p90.",
        table(
            ["measure", "flags", "payload", "contender", "call → return", "whole life"],
            (row_cells(row) for row in findings.rows),
        ),
    ]
    if findings.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in findings.notes)]
    return "\n\n".join(parts) + "\n"


def bar_cells(bar: Bar) -> list[str]:
    if bar.value is None:
        measured, verdict = "not measured", "MISS"
    else:
        measured, verdict = quantity(bar.value, bar.unit), "ok" if bar.ok else "**MISS**"
    return [
        bar.measure,
        bar.subject,
        measured,
        f"≤ {quantity(bar.limit, bar.unit)}",
        verdict,
        "" if bar.lowest is None else quantity(bar.lowest, bar.unit),
        "" if bar.noise is None else quantity(bar.noise, "×"),
    ]


def quantity(value: float, unit: str) -> str:
    if unit == "":
        return f"{value:.0f}"
    if unit == "×":
        return f"{value:.3f}" if value < 10 else f"{value:.0f}"
    return f"{value:.2f} {unit}"


def row_cells(row: Row) -> list[str]:
    return [
        row.measure,
        row.flags,
        row.payload,
        row.contender,
        summary_cell(row.to_return),
        summary_cell(row.whole),
    ]


def summary_cell(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    return f"{summary.min:.0f} / {summary.median:.0f} / {summary.p90:.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Padded, because it is read in a terminal as often as in a browser."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
