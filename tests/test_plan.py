"""`nslab.plan`: everything is checked and ordered, nothing is cloned."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import seccomp
from conftest import with_user
from nested import inside

import nslab


def dry_run() -> int:
    for call in ("clone", "clone3", "unshare", "setns", "mount", "sethostname", "execve"):
        seccomp.kill(call)
    options: dict[str, Any] = {"map_root_user": True, "hostname": "lab", "mount_proc": True, "monotonic": 5}
    plan = nslab.plan("all", ["true"], loopback=True, kill_child=True, **options)
    assert plan.unshare_command()
    assert plan.c_source()
    return len(plan.steps)


@pytest.mark.unprivileged
def test_plan_clones_nothing_and_changes_nothing() -> None:
    assert inside(0, dry_run) > 10


ORDER = "clone uid_map setgroups gid_map timens_offsets propagation mount_proc loopback sethostname setdomainname "
ORDER += "stdio chdir umask restore_signals setsid extra_groups setgid setuid pdeathsig close_fds sigmask execve"


@pytest.mark.unprivileged
def test_plan_steps_are_in_the_order_of_execution() -> None:
    plan = nslab.plan(
        "all", ["true"], map_root_user=True, mount_proc=True, loopback=True, hostname="lab", domainname="dom",
        monotonic=5, cwd="/", umask=0o22, start_new_session=True, extra_groups=[0], group=0, user=0, kill_child=True,
    )  # fmt: skip
    wanted = ORDER.split()
    assert [step.name for step in plan.steps if step.name in wanted] == wanted
    assert [step.side for step in plan.steps] == ["parent"] + ["child"] * (len(plan.steps) - 1)
    details = {step.name: step.detail for step in plan.steps}
    assert details["sethostname"] == "lab"
    assert details["timens_offsets"] == "monotonic 5 0"
    assert details["execve"].endswith("/true")


def test_plan_names_the_side_that_takes_a_step() -> None:
    sides = {(step.name, step.side) for step in nslab.plan("user", ["true"], map_users=[(0, 0, 9)]).steps}
    assert {("clone", "parent"), ("clone", "intermediate"), ("uid_map", "intermediate"), ("execve", "child")} <= sides


@pytest.mark.unprivileged
def test_plan_reads_as_strace_shows_it() -> None:
    text = str(nslab.plan("uts", ["/bin/echo", 'a "b"'], hostname="lab", env={"A": "1"}))
    lines = [re.split(r"\s+", line, maxsplit=1) for line in text.splitlines()]
    assert lines[0] == ["parent", "clone3({flags=CLONE_NEWUTS, exit_signal=SIGCHLD})"]
    assert ["child", 'sethostname("lab", 3)'] in lines
    assert lines[-1] == ["child", r'execve("/bin/echo", ["/bin/echo", "a \"b\""], 1 variables)']


@pytest.mark.unprivileged
def test_plan_spawns_any_number_of_times() -> None:
    flags, options = with_user("uts pid", {"hostname": "lab"})
    plan = nslab.plan(flags, ["sh", "-c", "uname -n; read line; echo $line"], **options)
    for line in ("one", "two", "three"):
        with plan.spawn(stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as process:
            assert process.communicate(line)[0] == f"lab\n{line}\n"
        assert process.plan == plan


@pytest.mark.unprivileged
def test_plan_makes_new_namespaces_each_time() -> None:
    flags, options = with_user("uts", {})
    plan = nslab.plan(flags, ["true"], **options)
    with plan.spawn() as one, plan.spawn() as other:
        assert one.namespaces["uts"] != other.namespaces["uts"]


@pytest.mark.unprivileged
def test_plan_keeps_the_environment_of_its_making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB", "then")
    plan = nslab.plan(0, ["sh", "-c", "echo $LAB"])
    monkeypatch.setenv("LAB", "now")
    with plan.spawn(stdout=nslab.PIPE, text=True) as process:
        assert process.communicate()[0] == "then\n"
    assert subprocess.check_output(["sh", "-c", plan.unshare_command()], text=True) == "then\n"


@pytest.mark.unprivileged
def test_plan_equality() -> None:
    plan = nslab.plan("uts", ["true"], hostname="lab")
    assert plan == nslab.plan(nslab.CLONE_NEWUTS, ["true"], hostname=b"lab")
    assert hash(plan) == hash(nslab.plan("uts", ["true"], hostname="lab"))
    for other in (nslab.plan("uts", ["true"]), nslab.plan("uts ipc", ["true"], hostname="lab"), "uts"):
        assert plan != other


@pytest.mark.unprivileged
@pytest.mark.parametrize("keyword", ["cwd", "env", "hostname", "flags", "user", "close_fds", "preexec_fn", "timeout"])
def test_plan_spawn_takes_streams_only(keyword: str) -> None:
    with pytest.raises(TypeError, match=f"{keyword} is part of the plan"):
        nslab.plan(0, ["true"]).spawn(**{keyword: None})


@pytest.mark.unprivileged
def test_streams_may_be_given_to_the_plan_or_to_each_run() -> None:
    plan = nslab.plan(0, ["sh", "-c", "cat; echo err >&2"], stdin=-1, stdout=-1, stderr=nslab.STDOUT, text=True)
    for _ in range(2):
        assert plan.spawn().communicate("in ") == ("in err\n", None)
    assert plan.spawn(stderr=nslab.DEVNULL, text=False).communicate(b"in") == (b"in", None)
    assert plan.unshare_command().startswith("# stdin: that of this shell; redirect it on this line\n# stdout: that")


def test_a_plan_keeps_no_descriptor_of_its_streams() -> None:
    """The fixture of all tests counts them afterwards."""
    for stream in (nslab.PIPE, nslab.DEVNULL):
        assert nslab.plan("", ["true"], stdin=stream, stdout=stream, stderr=stream).steps[-1].name == "execve"
