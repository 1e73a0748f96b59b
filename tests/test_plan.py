"""`nslab.plan`: what it shows, and that the unshare(1) line and the C program do what the plan does."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import seccomp
from conftest import ROOT, spawn, with_user
from nested import inside

import nslab

# Everything the options can change, as the program sees it.
OBSERVE = r"""
echo "host $(uname -n)"; echo "domain $(cat /proc/sys/kernel/domainname)"
echo "ids $(id -u) $(id -g) $(id -G)"
cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups /proc/self/timens_offsets
echo "umask $(umask), directory $(readlink /proc/self/cwd), variable ${LAB-unset}"
[ $$ = 1 ] && echo init
read -r stat </proc/self/stat; set -- $stat
[ "$1" = "$5" ] && echo leads its group; [ "$1" = "$6" ] && echo leads its session
grep -E 'Sig(Blk|Ign)|NoNewPrivs|CapEff' /proc/self/status
echo "descriptors $(ls /proc/self/fd)"
readlink /proc/self/ns/*
ip -o link show | sed 's/\\.*//'
cut -d' ' -f4- /proc/self/mountinfo
exit 7
"""

TEXT: dict[str, Any] = {"stdout": nslab.PIPE, "stderr": nslab.STDOUT, "errors": "surrogateescape"}
UNPRIVILEGED = pytest.mark.unprivileged


def observed(done: subprocess.CompletedProcess[str], joined: nslab.Process | None = None) -> str:
    """Return what the program saw, without the numbers that differ from one run to the next."""
    assert done.returncode == 7, done.stdout
    known = {os.readlink(entry.path) for entry in os.scandir("/proc/self/ns")}
    if joined:
        known |= {os.readlink(entry.path) for entry in os.scandir(f"/proc/{joined.pid}/ns")}
    text = re.sub(r"\w+:\[\d+\]", lambda match: match[0] if match[0] in known else "new", done.stdout)
    return re.sub(r"\b(shared|master|propagate_from):\d+", r"\1", text)


def quietly(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, timeout=60, **TEXT, **options)


def compiled(plan: nslab.Plan, directory: Path) -> str:
    """Compile the C program and return its path."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler (cc)")
    source, program = directory / "twin.c", directory / "twin"
    source.write_text(plan.c_source())
    done = quietly(["cc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", str(program), str(source)])
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + source.read_text()
    return str(program)


def comments(plan: nslab.Plan) -> str:
    *lines, command = plan.unshare_command().splitlines()
    assert all(line.startswith("# ") for line in lines)
    assert not command.startswith("#")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------ the dry run


def dry_run() -> int:
    for call in ("clone", "clone3", "unshare", "setns", "mount", "sethostname", "execve"):
        seccomp.kill(call)
    options: dict[str, Any] = {"map_root_user": True, "hostname": "lab", "mount_proc": True, "monotonic": 5}
    plan = nslab.plan("all", ["true"], loopback=True, kill_child=True, **options)
    assert plan.unshare_command()
    assert plan.c_source()
    return len(plan.steps)


@UNPRIVILEGED
def test_plan_clones_nothing_and_changes_nothing() -> None:
    assert inside(0, dry_run) > 10


ORDER = "clone uid_map setgroups gid_map timens_offsets propagation mount_proc loopback sethostname setdomainname stdio "
ORDER += "chdir umask restore_signals setsid extra_groups setgid setuid pdeathsig close_fds sigmask execve"


@UNPRIVILEGED
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


@UNPRIVILEGED
def test_plan_reads_as_strace_shows_it() -> None:
    text = str(nslab.plan("uts", ["/bin/echo", 'a "b"'], hostname="lab", env={"A": "1"}))
    lines = [re.split(r"\s+", line, maxsplit=1) for line in text.splitlines()]
    assert lines[0] == ["parent", "clone3({flags=CLONE_NEWUTS, exit_signal=SIGCHLD})"]
    assert ["child", 'sethostname("lab", 3)'] in lines
    assert lines[-1] == ["child", r'execve("/bin/echo", ["/bin/echo", "a \"b\""], 1 variables)']


@UNPRIVILEGED
def test_plan_spawns_any_number_of_times() -> None:
    flags, options = with_user("uts pid", {"hostname": "lab"})
    plan = nslab.plan(flags, ["sh", "-c", "uname -n; read line; echo $line"], **options)
    for line in ("one", "two", "three"):
        with plan.spawn(stdin=nslab.PIPE, stdout=nslab.PIPE, text=True) as process:
            assert process.communicate(line)[0] == f"lab\n{line}\n"
        assert process.plan == plan


@UNPRIVILEGED
def test_plan_makes_new_namespaces_each_time() -> None:
    flags, options = with_user("uts", {})
    plan = nslab.plan(flags, ["true"], **options)
    with plan.spawn() as one, plan.spawn() as other:
        assert one.namespaces["uts"] != other.namespaces["uts"]


@UNPRIVILEGED
def test_plan_keeps_the_environment_of_its_making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB", "then")
    plan = nslab.plan(0, ["sh", "-c", "echo $LAB"])
    monkeypatch.setenv("LAB", "now")
    with plan.spawn(stdout=nslab.PIPE, text=True) as process:
        assert process.communicate()[0] == "then\n"
    done = quietly(["sh", "-c", plan.unshare_command()])
    assert done.stdout == "then\n"


@UNPRIVILEGED
def test_plan_equality() -> None:
    plan = nslab.plan("uts", ["true"], hostname="lab")
    assert plan == nslab.plan(nslab.CLONE_NEWUTS, ["true"], hostname=b"lab")
    assert hash(plan) == hash(nslab.plan("uts", ["true"], hostname="lab"))
    for other in (nslab.plan("uts", ["true"]), nslab.plan("uts ipc", ["true"], hostname="lab"), "uts"):
        assert plan != other


@UNPRIVILEGED
@pytest.mark.parametrize("keyword", ["cwd", "env", "hostname", "flags", "user", "close_fds", "preexec_fn", "timeout"])
def test_plan_spawn_takes_streams_only(keyword: str) -> None:
    with pytest.raises(TypeError, match=f"{keyword} is part of the plan"):
        nslab.plan(0, ["true"]).spawn(**{keyword: None})


# --------------------------------------------------------------------------------------------------------- the twins

ME, MINE = os.geteuid(), os.getegid()
EVERYTHING: dict[str, Any] = {
    "hostname": "lab", "domainname": "dom", "map_root_user": True, "propagation": "slave", "mount_proc": True,
    "loopback": True, "monotonic": 86_400, "boottime": 7, "kill_child": True, "cwd": "/", "umask": 0o27,
    "start_new_session": True, "env": {"LAB": "a 'b' \"c\" $d ä", "PATH": os.environ["PATH"]},
}  # fmt: skip

BOTH = {
    "plain": (0, {}),
    "uts": ("uts", {"hostname": "lab", "domainname": "-a 'b'"}),
    "pid": ("pid", {}),
    "ipc and cgroup": ("ipc cgroup", {"umask": 0}),
    "private": ("mnt", {}),
    "slave": ("mnt", {"propagation": "slave"}),
    "shared": ("mnt", {"propagation": "shared"}),
    "unchanged": ("mnt", {"propagation": "unchanged"}),
    "proc": ("mnt pid", {"mount_proc": True, "cwd": "/proc"}),
    "proc elsewhere": ("mnt pid", {"mount_proc": "/sys", "propagation": "unchanged"}),
    "net": ("net", {"loopback": True}),
    "time": ("time", {"monotonic": 100, "boottime": 1000}),
    "root": ("user", {"map_root_user": True}),
    "myself": ("user uts", {"map_current_user": True}),
    "one user": ("user", {"map_users": [(5, ME, 1)]}),
    "one group": ("user", {"map_groups": [(5, MINE, 1)]}),
    "one of each": ("user", {"map_users": [(5, ME, 1)], "map_groups": [(6, MINE, 1)], "setgroups": "deny"}),
    "no map": ("user", {"setgroups": "deny"}),
    "session": (0, {"start_new_session": True, "cwd": "/tmp"}),
    "environment": (0, {"env": {"LAB": "a\nb", "PATH": os.environ["PATH"]}}),
    "everything": ("all", EVERYTHING),
}

ROOTS = {
    "a name that hostname(1) refuses": ("uts", {"hostname": "-a_b 'ü'"}),
    "no name": ("uts", {"hostname": ""}),
    "a name that is no text": ("uts", {"domainname": b"\xff'\xfe"}),
    "user": ("uts", {"user": 65534, "hostname": "lab", "kill_child": True}),
    "group": ("uts", {"group": 7}),
    "groups": (0, {"extra_groups": [3, 4], "user": 65534, "group": 65534}),
    "no groups": ("pid", {"extra_groups": [], "group": 5}),
}

# What unshare(1) takes from util-linux 2.40 on, or never.
C_ONLY = {
    "several ranges": ("user uts", {"map_users": [(0, 0, 1), (1, 1000, 9)], "map_groups": [(0, 5, 3), (9, 0, 1)]}),
    "all ids": ("user", {"map_users": "all", "map_groups": "all", "setgroups": "allow", "user": 9, "group": 9}),
    "denied": ("user", {"map_users": [(0, 0, 9)], "map_groups": [(0, 0, 9)], "setgroups": "deny"}),
}


def cases(*tables: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(*case, id=name, marks=UNPRIVILEGED if table is BOTH else ())
        for table in tables
        for name, case in table.items()
    ]


def by_shell(plan: nslab.Plan, _: Path) -> list[str]:
    """Return the command that runs the plan by unshare(1)."""
    *lines, command = plan.unshare_command().split("\n", plan.unshare_command().count("\n# ") + 1)
    return ["sh", "-c", "\n".join([*lines, f"exec {command}"])]


def by_c(plan: nslab.Plan, directory: Path) -> list[str]:
    """Return the command that runs the plan by its C program."""
    return [compiled(plan, directory)]


TWINS = pytest.mark.parametrize("twin", [by_shell, by_c])
Twin = Callable[[nslab.Plan, Path], list[str]]


@pytest.mark.parametrize(("flags", "options"), cases(BOTH, ROOTS))
@TWINS
def test_plan_twins_do_the_same(twin: Twin, flags: Any, options: dict[str, Any], tmp_path: Path) -> None:
    flags, options = with_user(flags, options)
    argv = ["sh", "-c", OBSERVE]
    command = twin(nslab.plan(flags, argv, **options), tmp_path)
    assert observed(quietly(command)) == observed(nslab.run(flags, argv, **TEXT, **options)), command


@pytest.mark.parametrize(("flags", "options"), cases(C_ONLY))
def test_plan_c_source_does_the_same(flags: Any, options: dict[str, Any], tmp_path: Path) -> None:
    test_plan_twins_do_the_same(by_c, flags, options, tmp_path)


def test_plan_unshare_command_with_subordinate_ids(tmp_path: Path) -> None:
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap(1) is not installed")
    ranges = [(1, 100_000, 10)]
    options: dict[str, Any] = {"map_root_user": True, "map_users": ranges, "map_groups": ranges}
    argv = ["sh", "-c", OBSERVE]
    owned = tmp_path / "subid"
    owned.write_text("root:100000:65536\n")
    line = nslab.plan("user", argv, **options).unshare_command()
    bind = "mount --bind $0 /etc/subuid && mount --bind $0 /etc/subgid && umount -l /etc/subuid /etc/subgid"
    bind = bind.rpartition(" && ")[0]
    theirs = nslab.run("mnt", ["sh", "-c", f"{bind} && eval \"$1\"", str(owned), line], **TEXT)
    ours = nslab.run("user", argv, **TEXT, **options)
    maps = [[row for row in observed(done).splitlines() if row.startswith(("ids", " "))] for done in (theirs, ours)]
    assert maps[0] == maps[1]


# ------------------------------------------------------------------------------------------------------------ joining


def join_a_process(other: nslab.Process) -> object:
    return other


def join_an_id(other: nslab.Process) -> object:
    return other.namespaces["uts"], other.namespaces["user"]


def join_paths(other: nslab.Process) -> object:
    return f"/proc/{other.pid}/ns/uts", f"/proc/{other.pid}/ns/user"


@UNPRIVILEGED
@pytest.mark.parametrize("how", [join_a_process, join_an_id, join_paths])
@pytest.mark.parametrize("flags", ["", "ipc", "user pid"])
@TWINS
def test_plan_twins_join(twin: Twin, flags: str, how: Callable[[nslab.Process], Any], tmp_path: Path) -> None:
    argv = ["sh", "-c", OBSERVE]
    made = "user uts net pid mnt time"
    with spawn(made, ["sleep", "600"], map_root_user=True, hostname="joined", monotonic=9, mount_proc=True) as other:
        plan = nslab.plan(flags, argv, join=how(other))
        with plan.spawn(**TEXT) as process:
            ours = subprocess.CompletedProcess(argv, process.wait(), process.stdout.read())
        theirs = quietly(twin(plan, tmp_path))
        other.kill()
        assert "host joined" in theirs.stdout
    assert observed(theirs) == observed(ours)
