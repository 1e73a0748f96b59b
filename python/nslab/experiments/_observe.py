"""How an experiment is made: clone the child, look from both sides while it lives, judge what was seen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nslab

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

View = Mapping[str, str]


@dataclass(frozen=True)
class Look:
    """One thing to look at: a shell command in the child and one on the host.

    ``host`` is the same command unless it is given; ``""`` is none. ``$child`` in it is the child's pid on the host.
    """

    what: str
    child: str
    host: str | None = None


@dataclass(frozen=True)
class Check:
    """What has to be true of the answers, by `Look.what`, of both sides."""

    claim: str
    holds: Callable[[View, View], bool]


@dataclass(frozen=True)
class Trial:
    """One call of `nslab.run`, what to look at, and what to expect."""

    flags: str
    looks: tuple[Look, ...]
    checks: tuple[Check, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    #: One line, where the call does not speak for itself.
    note: str = ""
    #: Host commands whose answers must be the same before and after.
    untouched: tuple[str, ...] = ()
    #: The host looks when the child has ended, not while it lives.
    afterwards: bool = False
    #: What the child exits with.
    status: int = 0
    #: A host command that undoes what the trial did to its host.
    repair: str = ""
    #: It maps ids that only root may give.
    needs_ids: bool = False
    #: Trials that are made in the child, which is their host.
    inside: tuple[Trial, ...] = ()

    def here(self) -> Trial:
        """Return the trial as it can be made by this process: with a user namespace where root is missing."""
        if not self.flags or "user" in self.flags.split() or is_privileged():
            return self
        changed = {"flags": f"user {self.flags}", "options": {"map_root_user": True, **self.options}}
        return Trial(**{**self.__dict__, **changed})

    def call(self) -> str:
        """Return the call as Python text."""
        script = "; ".join(look.child for look in self.looks)
        script += "; python3 below.py" if self.inside else ""
        script += f"; exit {self.status}" if self.status else ""
        argv = f"[{_quoted('sh')}, {_quoted('-c')}, {_quoted(script)}]"
        options = [f"{name}={_quoted(value)}" for name, value in self.options.items()]
        words = [_quoted(self.flags) if self.flags else "0", argv, *options]
        line = f"nslab.run({', '.join(words)})"
        if len(line) <= 92:
            return line
        rest = "".join(f"    {', '.join(part)},\n" for part in (words[:1], words[1:2], options) if part)
        return f"nslab.run(\n{rest})"


@dataclass(frozen=True)
class Experiment:
    """A row of the tour."""

    name: str
    title: str
    shows: str
    trials: tuple[Trial, ...]
    #: The verdict, when it is true.
    claim: str
    programs: tuple[str, ...] = ()

    def run(self) -> Outcome:
        """Make the experiment and judge it; what the kernel refuses is a false verdict, not an exception.

        >>> nslab.experiments.EXPERIMENTS["pid"].run().holds
        True
        """
        missing = [program for program in self.programs if not _which(program)]
        if missing:
            reasons = [f"no {name} here: apt-get install {PACKAGES[name]}" for name in missing]
            return Outcome(self, (), tuple(reasons), ())
        made: list[Made] = []
        reasons = []
        left_out = []
        for trial in self.trials:
            if trial.needs_ids and not has_ids():
                left_out.append(trial.note)
                continue
            try:
                made += observe(trial.here(), self.name)
            except OSError as error:
                reasons += [str(error), *getattr(error, "__notes__", ())]
        reasons += [reason for one in made for reason in one.failed]
        return Outcome(self, tuple(made), tuple(reasons), tuple(left_out))


@dataclass(frozen=True)
class Seen:
    """The answers of both sides to one `Look`."""

    what: str
    child: str
    host: str


@dataclass(frozen=True)
class Made:
    """What one trial showed, and the claims that did not come true."""

    call: str
    note: str
    seen: tuple[Seen, ...]
    failed: tuple[str, ...]
    user_added: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an experiment showed: its verdict holds when there is no reason against it."""

    experiment: Experiment
    made: tuple[Made, ...]
    reasons: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """The verdict."""
        return not self.reasons


def is_privileged() -> bool:
    """Return whether namespaces other than the user namespace may be made: CAP_SYS_ADMIN."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def has_ids() -> bool:
    """Return whether this process may give the ids from 100000 to a user namespace."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return is_privileged() and any(int(first) + int(count) >= 2 * 100000 for first, _, count in ranges)


def observe(trial: Trial, name: str) -> list[Made]:
    """Make one trial, and those inside it; raises what `nslab.spawn` raises."""
    before = _ask(trial.untouched)
    host: list[str] = []
    commands = [look.child for look in trial.looks]
    if trial.inside:
        commands.append(_nested(name))
    options: dict[str, Any] = {**trial.options, "stdin": nslab.PIPE, "stdout": nslab.PIPE}
    argv = ["sh", "-c", _script(commands, wait=True, status=trial.status)]
    questions = [look.child if look.host is None else look.host for look in trial.looks]
    with nslab.spawn(
        trial.flags, argv, stderr=nslab.STDOUT, env=_environment(), text=True, **options
    ) as process:
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
    for command, was, now in zip(trial.untouched, before, _ask(trial.untouched), strict=True):
        if was != now:
            failed.append(f"the host has changed: {command} says {now!r}, not {was!r}")
    added = "user" in trial.flags.split() and name != "user"
    return [Made(trial.call(), trial.note, tuple(seen), tuple(failed), added), *inside]


def report_inside(name: str) -> None:
    """Make the trials inside an experiment's, in the host that this process is in, and write them as JSON."""
    from . import EXPERIMENTS

    made = [
        one for outer in EXPERIMENTS[name].trials for trial in outer.inside for one in observe(trial, name)
    ]
    json.dump([{**one.__dict__, "seen": [seen.__dict__ for seen in one.seen]} for one in made], sys.stdout)


def _nested(name: str) -> str:
    # -S -P: nothing but the standard library is needed, and the interpreter starts in half the time.
    code = f"from nslab.experiments._observe import report_inside; report_inside({name!r})"
    import shlex

    return shlex.join([sys.executable, "-S", "-P", "-c", code])


def _inside(text: str) -> list[Made]:
    try:
        rows = json.loads(text)
    except ValueError:
        return [Made("", "", (), (f"no report from the nested host: {text or 'nothing'}",))]
    return [
        Made(row["call"], row["note"], tuple(Seen(**seen) for seen in row["seen"]), tuple(row["failed"]))
        for row in rows
    ]


def _judge(trial: Trial, seen: Iterable[Seen]) -> list[str]:
    child = {row.what: row.child for row in seen}
    host = {row.what: row.host for row in seen}
    return [f"not so: {check.claim}" for check in trial.checks if not check.holds(child, host)]


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
    options = {"stdin": nslab.DEVNULL, "stdout": nslab.PIPE, "stderr": nslab.STDOUT, "text": True}
    done = nslab.run(0, ["sh", "-c", _script(commands)], env=environment, errors="replace", **options)
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
    import shutil

    return shutil.which(program, path=_environment()["PATH"])


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
