"""Nested pid namespaces: every process once, with its pid on each level."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest
from pictures_check import NASTY, check, expected, host, new_session, other

from nslab._display.nesting import Box, every, nest
from nslab._inspect.ids import NamespaceId
from nslab._inspect.processes import ProcessInfo, ProcessTree
from nslab.pictures import pids

pytestmark = pytest.mark.unprivileged


@pytest.fixture(autouse=True)
def a_session() -> Iterator[None]:
    with new_session():
        yield


def process(
    command: str, numbers: tuple[int, ...], namespace: NamespaceId | None, *children: ProcessInfo,
    ppid: int = 1, state: str = "S", note: str | None = None,
) -> ProcessInfo:  # fmt: skip
    held = {} if namespace is None else {"pid": namespace}
    return ProcessInfo(
        numbers[0] if numbers else 7, ppid, numbers, command[:15], command, state, 0, held, note, children
    )


def tree(*roots: ProcessInfo, note: str | None = None) -> ProcessTree:
    return ProcessTree(roots, note)


def nested() -> ProcessTree:
    """Return what LWN's multi_pidns makes: each level runs the next one and sleeps."""
    deepest = process(
        "multi_pidns 1", (4714, 3, 1), other("pid", 2), process("sh", (4715, 4, 2), other("pid", 2), state="Z")
    )
    middle = process("multi_pidns 2", (4712, 1), other("pid"), process("sleep 9", (4713, 2), other("pid")), deepest)
    return tree(
        process("python3", (4700,), host("pid"), process("multi_pidns 3", (4711,), host("pid"), middle), ppid=0)
    )


def test_nested_namespaces() -> None:
    with new_session(stable=True):
        picture = pids(nested())
        expected(picture, "pids")
        check(picture)


def test_every_pid_on_every_level_is_shown() -> None:
    text = pids(nested()).text
    for shown in every(nested().roots):
        line = next(line for line in text.splitlines() if f" {shown.pid}" in line and shown.command in line)
        assert line.split(shown.command)[1].split()[: len(shown.pids)] == [str(number) for number in shown.pids]
    assert text.count("PPID 0 inside") == 2
    assert "zombie" in text


def test_a_process_that_joined_is_in_the_box_of_its_namespace() -> None:
    inside = other("pid")
    joined = process("nsenter", (9,), host("pid"), process("sh", (10, 7), inside))
    outermost = nest(tree(process("init", (2,), host("pid"), process("sleep", (3, 1), inside), joined)))
    boxes = [item for item in outermost.inner if isinstance(item, Box)]
    assert [[row.process.command for row in box.rows() if row.process] for box in boxes] == [["sleep", "sh"]]


def test_the_processes_of_a_container_alone_are_in_the_callers_box() -> None:
    picture = pids(tree(process("sleep", (4712, 1), other("pid"), ppid=4711)))
    check(picture)
    assert "the caller's own" in picture.text
    assert "4712" in picture.text


def test_many_alike_are_counted() -> None:
    cats = (process("cat", (5000 + number, 1), other("pid", number)) for number in range(200))
    many = tree(process("python3", (4700,), host("pid"), *cats))
    before = time.thread_time()
    picture = pids(many)
    assert time.thread_time() - before < 1
    check(picture)
    assert "… and 198 more in 198 more pid namespaces" in picture.text
    assert "201 processes in 201 pid namespaces" in picture.text


@pytest.mark.parametrize("count", [60, 300])
def test_a_machine_full_of_different_processes_stays_readable(count: int) -> None:
    several = [process(f"daemon {number}", (100 + number,), host("pid")) for number in range(count)]
    container = process("init", (9000, 1), other("pid"), process("sh", (9001, 2), other("pid")))
    picture = pids(tree(process("init", (1,), host("pid"), *several, container, ppid=0)))
    check(picture)
    assert len(picture.text.splitlines()) < 100
    assert "9001" in picture.text
    assert (f"… and {count - 2} more" in picture.text) == (count > 80)


def test_two_hundred_different_namespaces_stay_readable() -> None:
    several = [process(f"daemon {number}", (100 + number, 1), other("pid", number)) for number in range(200)]
    picture = pids(tree(process("init", (1,), host("pid"), *several)))
    check(picture)
    assert "more pid namespaces" in picture.text


def test_a_chain_deeper_than_the_stack() -> None:
    chain = process("sh", (1,), host("pid"))
    for number in range(2, 3 * sys.getrecursionlimit()):
        chain = process(f"sh {number}", (number,), host("pid"), chain)
    check(pids(tree(chain)))


def test_namespaces_nested_as_deep_as_the_kernel_allows() -> None:
    deepest = process("sh", tuple(range(100, 132)), other("pid", 31))
    for level in range(30, -1, -1):
        deepest = process("sh", tuple(range(100, 101 + level)), other("pid", level), deepest)
    check(pids(tree(deepest)))


@pytest.mark.parametrize(
    "odd",
    [
        tree(),
        tree(note="/proc is mounted with hidepid=2"),
        tree(process("", (), None)),
        tree(process("x", (5, 1), None), process("y", (6, 1), None)),
        tree(process(NASTY * 5, (5,), host("pid"), note=NASTY * 9), note=NASTY * 9),
        tree(process("x", (5, 4, 3), other("pid"), process("outer", (6,), host("pid")))),
        tree(*[process("twin", (5,), host("pid"))] * 5),
    ],
)
def test_odd_input_is_drawn(odd: ProcessTree) -> None:
    check(pids(odd))


def test_a_tree_shows_itself() -> None:
    assert nested()._repr_mimebundle_()["text/vnd.mermaid"] == pids(nested()).mermaid
