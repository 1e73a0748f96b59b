"""The measures: each runs its contest and adds rows and bars to the findings."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from contest import CPUS, Entrant, Life, RefusedError, compete, contest_cpu, progress
from findings import Bar, Findings, Row, Summary, paired_ratio, ratio, ratio_bar, row

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "target" / "bench"

NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
FLAG_SETS = {"none": [], **{name: [name] for name in NAMESPACES}, "all": NAMESPACES}
TRUE = Path("/bin/true")
STATIC = BUILD / "static"
SHOWN = {TRUE: "/bin/true", STATIC: "no libc"}
STAMP = BUILD / "stamp"
EFFECT = BUILD / "effect"

# The C baseline against itself: how far from 1 a ratio can be on this machine without any reason.
BASELINE, AGAIN = "C baseline", "C baseline again"


@dataclass(frozen=True)
class Effort:
    """How long to look; the full run should stay below ten minutes."""

    lives: int
    memory: int
    wakes: int
    imports: int
    tours: int
    spawns: int


FULL = Effort(lives=400, memory=240, wakes=100, imports=40, tours=5, spawns=10_000)
QUICK = Effort(lives=40, memory=32, wakes=20, imports=10, tours=2, spawns=1_000)


def compile_programs() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    bare = ["-Os", "-static", "-nostdlib", "-fno-stack-protector"]
    for source, program, options in [
        ("baseline.c", BUILD / "baseline", ["-O2"]),
        ("payload.c", STATIC, bare),
        ("payload.c", STAMP, [*bare, "-DSTAMP"]),
    ]:
        command = [compiler, "-Wall", *options, "-o", str(program), str(HERE / source)]
        subprocess.run(command, check=True)
    links = " ".join(f"/proc/self/ns/{name}" for name in NAMESPACES)
    EFFECT.write_text(f"#!/bin/sh\nexec readlink {links} >'{EFFECT}.txt'\n")
    EFFECT.chmod(0o755)


def command_of(contender: str, *options: str) -> list[str]:
    if contender.startswith(BASELINE):
        return [str(BUILD / "baseline")]
    return [sys.executable, str(HERE / "contenders.py"), contender, *options]


PACKAGES = {"unshare": "util-linux", "bwrap": "bubblewrap"}


def installed(findings: Findings, contender: str) -> bool:
    if contender not in PACKAGES or shutil.which(contender):
        return True
    findings.note(f"{contender} is not installed (Debian package {PACKAGES[contender]}).")
    return False


def able(findings: Findings, entrants: Sequence[Entrant], names: Sequence[str]) -> list[Entrant]:
    """Those who really bring a program into these namespaces: only the same effect is compared."""
    here = {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in NAMESPACES}
    seen_file = EFFECT.with_suffix(".txt")
    chosen = []
    for entrant in entrants:
        expected = set(names)
        if entrant.name == "bwrap":
            # Shown with what it can do; it is under no bar.
            expected = {*names, "mnt"} - {"time"}
            findings.note("bwrap adds mnt to every flag set and leaves time out of `all`.")
            if not set(names) - {"time"}:
                continue
        seen_file.write_text("")
        try:
            entrant.live(names, EFFECT, 1)
        except RefusedError as refused:
            if "makes no namespaces" not in str(refused):
                findings.note(f"{entrant.name} cannot do {','.join(names) or 'none'}: {refused}")
            continue
        links = dict(zip(NAMESPACES, seen_file.read_text().split(), strict=True))
        effect = {name for name in NAMESPACES if links[name] != here[name]}
        if effect == expected:
            chosen.append(entrant)
        else:
            findings.note(f"{entrant.name} left out of {','.join(names)}: it made {effect}.")
    return chosen


def spawn(findings: Findings, effort: Effort) -> None:
    """Everybody, each flag set, both payloads, on whatever CPU the scheduler chooses."""
    contenders = [BASELINE, AGAIN, "nslab", "subprocess", "posix_spawn", "unshare", "bwrap"]
    os.sched_setaffinity(0, CPUS)
    with ExitStack() as stack:
        entrants = [
            stack.enter_context(Entrant(contender, command_of(contender)))
            for contender in contenders
            if installed(findings, contender)
        ]
        for flags, names in FLAG_SETS.items():
            present = able(findings, entrants, names)
            for payload in (TRUE, STATIC):
                lives = compete(present, names, payload, effort.lives)
                for contender, its_lives in lives.items():
                    findings.rows.append(row("spawn", flags, SHOWN[payload], contender, its_lives))
                spawn_bars(findings, flags, payload, lives)


def spawn_bars(findings: Findings, flags: str, payload: Path, lives: dict[str, list[Life]]) -> None:
    limit = 1.05 if payload == TRUE else 1.20
    noise = ratio(lives, AGAIN, BASELINE)
    findings.bars.append(ratio_bar(f"÷ C baseline, {SHOWN[payload]}", flags, limit, lives, "nslab", BASELINE, noise))
    if flags == "none":
        measure = f"÷ subprocess.Popen, {SHOWN[payload]}"
        findings.bars.append(ratio_bar(measure, flags, 1.00, lives, "nslab", "subprocess", noise))
    if flags == "all":
        measure = f"÷ run([unshare, …]), {SHOWN[payload]}"
        findings.bars.append(ratio_bar(measure, flags, 0.50, lives, "nslab", "unshare", noise))
        if floor := ratio(lives, BASELINE, "unshare"):
            findings.note(f"{measure}: the C baseline has {floor:.3f}; the kernel's share is in both.")


def one_cpu(findings: Findings, effort: Effort) -> None:
    """The worst case: the parent has no CPU of its own, and finds its caches as the child has left them."""
    told = []
    with ExitStack() as stack:
        with contest_cpu():
            entrants = [
                stack.enter_context(Entrant(contender, command_of(contender)))
                for contender in (BASELINE, AGAIN, "nslab")
            ]
        for flags, names in FLAG_SETS.items():
            present = able(findings, entrants, names)
            lives = compete(present, names, TRUE, effort.lives)
            for contender, its_lives in lives.items():
                findings.rows.append(row("one CPU", flags, SHOWN[TRUE], contender, its_lives))
            if found := ratio(lives, "nslab", BASELINE):
                told.append(f"{flags} {found:.3f} (A/A {ratio(lives, AGAIN, BASELINE):.3f})")
    findings.note(f"Where parent and child share one CPU, ÷ C baseline, {SHOWN[TRUE]}: {', '.join(told)}.")


def memory(findings: Findings, effort: Effort) -> None:
    """A parent of 4 GiB beside one of 50 MiB; one contender at a time, for the machine's sake."""
    for contender, flags in [
        ("nslab", "none"),
        ("nslab", "all"),
        ("subprocess", "none"),
        ("preexec_fn", "none"),
    ]:
        progress(f"{contender}: touching 4 GiB")
        sizes = {"50 MiB": "50", "4 GiB": "4096"}
        with ExitStack() as stack:
            with contest_cpu():
                entrants = [
                    stack.enter_context(Entrant(size, command_of(contender, "--memory", mebibytes)))
                    for size, mebibytes in sizes.items()
                ]
            names = FLAG_SETS[flags]
            lives: dict[str, list[Life]] = {}
            if len(able(findings, entrants, names)) == len(entrants):
                lives = compete(entrants, names, STATIC, effort.memory)
        for size, its_lives in lives.items():
            findings.rows.append(row("memory", flags, SHOWN[STATIC], f"{contender}, {size}", its_lives))
        if contender == "nslab":
            bar = ratio_bar("4 GiB parent ÷ 50 MiB parent", flags, 1.10, lives, "4 GiB", "50 MiB")
            findings.bars.append(bar)


def wake(findings: Findings, effort: Effort) -> None:
    """From the program's last act to the return of wait(timeout=10), on whatever CPU."""
    os.sched_setaffinity(0, CPUS)
    with ExitStack() as stack:
        entrants = [
            stack.enter_context(Entrant(contender, command_of(contender, "--timeout", "10")))
            for contender in (BASELINE, "nslab", "subprocess")
        ]
        present = able(findings, entrants, [])
        lives = compete(present, [], STAMP, effort.wakes)
    for contender, its_lives in lives.items():
        summary = Summary.of([life.wake_up for life in its_lives])
        findings.rows.append(Row("wake-up", "none", STAMP.name, contender, None, summary))
        if contender == "nslab":
            bar = Bar("wait(timeout=10) wake-up", "", summary.median / 1000, 0.2, "ms")
            findings.bars.append(bar)


def imports(findings: Findings, effort: Effort) -> None:
    """Around the statement, in fresh interpreters that import the two modules in turns."""
    code = "import time; t = time.perf_counter_ns(); import {}; print(time.perf_counter_ns() - t)"
    bar = Bar("import nslab ÷ import subprocess", "", None, 1.5)
    spent: dict[str, list[float]] = {"nslab": [], "subprocess": []}
    for number in range(effort.imports):
        progress(f"import: {number + 1}/{effort.imports}")
        for module, times in spent.items():
            command = [sys.executable, "-I", "-c", code.format(module)]
            if (output := output_of(command, findings)) is None:
                findings.bars.append(bar)
                return
            times.append(int(output) / 1000)
    for module, times in spent.items():
        summary = Summary.of(times)
        findings.rows.append(Row("import", "", "", f"import {module}", None, summary))
    ours, theirs = spent["nslab"], spent["subprocess"]
    findings.bars.append(replace(bar, value=paired_ratio(ours, theirs), lowest=min(ours) / min(theirs)))


def tour(findings: Findings, effort: Effort) -> None:
    bar = Bar("nslab tour", "", None, 3.0, "s")
    seconds = []
    for number in range(effort.tours):
        progress(f"nslab tour: {number + 1}/{effort.tours}")
        began = time.perf_counter()
        if output_of([sys.executable, "-m", "nslab", "tour"], findings) is None:
            findings.bars.append(bar)
            return
        seconds.append(time.perf_counter() - began)
    findings.bars.append(replace(bar, value=statistics.median(seconds), lowest=min(seconds)))


def soak(findings: Findings, effort: Effort) -> None:
    """What many spawns leave behind in the process that made them."""
    progress(f"{effort.spawns} spawns")
    measure = f"{effort.spawns} spawns"
    command = [sys.executable, str(HERE / "soak.py"), str(STATIC), str(effort.spawns)]
    if (output := output_of(command, findings)) is None:
        findings.bars.append(Bar(measure, "", None, 0, ""))
        return
    held = json.loads(output)
    grown = {what: held["after"][what] - held["before"][what] for what in held["before"]}
    findings.bars += [
        Bar(measure, "more fds", grown["fds"], 0, ""),
        Bar(measure, "more threads", grown["threads"], 0, ""),
        Bar(measure, "children left", held["after"]["children"], 0, ""),
        Bar(measure, "RSS growth", grown["rss_kib"] / 1024, 1.0, "MiB"),
    ]


def output_of(command: Sequence[str], findings: Findings) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    shown = " ".join(Path(word).name for word in command[:3])
    findings.note(f"`{shown} …` ended with {done.returncode}: {last}")
    return None


MEASURES: dict[str, Callable[[Findings, Effort], None]] = {
    "spawn": spawn,
    "one-cpu": one_cpu,
    "memory": memory,
    "wake": wake,
    "import": imports,
    "tour": tour,
    "soak": soak,
}
