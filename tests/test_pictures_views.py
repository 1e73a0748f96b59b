"""Clocks, IPC objects, and control groups."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from pictures_apart import apart
from pictures_check import NASTY, check, expected, host, new_session, other

import nslab
from nslab import pictures
from nslab._inspect.cgroup import CgroupPath, CgroupView
from nslab._inspect.clocks import Clocks
from nslab._inspect.ids import NamespaceId
from nslab._inspect.ipc import IpcObjects, MessageQueue, PosixQueue, SemaphoreSet, SharedMemory

pytestmark = pytest.mark.unprivileged

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


@pytest.fixture(autouse=True)
def stable() -> Iterator[None]:
    with new_session(stable=True):
        yield


def clocks(namespace: NamespaceId | None, pid: int, monotonic: int = 0, boottime: int = 0) -> Clocks:
    return Clocks(
        namespace, pid, monotonic, boottime, 2 * HOUR + monotonic, 3 * HOUR + boottime, 1_790_000_000 * SECOND
    )


def test_clocks() -> None:
    picture = pictures.clocks(
        clocks(host("time"), 1), clocks(other("time", 1), 4711, DAY, DAY), clocks(other("time", 2), 4712, -HOUR)
    )
    check(picture)
    apart(picture)
    expected(picture, "clocks")
    assert "monotonic and boottime 1 d ahead, in pid①" in picture.text
    assert "monotonic 1 h behind, in pid②; realtime is the same for all" in picture.text


def test_clocks_are_held_against_the_first() -> None:
    text = pictures.clocks(clocks(other("time"), 4711, DAY, DAY), clocks(host("time"), 1)).text
    assert "monotonic and boottime 1 d behind, in host" in text


def test_clocks_read_in_units_that_a_reader_can_grasp() -> None:
    nslab.options.stable = False
    text = pictures.clocks(clocks(host("time"), 1), clocks(other("time"), 4711, DAY + HOUR // 2)).text
    for words in ("2 h", "1 d 2 h", "+ 1 d", "2026-09-21 14:13:20 UTC"):
        assert words in text


def test_clocks_of_many_and_none() -> None:
    many = [clocks(other("time", at), at, at % 2 * DAY) for at in range(1, 200)]
    different = [clocks(other("time", at), at, at * HOUR) for at in range(1, 200)]
    for shown in ((), (clocks(None, 7),), (clocks(host("time"), 1), *many), (clocks(host("time"), 1), *different)):
        picture = pictures.clocks(*shown)
        check(picture)
        apart(picture)
    assert "… and 188 more with other offsets" in picture.text


@pytest.mark.parametrize("extreme", [2**63, -(2**63), 10**30])
def test_clocks_out_of_all_range(extreme: int) -> None:
    for nslab.options.stable in (False, True):
        picture = pictures.clocks(
            Clocks(None, 1, 0, 0, 0, 0, 0), Clocks(None, 2, extreme, extreme, 0, extreme, extreme)
        )
        check(picture)
        apart(picture)


def objects(namespace: NamespaceId, queues: int = 1, note: str | None = None) -> IpcObjects:
    return IpcObjects(
        namespace,
        tuple(MessageQueue(at, 0x17 + at, 0, 0, 0o644, 1, 12) for at in range(queues)),
        (SemaphoreSet(0, 0, 1000, 100, 0o600, 3),),
        (SharedMemory(3, 5, 0, 0, 0o1666, 4096, 2, 4711),),
        (PosixQueue("/jobs", 0, 0, 0o600, 10),),
        note,
    )


def test_ipc_side_by_side() -> None:
    empty = IpcObjects(other("ipc"), (), (), (), (), "POSIX queues cannot be read: no mqueue file system")
    picture = pictures.ipc(objects(host("ipc")), empty)
    check(picture)
    apart(picture)
    expected(picture, "ipc")
    assert "ipc:host: 4 objects; ipc:new①: no objects" in picture.text
    assert "no mqueue file system" in picture.text


def test_many_ipc_objects_and_namespaces() -> None:
    empty = [IpcObjects(other("ipc", at), (), (), (), (), None) for at in range(200)]
    picture = pictures.ipc(*empty[:100], objects(host("ipc"), queues=200), *empty[100:])
    check(picture)
    apart(picture)
    assert "… and 188 more" in picture.text
    assert "… and 197 more IPC namespaces, 197 of them without objects" in picture.text
    assert "ipc:host" in picture.text


def test_ipc_of_nothing_and_any_bytes() -> None:
    odd = IpcObjects(other("ipc"), (), (), (), (PosixQueue(NASTY * 3, -1, -1, -1, -1),), NASTY)
    for shown in ((), (odd,)):
        picture = pictures.ipc(*shown)
        check(picture)
        apart(picture)


def view(*paths: CgroupPath, note: str | None = None) -> CgroupView:
    return CgroupView(other("cgroup"), 4711, paths, note)


def test_cgroup_by_two_paths() -> None:
    picture = pictures.cgroup(
        view(
            CgroupPath(0, (), "/user.slice/session.scope/job", "/job"),
            CgroupPath(3, ("cpu", "cpuacct"), "/a/b", "/"),
            CgroupPath(4, ("pids",), "/a/b", "/"),
            CgroupPath(5, ("name=systemd",), "/a", "/../x"),
            CgroupPath(6, ("io",), "/a/b", None),
            note="hierarchy 7 could not be read",
        )
    )
    check(picture)
    apart(picture)
    expected(picture, "cgroup")
    assert "One place, two names: /user.slice/session.scope/job outside is /job inside" in picture.text


def test_a_directory_is_above_itself() -> None:
    """What is the root inside is drawn below the directory that it is outside."""
    root = ET.fromstring(pictures.cgroup(view(CgroupPath(0, (), "/top/middle/job", "/job"))).svg)
    places: dict[str, list[tuple[float, float]]] = {}
    for node in root.iter("{http://www.w3.org/2000/svg}text"):
        places.setdefault(node.text or "", []).append((float(node.attrib["x"]), float(node.attrib["y"])))
    assert places["job"][0][0] == places["job"][1][0]
    assert places["/"][1][0] == places["middle"][0][0]
    assert places["/"][1][1] == places["job"][1][1] > places["job"][0][1]


@pytest.mark.parametrize(
    ("outside", "inside", "words"),
    [("/a", "/a", "The same path inside as outside"), ("/a", None, "cannot be read"), ("/", "/..", "two names")],
)
def test_cgroup_in_a_sentence(outside: str, inside: str | None, words: str) -> None:
    picture = pictures.cgroup(view(CgroupPath(0, (), outside, inside)))
    check(picture)
    apart(picture)
    assert words in picture.text


def test_cgroup_of_nothing_deep_and_any_bytes() -> None:
    deep = "/" + "/".join(f"level{at}" for at in range(200))
    for shown in (
        CgroupView(None, 0, (), None),
        view(CgroupPath(0, (), deep, "/level199")),
        view(CgroupPath(0, (), deep, "/" + deep[8:])),
        view(CgroupPath(0, (), deep, "/x" + deep)),
        view(CgroupPath(0, (), "", ""), CgroupPath(1, (NASTY,) * 9, NASTY, NASTY), note=NASTY),
        view(*(CgroupPath(at, (str(at),), f"/{at}", "/") for at in range(200))),
    ):
        picture = pictures.cgroup(shown)
        check(picture)
        apart(picture)
