"""unshare(1) and a C program do what nslab does, or the difference is explained."""

from __future__ import annotations

from . import laboratory
from .part import Part, seed
from .progress import say

# Requests each as root and as an ordinary user, and how many of them also by the C program.
EXAMPLES = {True: (150, 10), False: (5000, 300)}


def prove(short: bool) -> Part:
    part = Part(
        "differential",
        "Differential",
        "Random requests that both can express, each by `nslab`, by unshare(1) with its companions nsenter(1), "
        "setpriv(1), setsid(1) and env(1) (the line of `Plan.unshare_command`), and some by the C program of "
        "`Plan.c_source`, compiled with `-Wall -Werror`. One program reports what it sees: namespaces, ids, maps, "
        "setgroups, capabilities, mounts with their propagation, names, clocks, lo, groups, directory, umask, signals, "
        "environment, descriptors, and how it ended. Every difference has a row, and there is no other.",
        ["", "as root", "as an ordinary user"],
    )
    with part.timed():
        answers = [_compared(part, ordinary, seed(short), *EXAMPLES[short]) for ordinary in (False, True)]
        _rows(part, answers, "counts", "by ")
        _rows(part, answers, "left out", "not compared: ")
        _rows(part, answers, "explained", "differs: ")
    return part


def _compared(part: Part, ordinary: bool, start: int, examples: int, compiled: int) -> dict[str, dict[str, int]]:
    who = "an ordinary user" if ordinary else "root"
    if not laboratory.ROOT and not ordinary:
        part.notes.append("Requests as root: not run, this was started by an ordinary user.")
        return {}
    say(f"differential: {examples} requests as {who}, seed {start}")
    answer = laboratory.inside("oracle", str(examples), str(start), str(compiled), ordinary=ordinary)
    for failure in answer["failures"]:
        part.expect(False, f"{who}, seed {start}: {failure}")
    for by in ("unshare(1)", "the C program"):
        part.expect(answer["counts"].get(by, 0) > 0, f"{who}: nothing was compared with {by}")
    return answer


def _rows(part: Part, answers: list[dict[str, dict[str, int]]], key: str, words: str) -> None:
    counts = [answer.get(key, {}) for answer in answers]
    for what in sorted({what for count in counts for what in count}):
        part.row(words + what, *(count.get(what, 0) for count in counts))
