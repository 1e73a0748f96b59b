"""`timeline`: one process from the clone to its exit, as a sequence of steps between parent and child."""

from __future__ import annotations

import signal
from typing import NamedTuple

from .._plan import Step, StepTime
from .._process import Process
from .labels import call, duration, name
from .options import options
from .palette import CHANGED, FAINT, INK, SHADE
from .picture import Picture
from .svg import Canvas
from .text import clean, mermaid, pad, shorten, width

_WORDS = {
    "open_ns": "opens the namespaces to join",
    "setns": "joins an existing namespace",
    "unshare": "moves into new namespaces",
    "clear_sighand": "forgets the parent's signal handlers",
    "unshare_files": "gets a descriptor table of its own",
    "await_maps": "waits until its ids are mapped",
    "uid_map": "maps user ids inside to user ids outside",
    "gid_map": "maps group ids inside to group ids outside",
    "setgroups": "whether groups may be changed inside",
    "timens_offsets": "shifts the clocks inside",
    "propagation": "decides where its mounts will be seen",
    "mount_proc": "shows the processes of the new pid namespace",
    "loopback": "switches on the loopback device",
    "sethostname": "changes the host name inside",
    "setdomainname": "changes the NIS domain name inside",
    "note_namespaces": "notes which namespaces it is in",
    "stdio": "connects its input and output",
    "pass_fds": "keeps these descriptors open",
    "chdir": "changes the directory",
    "umask": "sets the mask of new files",
    "restore_signals": "no longer ignores what Python ignores",
    "setsid": "starts a session of its own",
    "setpgid": "moves to another process group",
    "extra_groups": "changes the further groups",
    "setgid": "changes the group",
    "setuid": "changes the user",
    "pdeathsig": "will be signalled when its parent ends",
    "close_fds": "closes what the program should not have",
    "sigmask": "lets signals through again",
    "execve": "replaces itself by the program",
    "keep_caps": "keeps its rights until the program",
    "send_pidfd": "tells the caller which process it is",
    "init": "becomes the init that reaps orphans",
    "keep": "leaves the new namespaces to the caller",
}
_UNSEEN = "no exit seen yet"


class _Row(NamedTuple):
    step: Step
    call: str
    #: In nanoseconds since the clone; None in stable mode and where it was not measured.
    start: int | None
    took: int | None


def timeline(process: Process) -> Picture:
    """Draw what happened between the clone and the exit: who did each step, how long it took, what held the parent.

    >>> with nslab.spawn("user uts", ["true"]) as process:
    ...     print(nslab.pictures.timeline(process).text.splitlines()[4])
    ├──────────────▶...clone3({flags=CLONE_NEWUSER|CLONE_NEWUTS, exit_signal=SIGCHLD})
    """
    plan = process.plan
    return _draw(plan.steps, str(plan).splitlines(), process.timeline, process.pid, process.returncode)


def _draw(
    steps: tuple[Step, ...], calls: list[str], times: tuple[StepTime, ...], number: int, returncode: int | None
) -> Picture:
    rows = _rows(steps, calls, times)
    lanes = [side for side in ("parent", "intermediate", "init", "child") if any(row.step.side == side for row in rows)]
    lanes = [*lanes, *(side for side in ("parent", "child") if side not in lanes)]
    summary = _summary(rows)
    ending = _ending(returncode)
    title = f"From clone to exit: {name(f'pid {number}')}"
    canvas = Canvas(title, f"{summary}; {ending}")
    canvas.text(0, 14, canvas.title, size=16, bold=True)
    canvas.text(0, 38, summary, fill=FAINT)
    _draw_lanes(canvas, rows, lanes, ending, returncode is None)
    text = "\n".join([title, summary, "", *_lines(rows, lanes, ending)])
    return Picture(title, canvas.svg(), text, mermaid=_mermaid(rows, lanes, ending))


def _rows(steps: tuple[Step, ...], calls: list[str], times: tuple[StepTime, ...]) -> list[_Row]:
    """Return the steps as they began, in stable mode as they were planned: two processes may be at work at once."""
    measured = len(times) == len(steps) and not options.stable
    spoken = [line.split(None, 1)[-1] for line in calls]
    if len(calls) != len(steps):
        spoken = [f"{step.name} {step.detail}".strip() for step in steps]
    rows = [_Row(step, call(clean(words)), None, None) for step, words in zip(steps, spoken, strict=True)]
    if not measured:
        return rows
    timed = [
        row._replace(start=time.start - times[0].start, took=time.duration)
        for row, time in zip(rows, times, strict=True)
    ]
    return sorted(timed, key=lambda row: row.start or 0)


def _summary(rows: list[_Row]) -> str:
    ends = [row.start + row.took for row in rows if row.start is not None and row.took is not None]
    counted = f"{len(rows)} steps from the clone to the running program"
    return f"{counted} in {duration(max(ends))}" if ends else counted


def _ending(returncode: int | None) -> str:
    if returncode is None:
        return _UNSEEN
    if returncode >= 0:
        return f"exit {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _took(row: _Row) -> str:
    return "·" if options.stable else "" if row.took is None else duration(row.took)


# ------------------------------------------------------------------------------------------------------- the drawing

_TOP, _HEAD, _STEP, _LANE = 56.0, 34.0, 34.0, 190.0
_BAR = 10.0
_SHARE = 90.0


def _draw_lanes(canvas: Canvas, rows: list[_Row], lanes: list[str], ending: str, runs: bool) -> None:
    x = {side: 124.0 + _LANE * index for index, side in enumerate(lanes)}
    y = [_TOP + _HEAD + 22 + _STEP * index for index in range(len(rows))]
    started = y[0] if y else _TOP + _HEAD
    executed = y[-1] if y else started
    exited = executed + 2.4 * _STEP
    words = x["child"] + 26
    for side in lanes:
        canvas.rect(x[side] - 62, _TOP, 124, 26, fill=SHADE, radius=3)
        canvas.text(x[side], _TOP + 17.5, side, bold=True, anchor="middle")
        canvas.line(x[side], _TOP + 26, x[side], exited + 14, dash="2 3")
    _draw_held(canvas, x["parent"], started, executed, exited)
    _draw_lives(canvas, rows, x, y, exited, runs)
    longest = max((row.took or 0 for row in rows), default=0)
    for row, at in zip(rows, y, strict=True):
        _draw_step(canvas, row, at, x, words, longest)
    if rows:
        canvas.arrow(x["child"] - _BAR, executed + 10, x["parent"] + _BAR, executed + 10, dash="5 3")
        canvas.text(x["parent"] + 16, executed + 24, "the parent goes on", size=11, fill=FAINT)
    canvas.text(words, executed + 1.5 * _STEP, "the program runs", fill=FAINT, italic=True)
    canvas.text(words, exited + 4.5, ending, bold=True)
    if not runs:
        canvas.arrow(x["child"] - _BAR, exited, x["parent"] + _BAR, exited, dash="5 3")
        canvas.text(x["parent"] + 16, exited - 6, f"wait(): {ending}", size=11, fill=FAINT, width=_LANE - 30)


def _draw_held(canvas: Canvas, x: float, started: float, executed: float, exited: float) -> None:
    canvas.rect(x - 5, started - 14, 10, 14, fill="#9cc3e0", stroke=INK, radius=0)
    canvas.rect(x - 5, started, 10, executed + 10 - started, fill=CHANGED, stroke=INK, dash="3 2", radius=0)
    canvas.rect(x - 5, executed + 10, 10, exited + 6 - executed - 10, fill="#9cc3e0", stroke=INK, radius=0)
    middle = (started + executed) / 2
    for line, words in enumerate(("the kernel", "holds it until", "execve (vfork)")):
        canvas.text(x - 14, middle + 15 * line, words, size=11, fill=INK, anchor="end", width=110)


def _draw_lives(
    canvas: Canvas, rows: list[_Row], x: dict[str, float], y: list[float], exited: float, runs: bool
) -> None:
    """Draw the bars of the processes that are made: while they are nslab's, and while the program runs."""
    for side in x.keys() - {"parent"}:
        own = [at for row, at in zip(rows, y, strict=True) if row.step.side == side]
        if own:
            first = _made_at(rows, y, side)
            canvas.rect(x[side] - 5, first, 10, own[-1] + 10 - first, fill="#f3d08f", stroke=INK, radius=0)
    if y:
        canvas.rect(x["child"] - 5, y[-1] + 10, 10, exited - y[-1] - 10, fill="#8fd3bd", stroke=INK, radius=0)
    if not runs:
        canvas.line(x["child"] - 9, exited, x["child"] + 9, exited, stroke=INK, line=2.5)


def _made_at(rows: list[_Row], y: list[float], side: str) -> float:
    """Return where the clone that made it is drawn: the last one before its first step, by someone else."""
    made = y[0]
    for row, at in zip(rows, y, strict=True):
        if row.step.side == side:
            break
        if row.step.name == "clone":
            made = at
    return made


def _meaning(row: _Row, target: str | None) -> str:
    if row.step.name == "clone":
        made = {"intermediate": "a process in between", "init": "the init"}.get(target or "", "the child")
        return f"makes {made}" + (", in new namespaces" if "NEW" in row.step.detail else "")
    return _WORDS.get(row.step.name, row.step.name)


def _target(row: _Row, sides: list[str]) -> str | None:
    """Return whom a clone makes: the next lane to the right."""
    if row.step.name != "clone":
        return None
    later = sides[sides.index(row.step.side) + 1 :]
    return later[0] if later else None


def _draw_step(canvas: Canvas, row: _Row, y: float, x: dict[str, float], words: float, longest: int) -> None:
    sides = list(x)
    target = _target(row, sides)
    with canvas.group(f"{row.step.side}: {row.call}"):
        if target:
            canvas.arrow(x[row.step.side] + 6, y, x[target] - 6, y)
            middle = (x[row.step.side] + x[target]) / 2
            canvas.text(middle, y - 6, "clone", size=12, bold=True, anchor="middle")
        else:
            canvas.circle(x[row.step.side], y, 4, fill=INK, stroke=INK)
            if row.step.side != "child":
                canvas.line(x[row.step.side] + 6, y, words - 6, y, stroke="#bdbdbd", dash="1 3")
        canvas.text(words, y - 1, row.call, size=12, bold=row.step.name in ("clone", "execve"), width=430)
        canvas.text(words, y + 12.5, _meaning(row, target), size=11, fill=FAINT)
        canvas.text(words + 510, y + 4, _took(row), size=12, anchor="end")
        if longest and row.took:
            canvas.rect(
                words + 520, y - 5, max(1.0, _SHARE * row.took / longest), 10, fill="#9cc3e0", stroke="none", radius=1
            )


# ----------------------------------------------------------------------------------------------------- text and Mermaid

_COLUMN = 16


def _lines(rows: list[_Row], lanes: list[str], ending: str) -> list[str]:
    """Return the diagram as lines: a column for each process, what it did and how long that took beside them."""
    took = max([4, *(width(_took(row)) for row in rows)])
    heads = "".join(pad(side, _COLUMN) for side in lanes)
    lines = [f"{heads}{pad('took', took, 'r')}  step"]
    alive = {"parent": "┊"}
    for row in rows:
        target = _target(row, lanes)
        at, to = lanes.index(row.step.side), lanes.index(target or row.step.side)
        cells = [alive.get(side, "") for side in lanes]
        cells[at] = "├" if target else "●"
        drawn = [pad(cell, _COLUMN) for cell in cells]
        if target:
            drawn[at:to] = ["├" + "─" * (_COLUMN * (to - at) - 2) + "▶"]
            alive[target] = "│"
        lines.append(f"{''.join(drawn)}{pad(_took(row), took, 'r')}  {shorten(row.call, 76)}")
    back = "◀" + "╌" * (_COLUMN * (len(lanes) - 1) - 1)
    beside = " " * (_COLUMN + took + 1 - len("│"))
    lines.append(f"{back}┤{beside}  the program runs, the parent goes on (┊ it was held, by vfork, until execve)")
    if ending == _UNSEEN:
        lines.append(f"{' ' * len(back)}│{beside}  {ending}")
    else:
        lines.append(f"{back}┴{beside}  {ending}, which wait() returns")
    return [line.rstrip() for line in lines]


def _mermaid(rows: list[_Row], lanes: list[str], ending: str) -> str:
    lines = ["sequenceDiagram", *(f"    participant {side}" for side in lanes)]
    for row in rows:
        target = _target(row, lanes) or row.step.side
        took = f" ({_took(row)})" if _took(row) else ""
        lines.append(f"    {row.step.side}->>{target}: {mermaid(row.call + took)[1:-1]}")
        if len(lines) == len(lanes) + 2:
            lines.append("    Note over parent: held until execve (vfork)")
    lines.append("    child-->>parent: the program runs, the parent goes on")
    if ending != _UNSEEN:
        lines.append(f"    child-->>parent: {mermaid(ending)[1:-1]}")
    return "\n".join(lines)
