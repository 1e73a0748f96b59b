"""Findings as one picture: nslab against C, the peers' times, and every promise with its limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from findings import Bar, Findings
from report import environment, quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "C baseline": "#555555",
    "nslab": "#d1495b",
    "subprocess": "#2e86ab",
    "posix_spawn": "#84bcda",
    "unshare": "#edae49",
    "bwrap": "#66a182",
}
PAYLOADS = {"/bin/true": ("o", "#d1495b"), "no libc": ("D", "#7b5ea7")}
OK, MISS, LIMIT = "#66a182", "#d1495b", "#222222"
WIDEST_RATIO = 1.5
BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


def save(findings: Findings, path: Path) -> None:
    try:
        import matplotlib
    except ModuleNotFoundError:
        findings.note("No plot: matplotlib is not installed (`make bench` does it).")
        return
    matplotlib.use("agg")
    matplotlib.rcParams.update(
        {
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.axisbelow": True,
            "font.size": 10,
            "svg.fonttype": "none",
        }
    )
    from matplotlib.figure import Figure

    ratios = [bar for bar in findings.bars if "C baseline" in bar.measure]
    others = [bar for bar in findings.bars if bar not in ratios]
    figure = Figure(figsize=(13, 5.5 + 0.33 * len(others)), layout="constrained")
    # Two subfigures, so that the long labels below do not narrow the two pictures above.
    parts = figure.add_gridspec(2, 1, height_ratios=[5.2, 0.8 + 0.33 * len(others)])
    upper, lower = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
    left, right = upper.subplots(1, 2)
    draw_ratios(left, ratios)
    draw_times(right, findings)
    draw_promises(lower.add_subplot(), others)
    figure.suptitle(
        ", ".join(f"{what} {value}" for what, value in environment().items()),
        fontsize=9,
        color="#555555",
    )
    figure.savefig(path.with_suffix(".svg"))
    figure.savefig(path.with_suffix(".png"), dpi=110)


def draw_ratios(axes: Axes, bars: list[Bar]) -> None:
    """One line per flag set: both payloads, their limits, and the accuracy of the comparison."""
    flags = list(dict.fromkeys(bar.subject for bar in bars))
    axes.set_title("spawn + wait ÷ the same in C (grey: C ÷ itself)")
    axes.set_xlim(0.9, WIDEST_RATIO + 0.02)
    axes.axvline(1, color="#999999", linewidth=1)
    for payload, offset in zip(PAYLOADS, (-0.14, 0.14), strict=True):
        marker, colour = PAYLOADS[payload]
        chosen = [bar for bar in bars if bar.measure.endswith(payload)]
        seen = [bar for bar in chosen if bar.value is not None]
        if not seen:
            continue
        heights = [flags.index(bar.subject) + offset for bar in seen]
        limit = seen[0].limit
        axes.axvline(limit, color=colour, linestyle="--", linewidth=1.2)
        clipped = [bar.value is not None and bar.value > WIDEST_RATIO for bar in seen]
        noise = [0.0 if outside else abs((bar.noise or 1) - 1) for bar, outside in zip(seen, clipped, strict=True)]
        axes.errorbar(
            [min(bar.value or 0, WIDEST_RATIO) for bar in seen],
            heights,
            xerr=noise,
            fmt=marker,
            color=colour,
            ecolor="#999999",
            capsize=2,
            markersize=6,
            label=f"{payload}, limit {limit:.2f}",
        )
        for bar, height, outside in zip(seen, heights, clipped, strict=True):
            if outside:
                text = f"{bar.value:.2f} →"
                axes.text(WIDEST_RATIO - 0.01, height, text, ha="right", va="center", fontsize=9)
    axes.set_yticks(range(len(flags)), flags)
    axes.invert_yaxis()
    axes.grid(axis="y", color="#eeeeee")
    if flags:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2, frameon=False)


def draw_times(axes: Axes, findings: Findings) -> None:
    """Who needs how long, log scale: the peers are several times away."""
    rows = [row for row in findings.rows if (row.measure, row.payload) == ("spawn", "/bin/true")]
    flags = list(dict.fromkeys(row.flags for row in rows))
    axes.set_title("spawn + wait: median and p90, ms")
    for place, (contender, colour) in enumerate(COLOURS.items()):
        # A little below each other, or those who are equally fast would hide each other.
        offset = 0.1 * (place - len(COLOURS) / 2)
        chosen = [row for row in rows if row.contender == contender]
        if not chosen:
            continue
        medians = [row.whole.median / 1000 for row in chosen]
        tails = [max(row.whole.p90 - row.whole.median, 0) / 1000 for row in chosen]
        axes.errorbar(
            medians,
            [flags.index(row.flags) + offset for row in chosen],
            xerr=[[0.0] * len(tails), tails],
            fmt="o" if contender != "C baseline" else "|",
            markersize=7 if contender != "C baseline" else 15,
            markeredgewidth=1 if contender != "C baseline" else 2.5,
            color=colour,
            elinewidth=1,
            label=contender,
            zorder=3 if contender in ("nslab", "C baseline") else 2,
        )
    if not flags:
        return
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 4, 8]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(flags)), flags)
    axes.invert_yaxis()
    axes.grid(color="#eeeeee")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, frameon=False)


def draw_promises(axes: Axes, bars: list[Bar]) -> None:
    """Different units share one scale: the share of what is allowed."""
    axes.set_title("the other promises, as a share of their limit")
    axes.axvline(1, color=LIMIT, linestyle="--", linewidth=1.2)
    for height, bar in enumerate(bars):
        limit = f"≤ {quantity(bar.limit, bar.unit)}"
        if bar.value is None:
            share, text = 0.0, f"not measured ({limit})"
        else:
            # Nothing is allowed of some: any at all is a full miss.
            share = bar.value / bar.limit if bar.limit else min(bar.value, 1) * 1.4
            text = f"{quantity(bar.value, bar.unit)} ({limit})"
        shown = min(max(share, 0), 1.4)
        axes.barh(height, shown, color=OK if bar.ok else MISS, height=0.62)
        if shown < share:
            text = f"→ {text}"
        axes.text(shown + 0.008, height, text, va="center", fontsize=9, bbox=BEHIND_TEXT)
    labels = [f"{bar.measure}  {bar.subject}".rstrip() for bar in bars]
    axes.set_yticks(range(len(bars)), labels)
    axes.set_xlim(0, 1.65)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "limit"])
    axes.invert_yaxis()
