"""The user namespace: maps of more than one id."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import reachable_by_others, sh
from nested import MS_BIND, as_nobody, inside, mount, refusal

import nslab

# Whom every id without a mapping is shown as.
NOBODY = Path("/proc/sys/kernel/overflowuid").read_text().strip()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def lines(file: str) -> list[list[int]]:
    """Return an id map as numbers."""
    return [list(map(int, line.split())) for line in file.splitlines()]


def refused_without_helpers(options: dict[str, Any]) -> nslab.SpawnError:
    """Ask for a map on a host that has no newuidmap(1)."""
    os.environ["PATH"] = "/nonexistent"
    return refusal("user", options)


@pytest.mark.unprivileged
def test_usr_04_without_privilege_setgroups_cannot_stay_allowed() -> None:
    error = as_nobody(refused_without_helpers, {"map_root_user": True, "setgroups": "allow"})
    assert (error.step, error.errno) == ("gid_map", errno.EPERM)
    assert 'setgroups="deny"' in (error.hint or "")


SIX = [(n, n, 1) for n in range(5)] + [(5, 5, 90)]


def owners_in_the_inner_one(directory: str) -> list[str]:
    """Return who owns, as a namespace in this one sees it, a file that it makes, and one of the host's root."""
    script = f"touch {directory}/file && stat -c %u {directory}/file /"
    status, output = sh("user", script, map_users=SIX, map_groups=SIX)
    assert status == 0, output
    return output.split()


def owners_in_the_outer_one(directory: str) -> list[str]:
    """Make a namespace of six ranges, and in it another."""
    needed = [str(Path(__file__).parent.parent), sys.prefix, sys.base_prefix]
    subprocess.run(["sh", "-c", reachable_by_others(needed)], check=True)
    outer = [(n, 100_000 + n, 1) for n in range(5)] + [(5, 100_005, 995)]
    options: dict[str, Any] = {"user": 0, "group": 0, "extra_groups": []}
    return inside("user", owners_in_the_inner_one, directory, map_users=outer, map_groups=outer, **options)


def test_usr_10_more_than_five_ranges_are_translated_in_both_directions(open_directory: Path) -> None:
    # CVE-2018-18955: from six ranges on the kernel looked in an untranslated copy for the way back.
    assert inside("mnt", owners_in_the_outer_one, str(open_directory)) == ["0", NOBODY]
    assert (open_directory / "file").stat().st_uid == 100_000


def test_usr_11_several_ranges() -> None:
    ranges = [(0, 1000, 1), (1, 100_000, 10)]
    status, output = sh("user", "cat /proc/self/uid_map", map_users=ranges)
    assert (status, lines(output)) == (0, [list(line) for line in ranges])
    status, output = sh("user", "cat /proc/self/gid_map", map_groups=ranges)
    assert (status, lines(output)) == (0, [list(line) for line in ranges])


def test_usr_12_every_id_there_is() -> None:
    everyone = [(0, 0, 4_294_967_295)]
    status, output = sh("user", "cat /proc/self/uid_map; id -u", map_users=everyone, map_groups=everyone)
    assert (status, output.split()) == (0, ["0", "0", "4294967295", "0"])


@pytest.mark.parametrize(
    ("ranges", "word"),
    [
        ([(0, -1, 1)], "-1"),
        ([(0, 4_294_967_295, 1)], "4294967294"),
        ([(0, 0, 4_294_967_296)], "4294967296"),
        ([(0, 0, 0)], "at least 1"),
        ([(0, 0, 2), (1, 5, 1)], "overlap inside"),
        ([(0, 0, 2), (5, 1, 1)], "overlap outside"),
        ([], "empty"),
        ([(n, n, 1) for n in range(341)], "340"),
    ],
)
@pytest.mark.parametrize("option", ["map_users", "map_groups"])
def test_usr_13_a_map_no_kernel_accepts(option: str, ranges: Any, word: str, invalid: Callable[..., str]) -> None:
    message = invalid("user", **{option: ranges})
    assert message.startswith(option)
    assert word in message


@pytest.mark.unprivileged
@pytest.mark.parametrize("ranges", [[(0, 0, 1)], [(0, 65534, 2)]], ids=["somebody else", "two"])
def test_usr_16_without_privilege_only_oneself_can_be_mapped(ranges: Any) -> None:
    error = as_nobody(refused_without_helpers, {"map_users": ranges})
    assert (error.step, error.errno) == ("uid_map", errno.EPERM)
    assert "newuidmap" in (error.hint or "")


def eleven_groups(first: int) -> dict[str, Any]:
    """Return options that map the ordinary user, and besides his own group ten others."""
    return {"map_users": [(0, 65534, 1)], "map_groups": [(0, 65534, 1), (1, first, 10)]}


@pytest.mark.unprivileged
def test_usr_19_many_ids_without_the_helper() -> None:
    error = as_nobody(refused_without_helpers, eleven_groups(200_000))
    assert (error.step, error.errno) == ("gid_map", errno.EPERM)
    assert "newgidmap" in (error.hint or "")


@pytest.mark.unprivileged
def test_usr_19_many_ids_that_subgid_does_not_give() -> None:
    error = as_nobody(refusal, "user", eleven_groups(200_000))
    assert (error.step, error.errno) == ("newgidmap", errno.EPERM)
    # What the helper itself has to say.
    assert "200000" in error.detail
    assert "not allowed" in error.detail
    assert "/etc/subgid" in (error.hint or "")


def maps(options: dict[str, Any]) -> list[list[list[int]]]:
    """Return the maps a program gets with these options."""
    found = [sh("user", f"cat /proc/self/{name}_map", **options) for name in ("uid", "gid")]
    assert [status for status, _ in found] == [0, 0], found
    return [lines(output) for _, output in found]


def maps_with_subordinate_ids(directory: str, options: dict[str, Any]) -> list[list[list[int]]]:
    """The same on a host where the ordinary user has subordinate ids."""
    for name, first in (("subuid", 100_000), ("subgid", 200_000)):
        prepared = Path(directory, name)
        prepared.write_text(f"somebody:1:1\nnobody:{first}:65536\n")
        mount(str(prepared), f"/etc/{name}", flags=MS_BIND)
    return as_nobody(maps, options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (eleven_groups(200_000), [[[0, 65534, 1]], [[0, 65534, 1], [1, 200_000, 10]]]),
        ({"map_users": "auto", "map_groups": "auto"}, [[[0, 100_000, 65536]], [[0, 200_000, 65536]]]),
        ({"map_users": "subids", "map_groups": "subids"}, [[[100_000, 100_000, 65536]], [[200_000, 200_000, 65536]]]),
        (
            {"map_users": "auto", "map_groups": "auto", "map_root_user": True},
            [[[0, 65534, 1], [1, 100_000, 65536]], [[0, 65534, 1], [1, 200_000, 65536]]],
        ),
    ],
    ids=["ranges", "auto", "subids", "root and auto"],
)
def test_usr_19_many_ids_that_the_helpers_map(
    options: dict[str, Any], expected: list[list[list[int]]], tmp_path: Path
) -> None:
    assert inside("mnt", maps_with_subordinate_ids, str(tmp_path), options) == expected
