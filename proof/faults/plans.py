"""The plans into whose system calls the faults go: each namespace alone, all at once, and every way to make them."""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nslab

SLEEP = ["/bin/sleep", "60"]
MISSING = ["/nonexistent"]
# Ids of a user without privileges, and of those who are nobody's.
NOBODY, SUBORDINATE = 65534, 100_000
PR_SET_DUMPABLE = 4
# A descriptor that programs get.
PASSED = 1000
CLONE3 = 435
# Where files may be made; KEPT is for namespaces.
PLACE = "/mnt"
KEPT = f"{PLACE}/kept"


class Scene:
    """What is there before: the hosts that plans join."""

    def __init__(self) -> None:
        self.beside = nslab.Host("uts net ipc", hostname="other", loopback=True)
        self.all = nslab.Host("user mnt pid uts net", map_root_user=True, hostname="other", mount_proc=True)
        self.time = nslab.Host("time", monotonic=1000)
        self.hosts = (self.beside, self.all, self.time)

    def file(self, host: nslab.Host, kind: str) -> str:
        return f"/proc/{host.pid}/ns/{kind}"

    def close(self) -> None:
        for host in self.hosts:
            host.close()


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is called, who takes part, and what stays by design."""

    name: str
    make: Callable[[Scene], Any]
    #: Who is made, in the order of birth.
    processes: tuple[str, ...] = ("child",)
    #: Whether a thread of the library stays for later calls.
    keeper: bool = False
    #: Called in the process of the cell before.
    before: Callable[[], None] | None = None
    #: Numbers of calls that always answer ENOSYS.
    without: tuple[int, ...] = ()
    #: Step and errno of what fails by itself.
    fails: tuple[str, str] | None = None
    #: Whether it makes a `Host`.
    is_host: bool = False


def spawning(flags: str, argv: list[str] = SLEEP, **options: Any) -> Callable[[Scene], Any]:
    return lambda _: nslab.spawn(flags, argv, env={}, **options)


def joining(flags: str, join: Callable[[Scene], Any], **options: Any) -> Callable[[Scene], Any]:
    return lambda scene: nslab.spawn(flags, SLEEP, env={}, join=join(scene), **options)


def hosting(flags: str, **options: Any) -> Callable[[Scene], Any]:
    return lambda _: nslab.Host(flags, **options)


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # As after the execve of a login.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def time_and_uts(scene: Scene) -> list[str]:
    return [scene.file(scene.time, "time"), scene.file(scene.beside, "uts")]


PROCESS: dict[str, Any] = {
    "stdin": nslab.PIPE,
    "stdout": nslab.PIPE,
    "stderr": nslab.DEVNULL,
    "cwd": PLACE,
    "user": 1,
    "group": 1,
    "extra_groups": [2],
    "umask": 0o27,
    "start_new_session": True,
    "pass_fds": [PASSED],
}
ALL: dict[str, Any] = {
    "hostname": "lab",
    "domainname": "org",
    "map_root_user": True,
    "propagation": "slave",
    "mount_proc": True,
    "loopback": True,
    "monotonic": 1000,
    "boottime": 2000,
}
MANY = [(0, 0, 1), (1, SUBORDINATE, 10)]
MANY_OF_NOBODY = [(0, NOBODY, 1), (1, SUBORDINATE, 10)]

PLANS = (
    Plan("plain", spawning("")),
    Plan("process options", spawning("", **PROCESS)),
    Plan("uts", spawning("uts", hostname="lab", domainname="org")),
    Plan("ipc", spawning("ipc")),
    Plan("mnt", spawning("mnt", propagation="slave")),
    Plan("pid, mount_proc", spawning("pid mnt", mount_proc=True)),
    Plan("net", spawning("net", loopback=True)),
    Plan("user", spawning("user", map_root_user=True)),
    Plan("cgroup", spawning("cgroup")),
    Plan("time", spawning("time", monotonic=1000, boottime=2000)),
    Plan("all", spawning("all", **ALL, **{**PROCESS, "user": None, "group": None, "extra_groups": None})),
    Plan("all, without clone3", spawning("all", **ALL), without=(CLONE3,)),
    Plan(
        "ids from outside",
        spawning("user uts", map_users=MANY, map_groups=MANY, setgroups="allow"),
        ("intermediate", "child"),
    ),
    Plan(
        "ids by newuidmap",
        spawning("user uts", map_users=MANY_OF_NOBODY, map_groups=MANY_OF_NOBODY),
        ("intermediate", "child", "newuidmap", "newgidmap"),
        before=become_nobody,
    ),
    Plan("join beside", joining("cgroup", lambda scene: [scene.file(scene.beside, kind) for kind in ("uts", "net")])),
    Plan("join before new", joining("uts ipc", lambda scene: scene.all, hostname="lab"), ("intermediate", "child")),
    Plan("join time", joining("", time_and_uts)),
    Plan(
        "join time before new",
        joining("time uts", time_and_uts, monotonic=1000),
        ("intermediate", "child"),
    ),
    Plan("join time, init", joining("pid", time_and_uts, init=True), ("init", "child")),
    Plan("kill_child", spawning("uts", kill_child=True), keeper=True),
    Plan("init", spawning("pid mnt", init=True, mount_proc=True), ("init", "child")),
    Plan(
        "init, ids from outside, kill_child",
        spawning("user pid mnt", init=True, mount_proc=True, map_users=MANY, map_groups=MANY, kill_child=True),
        ("intermediate", "init", "child"),
        keeper=True,
    ),
    Plan("Host", hosting("pid uts net", name="web", hostname="web", loopback=True), is_host=True),
    Plan("Host, persist", hosting("uts", persist=KEPT), is_host=True),
    Plan("missing program", spawning("uts", MISSING, stdout=nslab.PIPE), fails=("execve", "ENOENT")),
    Plan(
        "missing program, ids from outside",
        spawning("user", MISSING, map_users=MANY),
        ("intermediate", "child"),
        fails=("execve", "ENOENT"),
    ),
    Plan("missing program, init", spawning("pid", MISSING, init=True), ("init", "child"), fails=("execve", "ENOENT")),
    Plan("missing program in PATH", spawning("", ["no-such-program"]), fails=("execve", "ENOENT")),
    Plan(
        "missing program, join time",
        lambda scene: nslab.spawn("", MISSING, env={}, join=scene.file(scene.time, "time")),
        fails=("execve", "ENOENT"),
    ),
    Plan(
        "missing program, join time, init",
        lambda scene: nslab.spawn("pid", MISSING, env={}, join=scene.file(scene.time, "time"), init=True),
        ("init", "child"),
        fails=("execve", "ENOENT"),
    ),
)


def prepare_host() -> None:
    """Make this host fit for the plans: its own places for files, and subordinate ids for nobody."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: str | None, flags: int) -> None:
        if libc.mount(source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), None):
            raise OSError(ctypes.get_errno(), f"mount {target}: {os.strerror(ctypes.get_errno())}")

    bind = 4096
    for place in (PLACE, "/dev/shm"):
        mount("none", place, "tmpfs", 0)
    for name in ("subuid", "subgid"):
        file = Path(PLACE, name)
        file.write_text(f"nobody:{SUBORDINATE}:65536\n")
        mount(str(file), f"/etc/{name}", None, bind)
