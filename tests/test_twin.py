"""A plan in other words: the unshare(1) line and the C program do what the plan does, and say what they leave out."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, spawn, with_user
from nested import MS_BIND, as_nobody, inside, mount

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
    # By posix_spawn(3), which `subprocess` uses from Python 3.13 on, it would ignore the signals 32 and 33.
    return nslab.run(0, argv, timeout=60, **TEXT, **options)


def compiled(plan: nslab.Plan, directory: Path) -> str:
    """Compile the C program and return its path."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler (cc)")
    source, program = directory / "twin.c", directory / "twin"
    source.write_text(plan.c_source())
    # Fortified as distributions have it, where ignoring a result is a warning.
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", "-D_FORTIFY_SOURCE=2"]
    done = quietly(["cc", *flags, "-o", str(program), str(source)])
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + source.read_text()
    return str(program)


ME, MINE = os.geteuid(), os.getegid()
EVERYTHING: dict[str, Any] = {
    "hostname": "lab", "domainname": "dom", "map_root_user": True, "propagation": "slave", "mount_proc": True,
    "loopback": True, "monotonic": 86_400, "boottime": 7, "kill_child": True, "cwd": "/", "umask": 0o27,
    "start_new_session": True, "env": {"LAB": "a 'b' \"c\" $d ä", "PATH": os.environ["PATH"]},
}  # fmt: skip

BOTH: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (0, {}),
    "uts": ("uts", {"hostname": "lab", "domainname": "-a 'b'"}),
    "pid": ("pid", {}),
    "ipc and cgroup": ("ipc cgroup", {"umask": 0}),
    "proc": ("mnt pid", {"mount_proc": True, "cwd": "/proc"}),
    "proc elsewhere": ("mnt pid", {"mount_proc": "/sys", "propagation": "unchanged"}),
    "net": ("net", {"loopback": True}),
    "time": ("time", {"monotonic": 100, "boottime": 1000}),
    "root": ("user", {"map_root_user": True}),
    "myself": ("user uts", {"map_current_user": True}),
    "names without root": ("user uts net", {"map_current_user": True, "hostname": "lab", "loopback": True}),
    "names without a map": ("user uts", {"domainname": "lab", "setgroups": "allow"}),
    "one user": ("user", {"map_users": [(5, ME, 1)]}),
    "one group": ("user", {"map_groups": [(5, MINE, 1)]}),
    "one of each": ("user", {"map_users": [(5, ME, 1)], "map_groups": [(6, MINE, 1)], "setgroups": "deny"}),
    "no map": ("user", {"setgroups": "deny"}),
    "session": (0, {"start_new_session": True, "cwd": "/tmp"}),
    "environment": (0, {"env": {"LAB": "a\nb", "PATH": os.environ["PATH"]}}),
    "everything": ("all", EVERYTHING),
}

ROOTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a name that hostname(1) refuses": ("uts", {"hostname": "-a_b 'ü'"}),
    "no name": ("uts", {"hostname": ""}),
    "a name that is no text": ("uts", {"domainname": b"\xff'\xfe"}),
    "user": ("uts", {"user": 65534, "hostname": "lab", "kill_child": True}),
    "group": ("uts", {"group": 7}),
    "groups": (0, {"extra_groups": [3, 4], "user": 65534, "group": 65534}),
    "no groups": ("pid", {"extra_groups": [], "group": 5}),
}

# What unshare(1) takes from util-linux 2.40 on, or never.
C_ONLY: dict[str, tuple[Any, dict[str, Any]]] = {
    "several ranges": ("user uts", {"map_users": [(0, 0, 1), (1, 1000, 9)], "map_groups": [(0, 5, 3), (9, 0, 1)]}),
    "all ids": ("user", {"map_users": "all", "map_groups": "all", "setgroups": "allow", "user": 9, "group": 9}),
    "denied": ("user", {"map_users": [(0, 0, 9)], "map_groups": [(0, 0, 9)], "setgroups": "deny"}),
}


def by_shell(plan: nslab.Plan, _: Path) -> list[str]:
    """Return the command that runs the plan by unshare(1)."""
    # Without a shell in between, for the test that kills what it has started.
    return ["sh", "-c", re.sub(r"(?m)^(unshare|nsenter) ", r"exec \1 ", plan.unshare_command(), count=1)]


def by_c(plan: nslab.Plan, directory: Path) -> list[str]:
    """Return the command that runs the plan by its C program."""
    return [compiled(plan, directory)]


TWINS = pytest.mark.parametrize("twin", [by_shell, by_c])
Twin = Callable[[nslab.Plan, Path], list[str]]


def same(twin: Twin, flags: Any, options: dict[str, Any], directory: Path) -> None:
    flags, options = with_user(flags, options)
    argv = ["sh", "-c", OBSERVE]
    command = twin(nslab.plan(flags, argv, **options), directory)
    assert observed(quietly(command)) == observed(nslab.run(flags, argv, **TEXT, **options)), command


@UNPRIVILEGED
@pytest.mark.parametrize(("flags", "options"), BOTH.values(), ids=BOTH)
@TWINS
def test_twins_do_the_same(twin: Twin, flags: Any, options: dict[str, Any], tmp_path: Path) -> None:
    same(twin, flags, options, tmp_path)


@pytest.mark.parametrize(("flags", "options"), ROOTS.values(), ids=ROOTS)
@TWINS
def test_twins_do_the_same_for_root(twin: Twin, flags: Any, options: dict[str, Any], tmp_path: Path) -> None:
    same(twin, flags, options, tmp_path)


@pytest.mark.parametrize(("flags", "options"), C_ONLY.values(), ids=C_ONLY)
def test_twin_c_source_does_the_same(flags: Any, options: dict[str, Any], tmp_path: Path) -> None:
    same(by_c, flags, options, tmp_path)


@UNPRIVILEGED
@pytest.mark.parametrize("mount_proc", [False, True])
@pytest.mark.parametrize("propagation", [None, "private", "slave", "shared", "unchanged"])
@TWINS
def test_twins_propagate_mounts(twin: Twin, propagation: Any, mount_proc: bool, tmp_path: Path) -> None:
    # All mounts of the caller are shared, or there would be nothing to see.
    options = {"propagation": propagation, "mount_proc": mount_proc}
    inside("mnt", same, twin, "mnt pid", options, tmp_path, propagation="shared")


def same_for_nobody(twin: Twin, options: dict[str, Any]) -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("nobody:100000:65536\n")
        file.flush()
        os.chmod(file.name, 0o644)
        for target in ("/etc/subuid", "/etc/subgid"):
            mount(file.name, target, flags=MS_BIND)
    as_nobody(same_in_temporary_directory, twin, options)


def same_in_temporary_directory(twin: Twin, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        same(twin, "user", options, Path(directory))


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="newuidmap(1) is not installed")
@pytest.mark.parametrize("ranges", ["auto", [(1, 100_000, 10)]])
@TWINS
def test_twins_use_subordinate_ids(twin: Twin, ranges: Any) -> None:
    inside("mnt", same_for_nobody, twin, {"map_root_user": True, "map_users": ranges, "map_groups": ranges})


# ------------------------------------------------------------------------------------------------------------ joining


class Living:
    """A process that lives until it is closed."""

    def __init__(self, flags: Any, **options: Any) -> None:
        self.process = spawn(flags, ["sleep", "600"], **options)

    def close(self) -> None:
        with self.process:
            self.process.kill()


def join_a_process(other: nslab.Process) -> object:
    return other


def join_an_id(other: nslab.Process) -> object:
    return other.namespaces["uts"], other.namespaces["user"]


def join_paths(other: nslab.Process) -> object:
    return f"/proc/{other.pid}/ns/uts", f"/proc/{other.pid}/ns/user"


@UNPRIVILEGED
@pytest.mark.parametrize("how", [join_a_process, join_an_id, join_paths])
@pytest.mark.parametrize("flags", ["", "ipc", "user"])
@TWINS
def test_twins_join(twin: Twin, flags: str, how: Callable[[nslab.Process], Any], tmp_path: Path) -> None:
    argv = ["sh", "-c", OBSERVE]
    made = "user uts net pid mnt time"
    options: dict[str, Any] = {"map_root_user": True, "hostname": "joined", "monotonic": 9, "mount_proc": True}
    with contextlib.closing(Living(made, **options)) as other:
        plan = nslab.plan(flags, argv, join=how(other.process))
        ours = nslab.run(flags, argv, join=how(other.process), **TEXT)
        theirs = quietly(twin(plan, tmp_path))
        assert "host joined" in theirs.stdout, theirs.stdout
        assert observed(theirs, other.process) == observed(ours, other.process)


# ------------------------------------------------------------------------------------------ what is not quite the same


def left_out(plan: nslab.Plan) -> str:
    """Return the comments before the unshare(1) line."""
    line = plan.unshare_command()
    return "".join(re.findall(r"(?m)^# (.*\n)", line[: re.search(r"(?m)^(unshare|nsenter) ", line).start()]))  # type: ignore[union-attr]


@UNPRIVILEGED
@pytest.mark.parametrize(
    ("flags", "options", "comment"),
    [
        (0, {"close_fds": True}, "close_fds"),
        (0, {"restore_signals": True}, "restore_signals"),
        (0, {"pass_fds": [1, 2]}, "pass_fds=[1, 2]"),
        (0, {"process_group": 0}, "process_group=0"),
        (0, {"kill_child": True}, "kill_child"),
        (0, {"executable": "/bin/true"}, 'argv[0] is "a name"'),
        (0, {"executable": "/tmp/a=b", "env": {}}, "env"),
        ("time", {"monotonic": 1.5}, "--monotonic takes whole seconds: 500000000 ns"),
        ("time", {"boottime": 1.000_000_001}, "--boottime takes whole seconds: 1 ns"),
        ("uts", {"hostname": "a_b"}, "hostname(1)"),
        ("uts", {"hostname": "a\nb"}, "hostname: left out"),
        ("user", {"map_users": [(0, 1, 2)]}, "2.40"),
        ("user", {"map_groups": [(0, 1, 2)], "setgroups": "deny"}, "setgroups=deny"),
        (0, {"join": os.devnull}, "join"),
    ],
)
def test_twin_unshare_command_says_what_it_leaves_out(flags: Any, options: dict[str, Any], comment: str) -> None:
    assert comment in left_out(nslab.plan(flags, ["a name"], **options))
    assert comment not in left_out(nslab.plan("pid", ["true"], close_fds=False, restore_signals=False))


@UNPRIVILEGED
def test_twin_comments_stay_comments(tmp_path: Path) -> None:
    link = tmp_path / "a\n\u202e*\\ü"
    link.symlink_to("/proc/self/ns/uts")
    plan = nslab.plan(0, ["a\nb\u202e*/ü", "x"], executable="/bin/echo", join=[str(link), os.devnull])
    assert compiled(plan, tmp_path)
    for text in (left_out(plan), plan.c_source()):
        assert "\u202e" not in text
        assert "ü" in text


@UNPRIVILEGED
def test_twin_c_source_keeps_what_a_shell_cannot(tmp_path: Path) -> None:
    script = "cat /proc/self/timens_offsets; tr '\\0' ' ' </proc/$$/cmdline; read -r stat </proc/self/stat; "
    script += "set -- $stat; [ $1 = $5 ] && echo leads its group; ls /proc/self/fd; exit 7"
    flags, options = with_user("time", {"monotonic": 1.5, "boottime": -0.25, "process_group": 0})
    read, write = os.pipe()
    try:
        options |= {"executable": "/bin/sh", "pass_fds": [write]}
        argv = ["a 'name'\n", "-c", script]
        ours = nslab.run(flags, argv, **TEXT, **options)
        theirs = quietly(by_c(nslab.plan(flags, argv, **options), tmp_path), pass_fds=[read, write])
    finally:
        os.close(read)
        os.close(write)
    assert (theirs.returncode, theirs.stdout) == (7, ours.stdout)
    assert "500000000" in ours.stdout
    assert str(write) in ours.stdout.split()


@UNPRIVILEGED
def test_twin_c_source_with_any_bytes(tmp_path: Path) -> None:
    text = b"".join(bytes([byte]) for byte in range(1, 256)) + "??/ */ /* ü \u202e 'x' \\\n%s\t0".encode() + b"\xff1"
    plan = nslab.plan(0, ["printf", "%s", text, b""], env={"PATH": os.environ["PATH"], "LAB": text})
    for twin in (by_shell, by_c):
        done = subprocess.run(twin(plan, tmp_path), stdout=subprocess.PIPE, check=True)
        assert done.stdout == text


@UNPRIVILEGED
@pytest.mark.parametrize(
    ("argv", "status"),
    [(["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], 137), (["/nonexistent"], 127), (["/etc/passwd"], 126)],
)
@TWINS
def test_twins_end_with_the_programs_status(twin: Twin, argv: list[str], status: int, tmp_path: Path) -> None:
    returncode = quietly(twin(nslab.plan(0, argv), tmp_path)).returncode
    assert returncode in (status, 128 - status)


@UNPRIVILEGED
@pytest.mark.parametrize(
    ("flags", "options", "step"),
    [
        ("", {"cwd": "/nonexistent"}, "chdir"),
        ("mnt pid", {"mount_proc": "/nonexistent"}, "mount_proc"),
        ("", {"join": "/proc/self/ns/user"}, "setns"),
        ("user", {"map_current_user": True, "user": 4_000_000}, "setuid"),
    ],
)
def test_twin_c_source_says_which_step_failed(flags: Any, options: dict[str, Any], step: str, tmp_path: Path) -> None:
    flags, options = with_user(flags, options)
    plan = nslab.plan(flags, ["true"], **options)
    with pytest.raises(nslab.SpawnError) as caught:
        plan.spawn()
    done = quietly(by_c(plan, tmp_path))
    assert caught.value.step == step
    assert (done.returncode, done.stdout) == (125, f"{step}: {caught.value.strerror}\n")


@UNPRIVILEGED
@pytest.mark.parametrize("user", [None, 65534] if ROOT else [None])
@TWINS
def test_twins_kill_the_child(twin: Twin, user: int | None, tmp_path: Path) -> None:
    flags, options = with_user("uts", {"kill_child": True, "user": user})
    plan = nslab.plan(flags, ["sh", "-c", "echo $$; exec sleep 600"], **options)
    with subprocess.Popen(twin(plan, tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pidfd = os.pidfd_open(int(process.stdout.readline()))
        try:
            process.kill()
            assert select.select([pidfd], [], [], 60)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
