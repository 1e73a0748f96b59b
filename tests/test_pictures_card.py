"""The card: eight rows, the host beside its children."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from conftest import spawn
from pictures_check import NASTY, check, expected, host, new_session, other

import nslab
from nslab._inspect.compare import Compared, Comparison
from nslab._inspect.ids import NamespaceId
from nslab.pictures import card

pytestmark = pytest.mark.unprivileged

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


@pytest.fixture(autouse=True)
def a_session() -> Iterator[None]:
    with new_session():
        yield


def comparison(*new: str, names: tuple[str, ...] | None = None) -> Comparison:
    """Return the host beside children with ``"pid uts"``, … new."""
    children = [kinds.split() for kinds in new]

    def held(kind: str) -> tuple[NamespaceId | None, ...]:
        inside = (other(kind, 100 + at) if kind in kinds else host(kind) for at, kinds in enumerate(children))
        return (host(kind), *inside)

    named = names or ("host", *(f"pid {4711 + at}" for at in range(len(new))))
    return Comparison(named, tuple(Compared(kind, held(kind)) for kind in KINDS))


def test_one_child() -> None:
    with new_session(stable=True):
        picture = card(comparison("pid uts"))
        expected(picture, "card")
        check(picture)


def test_several_children() -> None:
    with new_session(stable=True):
        picture = card(comparison("pid uts", "uts", "", "net"))
        expected(picture, "card-several")
        check(picture)


def test_real_processes_are_compared() -> None:
    with spawn("uts", ["cat"], stdin=nslab.PIPE) as process:
        sides = (nslab.namespaces(os.getpid()), process.namespaces)
        rows = tuple(Compared(kind, tuple(side[kind] for side in sides)) for kind in KINDS)
        picture = card(Comparison(("host", f"pid {process.pid}"), rows))
    line = next(line for line in picture.text.splitlines() if line.startswith("│ uts"))
    assert str(sides[0]["uts"]) in line
    assert str(sides[1]["uts"]) in line
    assert "≠ different" in line
    assert "= same" in next(line for line in picture.text.splitlines() if line.startswith("│ cgroup"))


def test_what_cannot_be_looked_at() -> None:
    rows = tuple(Compared(kind, (host(kind), None)) for kind in KINDS)
    picture = card(Comparison(("host", "pid 2"), rows))
    check(picture)
    assert "? not known" in picture.text
    assert "could not be looked at: cgroup" in picture.text
    assert "all the same" not in picture.text


@pytest.mark.parametrize(
    "odd",
    [
        Comparison((), ()),
        Comparison(("host",), ()),
        Comparison((), (Compared("uts", ()),)),
        Comparison(("host",), (Compared("uts", (None,)),)),
        Comparison(("host", "pid 5"), (Compared("uts", (None,)),)),
        comparison("uts", names=(NASTY, NASTY * 20)),
        Comparison(("host", "b"), (Compared(NASTY, (other(NASTY), other(NASTY, 2))),)),
    ],
)
def test_odd_input_is_drawn(odd: Comparison) -> None:
    check(card(odd))


def test_many_processes_share_columns() -> None:
    many = comparison(*(["pid uts"] + [""] * 199))
    before = time.thread_time()
    picture = card(many)
    assert time.thread_time() - before < 1
    check(picture)
    assert "and 197 more" in picture.text


def test_more_groups_than_can_be_read_are_counted() -> None:
    picture = card(comparison(*["uts"] * 200))
    check(picture)
    assert "195 more groups of processes are not shown" in picture.text


def test_a_comparison_shows_itself() -> None:
    assert comparison("uts")._repr_mimebundle_()["text/plain"] == card(comparison("uts")).text
