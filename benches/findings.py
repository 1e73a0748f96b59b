"""What a run has found: rows of times, bars with their limits, notes."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from contest import Life


@dataclass(frozen=True)
class Summary:
    """Microseconds."""

    min: float
    median: float
    p90: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        p90 = statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
        return cls(min(values), statistics.median(values), p90, len(values))


@dataclass(frozen=True)
class Row:
    """What one contender needed."""

    measure: str
    flags: str
    payload: str
    contender: str
    to_return: Summary | None
    whole: Summary


@dataclass(frozen=True)
class Bar:
    """A promise and what became of it; `value` is None when it could not be measured.

    `noise` is the baseline divided by itself in the same contest: a ratio is not known any better.
    """

    measure: str
    subject: str
    value: float | None
    limit: float
    unit: str = "×"
    lowest: float | None = None
    noise: float | None = None

    @property
    def ok(self) -> bool:
        return self.value is not None and self.value <= self.limit


@dataclass
class Findings:
    rows: list[Row] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def row(measure: str, flags: str, payload: str, contender: str, lives: Sequence[Life]) -> Row:
    has_return = any(life.returned != life.reaped for life in lives)
    return Row(
        measure,
        flags,
        payload,
        contender,
        Summary.of([life.to_return for life in lives]) if has_return else None,
        Summary.of([life.whole for life in lives]),
    )


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the quotients of neighbours: what slows both down cancels out."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def ratio(lives: dict[str, list[Life]], ours: str, theirs: str) -> float | None:
    if ours not in lives or theirs not in lives:
        return None
    return paired_ratio([life.whole for life in lives[ours]], [life.whole for life in lives[theirs]])


def ratio_bar(
    measure: str,
    subject: str,
    limit: float,
    lives: dict[str, list[Life]],
    ours: str,
    theirs: str,
    noise: float | None = None,
) -> Bar:
    value = ratio(lives, ours, theirs)
    if value is None:
        return Bar(measure, subject, None, limit)
    best = {name: min(life.whole for life in lives[name]) for name in (ours, theirs)}
    return Bar(measure, subject, value, limit, lowest=best[ours] / best[theirs], noise=noise)
