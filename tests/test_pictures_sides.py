"""The same questions inside and outside."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pictures_check import NASTY, check, expected, host, new_session
from pictures_snapshots import inside, link, mount, mounts, outside, process

from nslab._display.sides import alone
from nslab._inspect.clocks import Clocks
from nslab._inspect.processes import ProcessTree
from nslab._inspect.snapshot import Snapshot
from nslab._inspect.users import Capabilities
from nslab.pictures import sides

pytestmark = pytest.mark.unprivileged

FIELDS = ("hostname", "domainname", "uid", "gid", "processes", "mounts", "id_maps", "capabilities", "clocks", "network")
NOTHING: dict[str, Any] = dict.fromkeys((*FIELDS, "ipc", "cgroup"))


@pytest.fixture(autouse=True)
def a_session() -> Iterator[None]:
    with new_session():
        yield


def line(text: str, start: str) -> list[str]:
    """Return the cells of the line that starts so."""
    found = next(line for line in text.splitlines() if line.startswith(f"│ {start} "))
    return [cell.strip() for cell in found.strip("│").split("│")]


def test_a_shell_in_new_namespaces() -> None:
    with new_session(stable=True):
        picture = sides(inside(), outside())
        expected(picture, "sides")
        check(picture)


def test_what_differs_and_what_does_not() -> None:
    text = sides(inside(), outside()).text
    assert line(text, "host name") == ["host name", "another uts", "lab", "vm", "≠ different"]
    assert line(text, "domain name") == ["domain name", "another uts", "(none)", "(none)", "= same"]
    assert line(text, "wall clock")[1] == "same time"
    assert "│ 1 sh " in text
    assert "│ 4711 sh " in text
    assert text.count("the same process") == 1


def test_one_beside_itself_is_all_the_same() -> None:
    picture = sides(outside(), outside())
    check(picture)
    assert "different" not in picture.text
    assert picture.text.startswith("0 answers differ, 14 are the same")


def test_what_could_not_be_read_says_why() -> None:
    blind = dataclasses.replace(inside(), **NOTHING, namespaces={}, notes={"hostname": "Permission denied: " + NASTY})
    picture = sides(blind, outside())
    check(picture)
    assert "14 are not known" in picture.text
    assert "? Permission denied" in picture.text
    check(sides(blind, blind))


def test_shifted_clocks() -> None:
    shifted = Clocks(host("time"), 1, 5 * 10**9, -86_400 * 10**9, 1, 1, 1)
    text = sides(dataclasses.replace(inside(), clocks=shifted), outside()).text
    assert line(text, "monotonic clock")[2:] == ["shifted by +5 s", "not shifted", "≠ different"]
    assert line(text, "boot time clock")[2] == "shifted by -86,400 s"


def test_some_capabilities_are_named() -> None:
    some = Capabilities(1, ("CAP_CHOWN",), (), (), (), (), 41, False)
    more = Capabilities(1, ("CAP_CHOWN", "CAP_KILL"), (), (), (), (), 41, False)
    text = sides(
        dataclasses.replace(inside(), capabilities=some), dataclasses.replace(outside(), capabilities=more)
    ).text
    assert line(text, "capabilities")[2:4] == ["1 of 41", "2 of 41"]
    assert "CAP_KILL" in text
    assert "CAP_CHOWN" not in text


def many(snapshot: Snapshot, start: int) -> Snapshot:
    number = range(start, start + 200)
    return dataclasses.replace(
        snapshot,
        processes=ProcessTree(tuple(process(f"p{n}", (n,), host("pid")) for n in number), None),
        mounts=mounts(host("mnt"), *(mount(n, f"/mnt/{n}", "tmpfs") for n in number)),
        network=dataclasses.replace(inside().network, links=tuple(link(n, f"veth{n}", True) for n in number)),  # type: ignore[type-var]
    )


def test_long_answers_are_counted() -> None:
    one, other = many(inside(), 100), many(outside(), 200)
    before = time.thread_time()
    picture = sides(one, other)
    assert time.thread_time() - before < 1
    check(picture)
    assert "… and 100 the same" in picture.text
    assert "… and 95 more" in picture.text
    assert len(picture.text.splitlines()) < 80


def test_any_bytes() -> None:
    odd = dataclasses.replace(
        inside(), name=NASTY, hostname=NASTY, domainname="",
        processes=ProcessTree((process(NASTY, (1,), host("pid")),), None),
        mounts=mounts(host("mnt"), mount(1, NASTY, NASTY)),
    )  # fmt: skip
    check(sides(odd, outside()))
    assert "(empty)" in sides(odd, outside()).text


@pytest.mark.parametrize("fields", [{}, {**NOTHING, "namespaces": {}, "name": NASTY}])
def test_a_snapshot_alone_shows_its_answers(fields: dict[str, Any]) -> None:
    snapshot = dataclasses.replace(inside(), **fields)
    check(alone(snapshot))
    assert snapshot._repr_mimebundle_()["text/plain"] == alone(snapshot).text
    assert "⌂ time:" in alone(inside()).text
    assert "… and" in alone(outside()).text
