"""Where the kernel says no: limits reached, calls that a filter refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import seccomp
from nested import as_nobody, inside, refusal

import nslab

KINDS = ["user", "mnt", "pid", "uts", "ipc", "net", "cgroup", "time"]


def sysctl(kind: str) -> Path:
    return Path(f"/proc/sys/user/max_{kind}_namespaces")


def said(error: nslab.SpawnError) -> str:
    """Return what a traceback shows."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def test_lim_02_the_limit_on_processes() -> None:
    as_nobody(_no_process_left)


def _no_process_left() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    # With kill_child, it is the thread that cannot be made.
    for options in ({}, {"kill_child": True}):
        error = refusal("user", {"map_root_user": True, **options})
        assert (error.step, error.errno) == ("clone", errno.EAGAIN)
        assert isinstance(error, BlockingIOError)
        assert "RLIMIT_NPROC" in said(error)
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    assert nslab.spawn("user", ["true"], map_root_user=True).wait() == 0


@pytest.mark.unprivileged
@pytest.mark.parametrize(("row", "kind"), [(f"{number:02}", kind) for number, kind in enumerate(KINDS, 3)])
def test_lim_03_to_10_no_namespace_of_this_kind(row: str, kind: str) -> None:
    inside("user", _none_of_this_kind, kind, map_root_user=True)


def _none_of_this_kind(kind: str) -> None:
    before = sysctl(kind).read_text()
    sysctl(kind).write_text("0")
    for flags in (kind, "all"):
        error = refusal(flags)
        assert (error.step, error.errno) == ("clone", errno.ENOSPC)
        assert f"user.max_{kind}_namespaces is 0" in said(error)
    sysctl(kind).write_text(before)
    assert nslab.spawn(kind, ["true"]).wait() == 0


@pytest.mark.unprivileged
def test_lim_03_to_10_in_an_ancestor() -> None:
    inside("user", _none_below, map_root_user=True)


def _none_below() -> None:
    sysctl("uts").write_text("0")
    inside("user", _limited_above, map_root_user=True)


def _limited_above() -> None:
    assert int(sysctl("uts").read_text()) > 0
    error = refusal("uts")
    assert (error.step, error.errno) == ("clone", errno.ENOSPC)
    assert "user.max_uts_namespaces" in said(error)
    assert "ancestor" in said(error)


@pytest.mark.unprivileged
def test_lim_03_to_10_one_namespace_at_a_time() -> None:
    inside("user", _one_at_a_time, map_root_user=True)


def _one_at_a_time() -> None:
    sysctl("uts").write_text("1")
    with nslab.spawn("uts", ["cat"], stdin=nslab.PIPE):
        with pytest.raises(nslab.SpawnError) as caught:
            nslab.spawn("uts", ["true"])
        assert caught.value.errno == errno.ENOSPC
        assert "user.max_uts_namespaces" in said(caught.value)
    assert nslab.spawn("uts", ["true"]).wait() == 0


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("", {}),
    "uts": ("uts", {"hostname": "lab"}),
    "pipes": ("uts", {"stdin": nslab.PIPE, "stdout": nslab.PIPE, "stderr": nslab.PIPE}),
    "devnull": ("", {"stdin": nslab.DEVNULL, "stdout": nslab.DEVNULL}),
    "map": ("user", {"map_root_user": True}),
    "maps": ("user", {"map_users": [(0, 0, 10)], "map_groups": [(0, 0, 10)]}),
    "network": ("net", {"loopback": True}),
    "kill_child": ("", {"kill_child": True}),
    "join": ("uts", {"join": "/proc/self/ns/ipc"}),
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_the_limit_on_descriptors(request_name: str) -> None:
    inside(0, _few_descriptors, request_name)


def _few_descriptors(name: str) -> None:
    flags, options = REQUESTS[name]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    filled = []
    with contextlib.suppress(OSError):
        while True:
            filled.append(os.dup(0))
    refusals = 0
    while True:
        try:
            process = nslab.spawn(flags, ["true"], **options)
        except nslab.SpawnError as error:
            assert (error.step, error.errno) == ("clone", errno.EMFILE), error
        else:
            break
        refusals += 1
        os.close(filled.pop())
    process.communicate()
    assert process.wait() == 0
    assert refusals >= 1


def test_lim_12_no_memory_for_the_stack() -> None:
    inside(0, _no_memory)


def _no_memory() -> None:
    # Loads all that an error needs, and keeps no stack.
    with pytest.raises(FileNotFoundError):
        nslab.spawn("uts", ["/nonexistent"])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 65536, hard))
    with pytest.raises((MemoryError, nslab.SpawnError)) as caught:
        nslab.spawn("uts", ["true"])
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    if isinstance(caught.value, nslab.SpawnError):
        assert (caught.value.step, caught.value.errno) == ("mmap", errno.ENOMEM)
        assert "RLIMIT_AS" in said(caught.value)
    assert nslab.spawn("uts", ["true"]).wait() == 0


# The mask of Docker's default profile for clone(2): every CLONE_NEW* bit but the one of the time namespace.
DOCKER = 0x7E020000


@pytest.mark.parametrize("clone3", [errno.ENOSYS, errno.EPERM])
def test_lim_15_a_container_that_allows_no_namespace(clone3: int) -> None:
    inside(0, _as_in_docker, clone3)


def _as_in_docker(clone3: int) -> None:
    seccomp.refuse("clone3", clone3)
    seccomp.refuse("clone", errno.EPERM, bits=(0, DOCKER))
    seccomp.refuse("unshare", errno.EPERM)
    for kind in [*KINDS, "all"]:
        error = refusal(kind)
        # The time namespace has no flag in clone(2).
        assert error.step in (("clone", "unshare") if kind == "time" else ("clone",)), kind
        assert error.errno == errno.EPERM
        assert isinstance(error, PermissionError)
        assert "seccomp" in said(error), said(error)
    if clone3 == errno.ENOSYS:
        assert nslab.spawn(0, ["true"], kill_child=True).wait() == 0


def test_lim_15_neither_clone3_nor_clone() -> None:
    inside(0, _no_clone)


def _no_clone() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    seccomp.refuse("clone", errno.ENOSYS)
    error = refusal("uts")
    assert (error.step, error.errno) == ("clone", errno.ENOSYS)
    assert "clone3" in said(error)


# What is refused (call, argument that tells it from others), the step that says so, a request that takes that step.
STEPS: list[tuple[str, tuple[int, int] | None, str, str, dict[str, Any]]] = [
    ("clone3", None, "clone", "uts", {}),
    ("setns", None, "setns", "", {"join": "/proc/self/ns/uts"}),
    ("setns", None, "setns", "uts", {"join": "/proc/self/ns/uts"}),
    ("mount", None, "propagation", "mnt", {}),
    ("mount", (3, 2 | 4 | 8), "mount_proc", "mnt pid", {"mount_proc": True}),
    ("ioctl", (1, 0x8914), "loopback", "net", {"loopback": True}),
    ("sethostname", None, "sethostname", "uts", {"hostname": "lab"}),
    ("setdomainname", None, "setdomainname", "uts", {"domainname": "lab"}),
    ("dup3", None, "stdio", "uts", {"stdout": nslab.DEVNULL}),
    ("chdir", None, "chdir", "uts", {"cwd": "/"}),
    ("setsid", None, "setsid", "uts", {"start_new_session": True}),
    ("setpgid", None, "setpgid", "uts", {"process_group": 0}),
    ("setgroups", None, "extra_groups", "uts", {"extra_groups": [1]}),
    ("setregid", None, "setgid", "uts", {"group": 1}),
    ("setreuid", None, "setuid", "uts", {"user": 1}),
    ("prctl", (0, 1), "pdeathsig", "uts", {"kill_child": True}),
    ("execve", None, "execve", "uts", {}),
    ("execve", None, "execve", "user", {"map_users": [(0, 0, 9)]}),
]


@pytest.mark.parametrize(("call", "equal", "step", "flags", "options"), STEPS)
def test_lim_16_a_refused_call_is_reported_with_its_step(
    call: str, equal: tuple[int, int] | None, step: str, flags: str, options: dict[str, Any]
) -> None:
    inside(0, _refused_call, call, equal, step, flags, options)


def _refused_call(call: str, equal: tuple[int, int] | None, step: str, flags: str, options: dict[str, Any]) -> None:
    # An errno that none of these calls has of itself.
    seccomp.refuse(call, errno.EXFULL, equal=equal)
    with pytest.raises(nslab.SpawnError):
        # The first kill_child starts a thread, which `refusal` would take for a leak.
        nslab.spawn(flags, ["true"], **options)
    error = refusal(flags, options)
    assert (error.step, error.errno) == (step, errno.EXFULL)
