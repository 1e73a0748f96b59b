"""``nslab tour``: the experiments, each with what the child saw beside what the host sees."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from nslab.experiments import EXPERIMENTS, Experiment, Made, Outcome, Seen, run

from .terminal import paint, width

_INDENT = "    "
_NOT_ROOT = "(not root here: the user namespace and map_root_user are added)"


def choose(names: Sequence[str]) -> list[Experiment]:
    """Return the experiments of these names, or all.

    Raises `ValueError` for a name that there is not.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise ValueError(f"no experiment {name!r}: there are {', '.join(EXPERIMENTS)}")
    return [EXPERIMENTS[name] for name in names] or list(EXPERIMENTS.values())


def list_them(chosen: Iterable[Experiment], *, as_json: bool) -> int:
    """Print name and title of each."""
    rows = [{"name": one.name, "title": one.title, "shows": one.shows} for one in chosen]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(f"{row['name']:<8}{row['title']}" for row in rows))
    return 0


def tour(chosen: Sequence[Experiment], *, as_json: bool) -> int:
    """Make the experiments and print them; return 0 when every verdict holds, else 1."""
    outcomes = []
    for experiment in chosen:
        outcome = run(experiment)
        outcomes.append(outcome)
        if not as_json:
            print("\n".join(_lines(outcome)) + "\n", flush=True)
    false = [outcome.experiment.name for outcome in outcomes if not outcome.holds]
    if as_json:
        print(json.dumps({"experiments": [_plain(one) for one in outcomes], "false": false}, indent=2))
    else:
        print(_summary(len(outcomes), false))
    return 1 if false else 0


def _plain(outcome: Outcome) -> dict[str, Any]:
    experiment = outcome.experiment
    return {
        "name": experiment.name,
        "title": experiment.title,
        "shows": experiment.shows,
        "calls": [asdict(made) for made in outcome.made],
        "left_out": list(outcome.left_out),
        "claim": experiment.claim,
        "verdict": outcome.holds,
        "reasons": list(outcome.reasons),
    }


def _summary(count: int, false: list[str]) -> str:
    verdicts = "1 verdict" if count == 1 else f"{count} verdicts"
    if false:
        return paint(f"{verdicts}, {len(false)} false: {', '.join(false)}", "bold", "red")
    return paint(f"{verdicts}, {'all ' if count > 1 else ''}true", "bold", "green")


def _lines(outcome: Outcome) -> Iterator[str]:
    experiment = outcome.experiment
    yield f"{paint(experiment.name, 'bold')}  {paint(experiment.title, 'bold')}"
    yield ""
    yield from textwrap.wrap(experiment.shows, min(width(), 100) - 2, initial_indent="  ", subsequent_indent="  ")
    yield ""
    for made in outcome.made:
        yield from _made(made)
    for note in outcome.left_out:
        yield f"  {paint(f'left out, as only root may do it: {note}', 'dim')}"
        yield ""
    if outcome.holds:
        yield from _wrapped("true", experiment.claim, "green")
    for reason in outcome.reasons:
        yield from _wrapped("false", reason, "red")


def _wrapped(verdict: str, text: str, colour: str) -> Iterator[str]:
    indent = " " * (len(verdict) + 4)
    lines = textwrap.wrap(text, width() - len(indent)) or [""]
    yield f"  {paint(verdict + ':', 'bold', colour)} {lines[0]}"
    for line in lines[1:]:
        yield indent + line


def _made(made: Made) -> Iterator[str]:
    if made.note:
        yield f"  {made.note}:"
    if made.user_added:
        yield f"  {paint(_NOT_ROOT, 'dim')}"
    yield from (f"{_INDENT}{paint(line, 'cyan')}" for line in made.call.splitlines())
    yield ""
    rows = [row for row in made.seen if row.child or row.host]
    if rows:
        yield from (f"{_INDENT}{line}".rstrip() for line in _table(rows, width() - len(_INDENT)))
        yield ""


def _table(rows: list[Seen], columns: int) -> Iterator[str]:
    """Yield the rows in two columns where both sides fit beside each other, else one below the other."""
    label = max(len(row.what) for row in rows)
    beside = sorted(rows, key=lambda row: _width(row.child) + _width(row.host))
    while beside and label + _column(beside, "child") + _column(beside, "host") + 4 > columns:
        beside.pop()
    child = _column(beside, "child")
    if beside:
        yield " " * (label + 2) + paint(f"{'child':<{child}}", "dim") + "  " + paint("host", "dim")
    for row in rows:
        if row in beside:
            yield from _beside(row, label, child)
        else:
            yield from _below(row)


def _beside(row: Seen, label: int, child: int) -> Iterator[str]:
    left, right = row.child.splitlines(), row.host.splitlines()
    for i in range(max(len(left), len(right))):
        what = row.what if i == 0 else ""
        inside = left[i] if i < len(left) else ""
        outside = right[i] if i < len(right) else ""
        yield f"{what:<{label}}  {inside:<{child}}  {outside}"


def _below(row: Seen) -> Iterator[str]:
    yield row.what
    for side, text in (("child", row.child), ("host", row.host)):
        for i, line in enumerate(text.splitlines()):
            yield f"  {paint(f'{side:<5}', 'dim') if i == 0 else ' ' * 5}  {line}"


def _column(rows: list[Seen], side: str) -> int:
    return max([len(side), *(_width(getattr(row, side)) for row in rows)])


def _width(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)
