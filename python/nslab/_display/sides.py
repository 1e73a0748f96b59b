"""`sides`: the same questions inside and outside, and where the answers differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from .._inspect.snapshot import Snapshot
from .labels import name
from .palette import FAINT, look
from .picture import Picture
from .svg import Canvas
from .table import Cell, Table, namespace_cell
from .views import QUESTIONS, Answer, Question

# Of what differs, so many lines under each question.
_LINES = 5
_UNKNOWN = "? not known"
_SAME, _DIFFERENT = "= same", "≠ different"


class _Compared(NamedTuple):
    question: Question
    verdict: str
    rows: list[list[str | Cell]]


def sides(inside: Snapshot, outside: Snapshot) -> Picture:
    """Draw what both answer to the same questions; of long answers, such as the mounts, only what differs."""
    # First of all, so that in stable mode the two are not numbered behind all their processes.
    names = name(inside.name), name(outside.name)
    words = ("inside", "outside") if outside.name == "host" else ("left", "right")
    compared = [_compare(question, inside, outside, words) for question in QUESTIONS]
    header = ["", "namespace", *(f"{word}: {who}" for word, who in zip(words, names, strict=True)), ""]
    table = Table(header, [row for item in compared for row in item.rows], limit=44)
    summary = _summary(compared)
    canvas = Canvas(f"The same questions, {' and '.join(words)}: {names[0]} and {names[1]}", summary)
    canvas.text(0, 14, canvas.title, size=16, bold=True, width=900)
    canvas.text(0, 38, summary, fill=FAINT)
    table.draw(canvas, 0, 52)
    return Picture(canvas.title, canvas.svg(), f"{summary}\n{table.text()}", table=table.html())


def alone(snapshot: Snapshot) -> Picture:
    """Draw what one of them answers."""
    rows: list[list[str | Cell]] = []
    for question in QUESTIONS:
        answer = question.ask(snapshot)
        own = namespace_cell(look(snapshot.namespaces.get(question.namespace)))
        rows.append([question.title, own, Cell(answer.text) if answer else _missing(question, snapshot)])
        items = [*answer.items.values()] if answer and not answer.whole else []
        rows += [["", "", Cell(item, faint=True)] for item in items[:_LINES]]
        if len(items) > _LINES:
            rows.append(["", "", Cell(f"… and {len(items) - _LINES} more", faint=True)])
    table = Table(["", "namespace", name(snapshot.name)], rows, limit=64)
    canvas = Canvas(f"What is seen: {name(snapshot.name)}")
    canvas.text(0, 14, canvas.title, size=16, bold=True, width=900)
    table.draw(canvas, 0, 28)
    return Picture(canvas.title, canvas.svg(), f"{canvas.title}\n{table.text()}", table=table.html())


def _summary(compared: list[_Compared]) -> str:
    counts = Counter(item.verdict for item in compared)
    words = f"{counts[_DIFFERENT]} answers differ, {counts[_SAME]} are the same"
    return words + (f", {counts[_UNKNOWN]} are not known" if counts[_UNKNOWN] else "")


def _compare(question: Question, inside: Snapshot, outside: Snapshot, words: tuple[str, str]) -> _Compared:
    answers = (question.ask(inside), question.ask(outside))
    if answers[0] is None or answers[1] is None:
        verdict = Cell(_UNKNOWN, faint=True)
    elif answers[0] == answers[1]:
        verdict = Cell(_SAME)
    else:
        verdict = Cell(_DIFFERENT, strong=True)
    cells = [
        Cell(answer.text, strong=verdict.strong) if answer else _missing(question, snapshot)
        for answer, snapshot in zip(answers, (inside, outside), strict=True)
    ]
    head: list[str | Cell] = [question.title, _namespaces(question.namespace, inside, outside), *cells, verdict]
    return _Compared(
        question, verdict.text, [head, *(_differences(*answers, question.apart, words) if verdict.strong else [])]
    )


def _missing(question: Question, snapshot: Snapshot) -> Cell:
    reason = snapshot.notes.get(question.field)
    return Cell(f"? {reason}" if reason else "? not readable", faint=True)


def _namespaces(kind: str, inside: Snapshot, outside: Snapshot) -> Cell:
    held = (inside.namespaces.get(kind), outside.namespaces.get(kind))
    if None in held:
        return Cell(f"{kind} ?", faint=True)
    return Cell(f"same {kind}", faint=True) if held[0] == held[1] else Cell(f"another {kind}")


def _differences(
    inside: Answer | None, outside: Answer | None, apart: str, words: tuple[str, str]
) -> list[list[str | Cell]]:
    """Return a row for each item that only one side has, or that is not the same on both."""
    if inside and outside and inside.whole and outside.whole:
        return []
    ours, theirs = inside.items if inside else {}, outside.items if outside else {}
    both = [key for key in ours if key in theirs and ours[key] != theirs[key]]
    mine = [key for key in ours if key not in theirs]
    other = [key for key in theirs if key not in ours]
    rows: list[list[str | Cell]] = []
    for keys, verdict in ((both, apart), (mine, f"only {words[0]}"), (other, f"only {words[1]}")):
        rows += [_row(ours.get(key, ""), theirs.get(key, ""), verdict) for key in keys[:_LINES]]
        if len(keys) > _LINES:
            more = f"… and {len(keys) - _LINES} more"
            rows.append(_row("" if keys is other else more, "" if keys is mine else more, verdict))
    same = _same(ours, theirs)
    return [*rows, *([_row(f"… and {same} the same", f"… and {same} the same", "=")] if same else [])]


def _same(ours: Mapping[Hashable, str], theirs: Mapping[Hashable, str]) -> int:
    return sum(1 for key in ours if key in theirs and ours[key] == theirs[key])


def _row(ours: str, theirs: str, verdict: str) -> list[str | Cell]:
    return ["", "", Cell(ours, faint=verdict == "="), Cell(theirs, faint=verdict == "="), Cell(verdict, faint=True)]
