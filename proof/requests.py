"""Requests of every kind: options in every form, alone and together, and now and then a value that is none."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import hypothesis.strategies as st

import nslab

from .model import Request
from .values import ALIASES, KINDS, NEEDS, SIGCHLD
from .world import PLACE, PROGRAM, REPORT, World

# One request in so many has a value that is none.
ODD = 4

_NAMES = st.one_of(
    st.text(max_size=64).filter(lambda text: "\0" not in text and len(text.encode("utf-8", "replace")) <= 64),
    st.binary(max_size=64).filter(lambda name: b"\0" not in name),
    st.sampled_from(["", "lab", "x" * 64, b"\xff" * 64, "a b", "-x", "é" * 32, "\udcff", "None"]),
)
_BAD_NAMES = st.sampled_from(["x" * 65, b"y" * 65, "é" * 33, "a\0b", b"\0", 5, 1.5, ["lab"], "\ud800", False, True])
_WHERE = st.sampled_from([f"{PLACE}/proc", f"{PLACE}/directory", "/proc", "/sys", f"{PLACE}/shared", f"{PLACE}/slave"])
_NOWHERE = st.sampled_from([f"{PLACE}/missing", f"{PLACE}/file", f"{PLACE}/closed/inner"])
_NO_TEXT = st.sampled_from([5, 1.5, "a\0b", b"\0", ["x"]])
_SECONDS = st.integers(-60, 10**9 * 4)
_OFFSETS = st.one_of(
    _SECONDS,
    st.floats(-60, 4e9),
    st.builds(datetime.timedelta, seconds=st.integers(-60, 10**9), microseconds=st.integers(0, 999_999)),
    st.sampled_from([0, -1, 0.5, -0.25, 1e-9, -1e-9, True.real]),
)
_BAD_OFFSETS = st.sampled_from(
    [float("nan"), float("inf"), -(10**9), 10**10, 2**63, -(2**70), 1e18, "1", b"1", [1], True, False]
)
_IDS = st.sampled_from([0, 1, 5, 7, 65534, 1000, 100_000, 100_001, 165_536, 500_000, 2**32 - 2])
_COUNTS = st.sampled_from([1, 1, 1, 2, 10, 65_536])
_BAD_MAPS = st.sampled_from(
    [[], "everyone", [(0, 0, 0)], [(0, 0, 2), (1, 9, 1)], [(0, 0)], [(0, -1, 1)], [(0, 0, 2**32)], 5,
     [5], [("a", 0, 1)], [(0, 2**32 - 1, 1)], [(1, 0, 2**32 - 1)], [(i, i, 1) for i in range(341)], False, True,
     [(0.0, 0, 1)]]
)  # fmt: skip
_BAD_JOINS = st.sampled_from([1.5, True, False, [None], [[1.5]], object()])


def _maps(world: World, what: str) -> st.SearchStrategy[Any]:
    me = world.uid if what == "users" else world.gid
    one = st.tuples(_IDS, st.just(me) | _IDS, st.just(1))
    block = world.subordinate[what]
    several = st.lists(st.tuples(_IDS, _IDS, _COUNTS), min_size=1, max_size=4)
    subordinate = st.lists(
        st.tuples(st.integers(0, 9), st.integers(block[0], block[0] + 9), st.integers(1, 3)), min_size=1, max_size=3
    ) if block else several  # fmt: skip
    alone = one.map(lambda ids: [ids]) | one.map(lambda ids: [list(ids)])
    return st.sampled_from(["auto", "subids", "all"]) | alone | several | subordinate


def _values(world: World) -> dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any] | None]]:
    """Return for each option what is a value, and what is none."""
    streams = st.sampled_from([None, subprocess.PIPE, subprocess.DEVNULL, *world.files])
    bad_streams = st.sampled_from([999, "out", 1.5])
    users = st.sampled_from([world.uid, 0, 5, 65534, 100_000, "nobody", "root"])
    bad_users = st.sampled_from(["no such user", -2, 2**32, 1.5, b"root", [0]])
    env = st.dictionaries(
        st.sampled_from(["A", "B c", "ü", "LD_X", ""]), st.sampled_from(["", "1", "a b", "=", "ü\n"]), max_size=3
    )
    switch = st.sampled_from([True, True, True, False, None])
    return {
        "hostname": (_NAMES, _BAD_NAMES),
        "domainname": (_NAMES, _BAD_NAMES),
        "map_root_user": (switch, None),
        "map_current_user": (switch, None),
        "map_users": (_maps(world, "users"), _BAD_MAPS),
        "map_groups": (_maps(world, "groups"), _BAD_MAPS),
        "setgroups": (st.sampled_from(["allow", "deny", None]), st.sampled_from(["maybe", 1, True, False, b"deny"])),
        "propagation": (
            st.sampled_from(["private", "slave", "shared", "unchanged", None]),
            st.sampled_from(["privat", "", 1, b"private", False]),
        ),
        "mount_proc": (st.sampled_from([True, False]) | _WHERE | _WHERE.map(os.fsencode) | _NOWHERE, _NO_TEXT),
        "loopback": (switch, None),
        "monotonic": (_OFFSETS, _BAD_OFFSETS),
        "boottime": (_OFFSETS, _BAD_OFFSETS),
        "kill_child": (st.sampled_from([True, False, None, 9, 15, 64]), st.sampled_from([0, -1, 65, "TERM", 1.5])),
        "init": (switch, None),
        "cwd": (
            st.sampled_from(["/", f"{PLACE}/directory", b"/tmp", Path("/proc"), f"{PLACE}/missing", f"{PLACE}/file",
                             f"{PLACE}/closed", f"{PLACE}/../mnt/directory"]),
            _NO_TEXT,
        ),
        "env": (env | st.just({b"A": b"\xff"}), st.sampled_from([{"A=B": "x"}, {"A": "x\0"}, {"A": 5}, {5: "x"}])),
        "stdin": (streams, bad_streams),
        "stdout": (streams, bad_streams),
        "stderr": (streams | st.just(subprocess.STDOUT), bad_streams),
        "pipesize": (st.sampled_from([-1, 4096, 65536]), st.sampled_from(["x", 1.5])),
        "close_fds": (st.booleans(), None),
        "pass_fds": (
            st.lists(st.sampled_from([0, 1, 2, *world.files, *world.files, 999]), max_size=4),
            st.sampled_from([[-1], ["x"], [2**40], [1.5], [None]]),
        ),
        "user": (users, bad_users),
        "group": (st.sampled_from([world.gid, 0, 5, 65534, 100_000, "nogroup"]), bad_users),
        "extra_groups": (
            st.lists(st.sampled_from([world.gid, 0, 5, 65534, "nogroup", 2**32 - 2]), max_size=4, unique=True),
            st.sampled_from([["no such group"], [-1], [2**32], "root", 5, [1.5]]),
        ),
        "umask": (st.sampled_from([-1, 0, 0o22, 0o77, 0o777]), st.sampled_from(["x", 1.5])),
        "restore_signals": (st.booleans(), None),
        "start_new_session": (st.booleans(), None),
        "process_group": (st.sampled_from([None, -1, 0, 0, 99_999]), st.sampled_from(["x", 1.5])),
        "executable": (
            st.sampled_from([PROGRAM, PROGRAM.encode(), Path(PROGRAM), f"{PLACE}/missing", f"{PLACE}/file", PLACE,
                             f"{PLACE}/file/x", f"{PLACE}/script"]),
            st.sampled_from([5, "a\0b"]),
        ),
        "text": (st.sampled_from([True, False, None]), None),
        "universal_newlines": (st.sampled_from([True, False, None]), None),
        "encoding": (st.sampled_from(["utf-8", "latin-1"]), None),
        "errors": (st.sampled_from(["replace", "strict"]), None),
        "bufsize": (st.sampled_from([-1, 0, 512]), st.sampled_from(["x", 1.5])),
        "preexec_fn": (st.none(), st.just(print)),
    }  # fmt: skip


def _flags(kinds: frozenset[str]) -> st.SearchStrategy[Any]:
    """Return every way to name these namespaces."""
    names = sorted(kinds)
    bits = sum(KINDS[kind] for kind in names)
    other = {kind: name for name, kind in ALIASES.items()}
    aliased = [other.get(kind, kind) for kind in names]
    forms = [
        bits, nslab.Namespace(bits), " ".join(names), ",".join(aliased), f" {', '.join(names)},", names, tuple(aliased),
        set(names), bits | SIGCHLD,
    ]  # fmt: skip
    forms += [None, 0, ""] if not names else ["all", ["all"]] if kinds == set(KINDS) else []
    return st.sampled_from(forms)


_BAD_FLAGS = st.sampled_from([1 << 12, -1, True, "utz", "uts,ipx", 1.5, b"uts", ["uts", None], object])


def _joins(world: World) -> st.SearchStrategy[tuple[Any, frozenset[str], tuple[str, int] | None]]:
    ids = nslab.namespaces(world.holder)
    paths = {kind: f"/proc/{world.holder}/ns/{kind}" for kind in KINDS}
    opened = {kind: os.open(path, os.O_RDONLY) for kind, path in paths.items()}
    pidfd = os.pidfd_open(world.holder)
    some = st.frozensets(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4)
    some = some | some.map(lambda kinds: kinds | {"user"})

    def in_a_form(kinds: frozenset[str]) -> st.SearchStrategy[Any]:
        mixed = [st.sampled_from([paths[kind], Path(paths[kind]), opened[kind], ids[kind]]) for kind in sorted(kinds)]
        return st.tuples(st.permutations(mixed).flatmap(lambda parts: st.tuples(*parts)), st.just(kinds), st.none())

    none: frozenset[str] = frozenset()
    whole = st.tuples(st.sampled_from([ids, pidfd, [pidfd]]), st.just(frozenset(KINDS)), st.none())
    nothing: st.SearchStrategy[Any] = st.tuples(st.sampled_from([None, [], ()]), st.just(none), st.none())
    unjoinable = st.sampled_from([
        (f"{PLACE}/missing", none, ("open_ns", 2)),
        ("/proc/self/ns/user", none, ("setns", 22)),
        (["/dev/null"], none, ("setns", 22)),
        (998, none, ("setns", 9)),
    ])  # fmt: skip
    return st.one_of(some.flatmap(in_a_form), some.flatmap(in_a_form), whole, nothing, unjoinable)


def requests(world: World, names: Collection[str] | None = None) -> st.SearchStrategy[Request]:
    """Return requests with all options, or good ones with these options."""
    values, joins = _values(world), _joins(world)
    if names is not None:
        values = {name: (values[name][0], None) for name in names}
    odds = [*values, "flags", "argv", "join", "needs"]

    @st.composite
    def build(draw: st.DrawFn) -> Request:
        odd = draw(st.sampled_from(odds)) if names is None and draw(st.integers(1, ODD)) == 1 else None
        kinds = set(draw(st.frozensets(st.sampled_from(sorted(KINDS)), max_size=4)))
        chosen = set(draw(st.lists(st.sampled_from(sorted(values)), max_size=7, unique=True)))
        if odd in values:
            chosen.add(odd)
        options = {}
        for name in sorted(chosen):
            good, bad = values[name]
            options[name] = draw(bad if name == odd and bad else good)
            if odd != "needs":
                kinds |= NEEDS.get(name, set())
        if not world.privileged and kinds and draw(st.integers(0, 9)):
            kinds.add("user")
        request = Request(
            draw(_flags(frozenset(kinds))), None, options, draw(st.sampled_from([0, 0, 0, 3, 125, 255, -15, -9, -1]))
        )
        if draw(st.integers(0, 3)) == 0:
            options["join"], request.joined, request.unjoinable = draw(joins)
        if odd == "flags":
            request.flags = draw(_BAD_FLAGS)
        if odd == "join":
            options["join"] = draw(_BAD_JOINS)
        argv = [draw(st.sampled_from([PROGRAM, Path(PROGRAM), PROGRAM.encode()])), str(REPORT), str(request.code)]
        argv += draw(
            st.lists(st.text(max_size=9).filter(lambda text: "\0" not in text) | st.binary(max_size=9), max_size=2)
        )
        if "executable" in options:
            argv[0] = "another name"
        request.argv = tuple(argv) if draw(st.booleans()) else argv
        if odd == "argv":
            request.argv = draw(st.sampled_from([[], (), None, 3, [None], ["a\0b"], [3], object]))
        return request

    return build()
