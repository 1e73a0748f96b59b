"""Where a container's filter answers ENOSYS to clone3(2): the same namespaces and the same set-up by clone(2)."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

import pytest
import seccomp
import test_flags
from conftest import ROOT, ignored_here, with_user
from nested import inside, refusal

import nslab

# What Python ignores and restores for its children.
PYTHONS = {signal.SIGPIPE, signal.SIGXFSZ}

# All that a program can see of its set-up, but for what is new each time (inodes, pids outside).
LOOK = r"""
id -u; id -g; id -G; uname -n; pwd; umask; test $$ = 1 && echo first
cd /proc/self
cat uid_map gid_map setgroups timens_offsets ../sys/kernel/domainname
cut -d : -f 1 net/dev; grep -c 127.0.0.1 net/fib_trie
grep -E '^(Sig[^Q]|Cap|Threads|NoNewPrivs)' /proc/self/status
test $(cut -d ' ' -f 1 stat) = $(cut -d ' ' -f 6 stat) && echo leads its session
cut -d ' ' -f 4- mountinfo | sed 's/\(shared\|master\):[0-9]*/\1/'
ls fd; cat
"""

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("", {}),
    "uts": ("uts", {"hostname": "lab", "domainname": "nis"}),
    "map_root_user": ("user", {"map_root_user": True}),
    "map_current_user": ("user uts", {"map_current_user": True, "hostname": "lab"}),
    "maps": ("user", {"map_users": [(0, 0, 10), (20, 1000, 1)], "map_groups": [(0, 0, 10)], "setgroups": "allow"}),
    "all ids": ("user", {"map_users": "all", "map_groups": "all", "setgroups": "deny"}),
    "propagation": ("mnt", {"propagation": "slave"}),
    "no propagation": ("mnt", {"propagation": "unchanged"}),
    "mount_proc": ("mnt pid", {"mount_proc": True}),
    "loopback": ("net", {"loopback": True}),
    "time": ("time", {"monotonic": 1000, "boottime": 2000.5}),
    "time with maps": ("time user", {"monotonic": 5, "map_users": [(0, 0, 3)], "map_groups": [(0, 0, 3)]}),
    "join": ("", {"join": "/proc/self/ns/uts"}),
    "join and new": ("ipc time", {"join": ["/proc/self/ns/uts", "/proc/self/ns/net"], "boottime": 10}),
    "kill_child": ("pid uts", {"kill_child": True}),
    "subprocess": ("uts", {"cwd": "/tmp", "umask": 0o27, "env": {"PATH": os.defpath}, "restore_signals": False}),
    "session": ("uts", {"start_new_session": True, "extra_groups": [1, 2], "group": 1, "user": 1}),
    "everything": (
        "all",
        {"map_root_user": True, "hostname": "x", "mount_proc": True, "loopback": True, "monotonic": 9, "kill_child": 9},
    ),
}


def seen(name: str) -> tuple[list[str], str, int]:
    """Return what the program and its status say, and check that it was cloned as it should be."""
    flags, options = REQUESTS[name]
    process = nslab.spawn(
        flags, ["/bin/sh", "-c", LOOK], stdin=nslab.PIPE, stdout=nslab.PIPE, stderr=nslab.PIPE, text=True, **options
    )
    output, errors = process.communicate("input")
    return output.splitlines(), errors, process.wait()


def _by_clone(name: str) -> tuple[list[str], str, int]:
    seccomp.refuse("clone3", errno.ENOSYS)
    return seen(name)


@pytest.mark.skipif(not ROOT, reason="only root may ask for all of these")
@pytest.mark.parametrize("name", REQUESTS)
def test_the_program_sees_the_same(name: str) -> None:
    by_clone = inside(0, _by_clone, name)
    assert by_clone == inside(0, seen, name)
    assert "input" in by_clone[0]


@pytest.mark.skipif(not ROOT, reason="only root may make them without the user namespace")
@pytest.mark.parametrize("with_user", [False, True])
def test_each_namespace_is_new_if_and_only_if_its_flag_is_set(with_user: bool) -> None:
    inside(0, _every_set, with_user)


def _every_set(with_user: bool) -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    test_flags.test_flg_03_each_namespace_is_new_if_and_only_if_its_flag_is_set(with_user)


@pytest.mark.unprivileged
def test_it_is_clone_indeed_and_handlers_are_reset_by_a_step() -> None:
    inside(0, _handlers)


def _handlers() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMAX):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    flags, options = with_user("uts time", {})
    with nslab.spawn(flags, ["cat", "/proc/self/status"], stdout=nslab.PIPE, text=True, **options) as process:
        status = dict(line.split(":\t", 1) for line in process.communicate()[0].splitlines())
    assert int(status["SigCgt"], 16) == 0
    assert int(status["SigIgn"], 16) == sum(1 << number - 1 for number in ignored_here() - PYTHONS)
    assert {"clear_sighand", "unshare"} <= {step.name for step in process.timeline}
    assert [step.name for step in process.timeline] == [step.name for step in process.plan.steps]


@pytest.mark.unprivileged
def test_failures_are_the_same() -> None:
    inside(0, _failures)


def _failures() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    flags, options = with_user("uts time", {})
    for argv, more, expected in (
        (["/nonexistent"], {}, ("execve", errno.ENOENT)),
        (["true"], {"cwd": "/nonexistent"}, ("chdir", errno.ENOENT)),
    ):
        error = refusal(flags, {**options, **more}, tuple(argv))
        assert (error.step, error.errno) == expected


@pytest.mark.unprivileged
def test_status_and_signals_are_the_same() -> None:
    inside(0, _statuses)


def _statuses() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    flags, options = with_user("uts pid", {})
    assert nslab.spawn(flags, ["sh", "-c", "exit 3"], **options).wait() == 3
    with nslab.spawn(flags, ["cat"], stdin=nslab.PIPE, **options) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
