"""Whose network namespace `nslab.network` looks at, from where, and where it cannot."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from typing import Any

import pytest
import seccomp
from conftest import ROOT, inode, spawn
from nested import as_nobody, inside
from networks import ROUTES, check_links, host

import nslab


@pytest.mark.unprivileged
def test_a_pid_an_object_a_namespace_or_nobody() -> None:
    with host("ip link set lo up") as process:
        found = nslab.network(process)
        assert nslab.network(process.pid) == nslab.network(process.namespaces["net"]) == found
    own = nslab.network()
    assert own.namespace.inode == inode("net")
    assert [(link.index, link.name) for link in own.links] == socket.if_nameindex()
    assert nslab.network(os.getpid()).namespace == own.namespace


@pytest.mark.unprivileged
def test_to_dict_is_json() -> None:
    with host(ROUTES) as process:
        found = json.loads(json.dumps(nslab.network(process).to_dict()))
    assert found["links"][0]["name"] == "lo"
    assert found["links"][0]["addresses"][0]["local"] == "127.0.0.1"
    assert any(route["nexthops"] for route in found["routes"])


@pytest.mark.unprivileged
def test_from_a_thread_while_others_do_the_same() -> None:
    with host("ip link set lo up") as process:
        expected = nslab.network(process)
        results: list[object] = []

        def work() -> None:
            before = {kind: os.readlink(f"/proc/thread-self/ns/{kind}") for kind in os.listdir("/proc/thread-self/ns")}
            for _ in range(50):
                results.append(nslab.network(process))  # noqa: PERF401
            after = {kind: os.readlink(f"/proc/thread-self/ns/{kind}") for kind in os.listdir("/proc/thread-self/ns")}
            results.append(expected if before == after else "moved")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [expected] * (8 * 51)


@pytest.mark.unprivileged
def test_where_clone3_is_refused() -> None:
    inside("", _without_clone3)


def _without_clone3() -> None:
    seccomp.refuse("clone3", errno.ENOSYS)
    with host("ip link add left0 type veth peer name right0") as process:
        check_links(process)


def setns_refused() -> PermissionError:
    with host() as process:
        seccomp.refuse("setns", errno.EPERM)
        with pytest.raises(PermissionError) as caught:
            nslab.network(process)
        return caught.value


@pytest.mark.unprivileged
def test_what_may_not_be_entered_is_a_permission_error() -> None:
    error = inside("", setns_refused)
    assert error.errno == errno.EPERM
    assert "net:[" in str(error)
    assert "CAP_SYS_ADMIN in the user namespace that owns it" in str(error)


def setns_kills() -> int | None:
    with host() as process:
        seccomp.kill("setns")
        with pytest.raises(OSError, match="ancel") as caught:
            nslab.network(process)
        return caught.value.errno


def test_a_child_that_is_killed_on_its_way() -> None:
    assert inside("", setns_kills) == errno.ECANCELED


def refusal(target: Any) -> str:
    with pytest.raises(PermissionError) as caught:
        nslab.network(target)
    assert caught.value.errno == errno.EPERM
    return str(caught.value)


@pytest.mark.skipif(not ROOT, reason="needs a process of root")
def test_another_users_process() -> None:
    with host() as process:
        assert f"process {process.pid} may not be inspected: it belongs to another user (uid 0)" in as_nobody(
            refusal, process.pid
        )


@pytest.mark.skipif(not ROOT, reason="the pids of kernel threads are not known inside of a pid namespace")
def test_a_kernel_thread() -> None:
    if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":
        pytest.skip("kernel threads are in the initial pid namespace only")
    assert "process 2 may not be inspected: it is a kernel thread" in as_nobody(refusal, 2)
    # Root may: it is in the initial namespace.
    assert nslab.network(2).namespace.type == "net"


@pytest.mark.unprivileged
def test_who_is_gone() -> None:
    with host() as process:
        namespace = process.namespaces["net"]
    for target in (process, process.pid):
        with pytest.raises(ProcessLookupError, match=str(process.pid)):
            nslab.network(target)
    with pytest.raises(ProcessLookupError, match=r"in net:\["):
        nslab.network(namespace)


@pytest.mark.unprivileged
def test_a_zombie_has_ended() -> None:
    with spawn("net", ["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError, match="has ended"):
            nslab.network(process.pid)


@pytest.mark.unprivileged
@pytest.mark.parametrize(("target", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_what_is_no_target(target: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        nslab.network(target)


@pytest.mark.unprivileged
def test_a_namespace_of_another_type() -> None:
    with pytest.raises(ValueError, match=r"uts:\[\d+\] is not a namespace of type net"):
        nslab.network(nslab.namespaces(os.getpid())["uts"])
