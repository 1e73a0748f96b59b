"""How an experiment is made: clone the child, look from both sides while it lives, judge what was seen."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nslab

from ._row import Check, Experiment, Made, Outcome, Seen, Trial, View

# Programs that a small installation may lack, and the Debian package of each.
PACKAGES = {
    "findmnt": "util-linux",
    "hostname": "hostname",
    "ip": "iproute2",
    "ipcmk": "util-linux",
    "ipcs": "util-linux",
    "mount": "mount",
    "ps": "procps",
}
# Ends one answer of a shell and begins the next: ASCII's "record separator", which no program prints.
_END = "\036"
_CAP_SYS_ADMIN = 21


def run(experiment: Experiment) -> Outcome:
    """Make an experiment and judge it; what the kernel refuses is a false verdict, not an exception.

    >>> from nslab.experiments import EXPERIMENTS
    >>> run(EXPERIMENTS["pid"]).holds
    True
    """
    missing = [program for program in experiment.programs if not _which(program)]
    if missing:
        reasons = [f"no {name} here: apt-get install {PACKAGES[name]}" for name in missing]
        return Outcome(experiment, (), tuple(reasons), ())
    left_out = tuple(trial for trial in experiment.trials if trial.needs_ids and not has_ids())
    trials = [trial for trial in experiment.trials if trial not in left_out]
    made = tuple(one for trial in trials for one in _make(trial, experiment.name))
    failed = dict.fromkeys(reason for one in made for reason in one.failed)
    return Outcome(experiment, made, tuple(failed), tuple(trial.note for trial in left_out))


def _make(trial: Trial, name: str) -> list[Made]:
    trial = _permitted(trial)
    try:
        return observe(trial, name)
    except OSError as error:
        return [Made(trial.call(), trial.note, (), ("; ".join([str(error), *getattr(error, "__notes__", ())]),))]


def _permitted(trial: Trial) -> Trial:
    """Return the trial as this process may make it: with a user namespace where root is missing."""
    if not trial.flags or "user" in trial.flags.split() or is_privileged():
        return trial
    return replace(trial, flags=f"user {trial.flags}", options={"map_root_user": True, **trial.options})


def is_privileged() -> bool:
    """Return whether namespaces other than the user namespace may be made: CAP_SYS_ADMIN."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def has_ids() -> bool:
    """Return whether this process may give the ids from 100000 to a user namespace."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return is_privileged() and any(
        int(first) <= 100_000 and int(first) + int(count) >= 165_536 for first, _, count in ranges
    )


def observe(trial: Trial, name: str) -> list[Made]:
    """Make one trial, and those inside it; raises what `nslab.spawn` raises."""
    before = _ask(trial.untouched.values())
    host: list[str] = []
    commands = [look.child for look in trial.looks]
    if trial.inside:
        commands.append(_nested(name))
    options: dict[str, Any] = {**trial.options, "stdin": nslab.PIPE, "stdout": nslab.PIPE}
    options |= {"stderr": nslab.STDOUT, "text": True, "shell": True, "env": _environment()}
    script = _script(commands, wait=True, status=trial.status)
    questions = [look.child if look.host is None else look.host for look in trial.looks]
    with nslab.spawn(trial.flags, script, **options) as process:
        child = _answers(process, len(commands))
        if not trial.afterwards:
            host = _ask(questions, process.pid)
        process.communicate()
    if trial.afterwards:
        host = _ask(questions, process.pid)
    if trial.repair:
        _ask([trial.repair])

    inside = _inside(child.pop()) if trial.inside else []
    rows = zip((look.what for look in trial.looks), child, host, strict=True)
    seen = [Seen(*row) for row in rows]
    if trial.status:
        seen.append(Seen("exit status", str(trial.status), str(process.returncode)))
    failed = _judge(trial, seen)
    if process.returncode != trial.status:
        failed.append(f"the child ended with {process.returncode}, not {trial.status}")
    for what, was, now in zip(trial.untouched, before, _ask(trial.untouched.values()), strict=True):
        seen.append(Seen(what, "", "unchanged" if was == now else "changed"))
        if was != now:
            failed.append(f"{what} changed from {was!r} to {now!r}")
    added = "user" in trial.flags.split() and name != "user"
    return [Made(trial.call(), trial.note, tuple(seen), tuple(failed), added), *inside]


def report_inside(name: str) -> None:
    """Make the trials inside an experiment's, in the host that this process is in, and write them as JSON."""
    from . import EXPERIMENTS

    made = [one for outer in EXPERIMENTS[name].trials for trial in outer.inside for one in _make(trial, name)]
    json.dump([asdict(one) for one in made], sys.stdout)


def _nested(name: str) -> str:
    # -S -P: nothing but the standard library is needed, and the interpreter starts in half the time.
    code = f"from nslab.experiments._observe import report_inside; report_inside({name!r})"
    return shlex.join([sys.executable, "-S", "-P", "-c", code])


def _inside(text: str) -> list[Made]:
    try:
        rows = json.loads(text)
    except ValueError:
        return [Made("", "", (), (f"no report from the nested host: {text or 'nothing'}",))]
    return [Made(**{**row, "seen": tuple(Seen(**seen) for seen in row["seen"])}) for row in rows]


def _judge(trial: Trial, seen: Iterable[Seen]) -> list[str]:
    child = {row.what: row.child for row in seen}
    host = {row.what: row.host for row in seen}
    return [f"not so: {check.claim}" for check in trial.checks if not _holds(check, child, host)]


def _holds(check: Check, child: View, host: View) -> bool:
    try:
        return check.holds(child, host)
    except (ValueError, IndexError):
        return False  # an answer that is no answer


def _script(commands: Iterable[str], *, wait: bool = False, status: int = 0) -> str:
    """Return a shell script that ends each command's answer with a mark."""
    lines = [f"{command}\nprintf '\\036'" for command in commands]
    # The child waits for the end of its standard input: until then the host looks.
    lines += ["read _"] * wait
    return "\n".join([*lines, f"exit {status}"])


def _answers(process: nslab.Process, count: int) -> list[str]:
    """Return what the child says, as soon as it has answered ``count`` commands, or has ended."""
    assert process.stdout is not None
    data = b""
    while data.count(_END.encode()) < count:
        more = os.read(process.stdout.fileno(), 65536)
        if not more:
            break
        data += more
    return _split(data.decode(errors="replace"), count)


def _ask(commands: Iterable[str], child: int | None = None) -> list[str]:
    """Return what a plain child, which is where the host is, answers."""
    commands = list(commands)
    if not commands:
        return []
    environment = {**_environment(), "child": str(child or "")}
    streams: dict[str, Any] = {"stdin": nslab.DEVNULL, "stdout": nslab.PIPE, "stderr": nslab.STDOUT}
    done = nslab.run(0, _script(commands), shell=True, env=environment, errors="replace", **streams)
    return _split(done.stdout, len(commands))


def _split(text: str, count: int) -> list[str]:
    answers = text.split(_END)[:count]
    return [_tidy(answer) for answer in answers] + [""] * (count - len(answers))


def _tidy(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(lines).strip("\n")


def _environment() -> dict[str, str]:
    """Return the environment with English answers, and with the directories an ordinary user's PATH may lack."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    package = str(Path(nslab.__file__).parent.parent)
    python = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "LC_ALL": "C", "PATH": path, "PYTHONPATH": python}


def _which(program: str) -> str | None:
    return shutil.which(program, path=_environment()["PATH"])
