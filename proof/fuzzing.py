"""Requests that nobody thought of, and texts that no kernel writes."""

from __future__ import annotations

from . import laboratory, targets
from .part import Part, seed
from .progress import say

# Requests each as root and as an ordinary user; seconds each target is fuzzed.
EXAMPLES = {True: 150, False: 5000}
SECONDS = {True: 4, False: 120}


def prove(short: bool) -> Part:
    part = Part(
        "fuzzing",
        "Fuzzing",
        "Hypothesis draws requests over all options, in every form and together, good and bad, and a model that was "
        "written from the manual pages predicts each: refused before anything is cloned, refused by the kernel in one "
        "step with this errno, or executed, and then everything the program sees: ids, maps, mounts, clocks, names, "
        "descriptors, signals, environment. After each request nothing may be left. libFuzzer feeds every parser of "
        "the core, and `Plan::new` with all options, under AddressSanitizer, with what they promise as assertions.",
        ["what", "inputs", "executed", "refused before", "refused by the kernel", "findings"],
    )
    with part.timed():
        for who, ordinary in (("root", False), ("an ordinary user", True)):
            if not laboratory.ROOT and not ordinary:
                part.notes.append("Requests as root: not run, this was started by an ordinary user.")
                continue
            _requests(part, who, ordinary, EXAMPLES[short], seed(short))
        if lacks := targets.missing():
            part.expect(False, f"the parsers were not fuzzed: {lacks}")
            return part
        say("fuzzing: compiling")
        if said := targets.build():
            part.expect(False, f"the fuzz targets do not compile: {said}")
            return part
        for target in targets.TARGETS:
            say(f"fuzzing: {target}, {SECONDS[short]} s")
            runs, covered, found = targets.run(target, SECONDS[short], seed(short))
            part.row(f"`fuzz/targets/{target}.rs`, {covered} edges", runs, "", "", "", int(found is not None))
            part.expect(found is None, f"{target}: {found}")
    part.kernel.append(
        "A request is tried in a host of its own (user, mnt, uts, net, ipc, pid, cgroup), so that a wrong one cannot "
        "change this machine: root there has every capability over these namespaces, and none over the machine's."
    )
    return part


def _requests(part: Part, who: str, ordinary: bool, examples: int, start: int) -> None:
    say(f"fuzzing: {examples} requests as {who}, seed {start}")
    answer = laboratory.inside("fuzzed", str(examples), str(start), ordinary=ordinary)
    counts, failures = answer["counts"], answer["failures"]
    kinds = [counts.get(kind, 0) for kind in ("accepted", "invalid", "refused")]
    part.row(f"requests as {who}", sum(kinds), *kinds, len(failures))
    for failure in failures:
        part.expect(False, f"{who}, seed {start}: {failure}")
    part.expect(min(kinds) > 0, f"{who}: one of the outcomes never came: {counts}")
