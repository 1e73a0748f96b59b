"""What fuzzing has found: each input that once went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, spawn, with_user
from nested import as_nobody, inside

import nslab

Invalid = Callable[..., str]
UNPRIVILEGED = pytest.mark.unprivileged


@UNPRIVILEGED
@pytest.mark.parametrize(
    "option", ["hostname", "domainname", "map_users", "setgroups", "propagation", "monotonic", "join"]
)
def test_false_is_no_value_for_what_is_neither_on_nor_off(option: str, invalid: Invalid) -> None:
    assert option in invalid("all", **{option: False})


@UNPRIVILEGED
@pytest.mark.parametrize("option", ["mount_proc", "kill_child", "init", "loopback", "map_root_user"])
def test_false_is_off(option: str) -> None:
    assert nslab.plan("all", ["true"], **{option: False}) == nslab.plan("all", ["true"])


@UNPRIVILEGED
@pytest.mark.parametrize("value", [9.5, "9", b"9", [9]])
def test_a_signal_is_no_number_of_another_type(value: Any, invalid: Invalid) -> None:
    assert "kill_child" in invalid("uts", kill_child=value)


@UNPRIVILEGED
@pytest.mark.parametrize("flags", [["uts", None], [None], [["uts"]], [1.5]])
def test_names_are_text(flags: Any, invalid: Invalid) -> None:
    assert "names" in invalid(flags)


@UNPRIVILEGED
@pytest.mark.parametrize("option", ["map_users", "map_groups"])
def test_an_empty_map_beside_that_of_the_caller(option: str, invalid: Invalid) -> None:
    assert f"{option} must not be empty" in invalid("user", map_root_user=True, **{option: []})


@UNPRIVILEGED
def test_a_plan_has_a_line_for_each_step_whatever_is_in_a_path(tmp_path: Path) -> None:
    link = tmp_path / "a\nb\x1b[2J"
    link.symlink_to("/proc/self/ns/uts")
    plan = nslab.plan(0, ["true"], join=[str(link), str(link)])
    assert len(str(plan).split("\n")) == len(plan.steps)
    assert "\x1b" not in str(plan)


def allow_own_group(options: dict[str, Any]) -> tuple[str, int | None, str | None]:
    try:
        done = nslab.run(
            "user", ["cat", "/proc/self/setgroups"], capture_output=True, text=True, setgroups="allow", **options
        )
    except nslab.SpawnError as error:
        return error.step, error.errno, error.hint
    return done.stdout, None, None


@pytest.mark.parametrize("options", [{"map_current_user": True}, {"map_groups": [(5, 65534, 1)]}])
def test_newgidmap_does_not_deny_what_was_to_stay_allowed(options: dict[str, Any]) -> None:
    if not ROOT:
        pytest.skip("only root becomes the user with these ids")
    step, errno, hint = as_nobody(allow_own_group, options)
    assert (step, errno) == ("gid_map", 1)
    assert 'setgroups="deny"' in (hint or "")


def below(join: Callable[[nslab.Process], Any], options: dict[str, Any]) -> list[str]:
    """Return the id maps of a user namespace in one that is joined."""
    flags, made = with_user("uts", {"map_root_user": True})
    with spawn(flags | nslab.CLONE_NEWUSER, ["sleep", "60"], **made) as outer:
        try:
            files = ["/proc/self/uid_map", "/proc/self/gid_map"]
            done = nslab.run(
                "user", ["cat", *files], join=join(outer), capture_output=True, text=True, check=True, **options
            )
        finally:
            outer.kill()
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def by_process(process: nslab.Process) -> object:
    return process


def by_path(process: nslab.Process) -> object:
    return f"/proc/{process.pid}/ns/user"


def by_id(process: nslab.Process) -> object:
    return process.namespaces["user"]


@pytest.mark.parametrize("join", [by_process, by_path, by_id])
@pytest.mark.parametrize("options", [{"map_root_user": True}, {"map_users": [(0, 0, 1)], "map_groups": [(0, 0, 1)]}])
def test_a_user_namespace_in_one_that_is_joined_maps_the_ids_that_are_there(
    join: Callable[[nslab.Process], Any], options: dict[str, Any]
) -> None:
    assert as_nobody(below, join, options) == ["0 0 1", "0 0 1"]


@UNPRIVILEGED
def test_nothing_of_this_needs_the_host() -> None:
    assert inside("user", below, by_process, {"map_root_user": True}, map_root_user=True) == ["0 0 1", "0 0 1"]
