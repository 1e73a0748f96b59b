"""`twins`: a plan beside the same experiment with unshare(1) and in C."""

from __future__ import annotations

from collections.abc import Iterator

from .._plan import Plan
from .labels import call
from .palette import FAINT, INK, SHADE
from .picture import Picture
from .svg import Canvas, measure
from .text import clean, width

_SIZE, _LINE = 12.0, 17.0
# Where the shell line is broken, and where any line is shortened.
_BROKEN, _CELLS = 84, 104
# The program is longer; what it is about are its two functions.
_C_LINES = 70
_C_FIRST = "static int child("


def twins(plan: Plan) -> Picture:
    """Draw the steps of a plan, the shell line that does the same, and the C program that does the same.

    >>> print(nslab.pictures.twins(nslab.plan("uts", ["true"], hostname="lab")).text)
    ── nslab.plan(…) ────────────────────
    parent  clone3({flags=CLONE_NEWUTS, exit_signal=SIGCHLD})
    ...
    """
    steps = [clean(call(line)) for line in str(plan).splitlines()]
    shell = [clean(line) for line in plan.unshare_command().splitlines()]
    program = [clean(call(line)).rstrip() for line in plan.c_source().splitlines()]
    title = "The same experiment three times: as a plan, with unshare(1), in C"
    canvas = Canvas(title)
    canvas.text(0, 14, title, size=16, bold=True)
    below, right = _panel(canvas, 0, 34, f"nslab.plan(…): {len(steps)} steps", steps)
    _, far = _panel(canvas, 0, below + 18, "unshare(1)", [part for line in shell for part in _wrapped(line)])
    _panel(canvas, max(right, far) + 18, 34, "C, without its helpers", _excerpt(program))
    parts = (("nslab.plan(…)", steps), ("unshare(1)", shell), ("C", program))
    text = "\n\n".join("\n".join([f"── {head} {'─' * 20}", *lines]) for head, lines in parts)
    return Picture(title, canvas.svg(), text)


def _panel(canvas: Canvas, x: float, y: float, head: str, lines: list[str]) -> tuple[float, float]:
    """Draw the lines under a head and return the lower and the right edge."""
    lines = lines or [""]
    wide = max(320.0, *(measure(line, _SIZE) for line in (head, *(line[:_CELLS] for line in lines)))) + 24
    high = 26 + _LINE * len(lines) + 12
    canvas.rect(x, y, wide, high)
    canvas.rect(x, y, wide, 26, fill=SHADE)
    canvas.text(x + 10, y + 17.5, head, bold=True)
    for index, line in enumerate(lines):
        said = line.lstrip().startswith(("#", "/*", "…")) and not line.startswith("#include")
        fill = FAINT if said else INK
        canvas.text(x + 10, y + 26 + _LINE * (index + 1) - 2, line, size=_SIZE, fill=fill, width=wide - 20)
    return y + high, x + wide


def _wrapped(line: str) -> Iterator[str]:
    """Break a long line at blanks, for the drawing: the text has it whole."""
    start = line[: len(line) - len(line.lstrip())]
    shown = start
    for word in line[len(start) :].split(" "):
        if shown.strip() and width(shown) + width(word) >= _BROKEN:
            yield shown.rstrip()
            shown = f"{start}# " if line.startswith("#") else f"{start}    "
        shown += word + " "
    yield shown.rstrip()


def _excerpt(program: list[str]) -> list[str]:
    first = next((at for at, line in enumerate(program) if line.startswith(_C_FIRST)), 0)
    shown = program[first : first + _C_LINES]
    left_out = len(program) - first - len(shown)
    return [*shown, f"… and {left_out} more lines"] if left_out else shown
