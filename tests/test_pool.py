"""`Pool`: fresh namespaces in stock, never used twice."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, assert_unchanged, snapshot, with_user
from nested import fork, inside

import nslab


def pool(flags: Any, **options: Any) -> nslab.Pool:
    """`nslab.Pool`, for an ordinary user with the user namespace."""
    own = {name: options.pop(name) for name in ("size",) if name in options}
    bits, options = with_user(flags, options)
    return nslab.Pool(bits, **own, **options)


def until_ready(stock: nslab.Pool, count: int) -> None:
    while stock.ready < count:
        time.sleep(0.001)


@pytest.mark.unprivileged
def test_every_program_has_namespaces_of_its_own() -> None:
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"]
    with pool(kinds, size=3) as stock:
        # Alive together, so that no number is used again.
        processes = [stock.spawn(["sleep", "600"]) for _ in range(10)]
        for kind in kinds:
            found = {process.namespaces[kind] for process in processes}
            assert len(found) == 10
            assert nslab.namespaces(os.getpid())[kind] not in found
        assert len({process.namespaces["user"] for process in processes}) == (1 if ROOT else 10)
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.unprivileged
def test_nothing_of_the_last_one_is_found() -> None:
    look = "ip link show dummy0 2>/dev/null; ipcs -q | grep ^0x; uname -n"
    use = "hostname used; ipcmk -Q >/dev/null; ip link add dummy0 type dummy 2>/dev/null"
    script = f"{look}; {use}; true"
    with pool("net ipc uts", size=1, hostname="new") as stock:
        for _ in range(5):
            assert stock.run(["sh", "-c", script], capture_output=True, text=True).stdout == "new\n"


@pytest.mark.unprivileged
def test_the_options_of_the_namespaces() -> None:
    options: dict[str, Any] = {"hostname": "lab", "loopback": True, "mount_proc": True, "monotonic": 100}
    script = """
    echo $(uname -n) $$ $(id -u) $(ip -o link show lo | grep -c LOOPBACK,UP)
    sed -n s/monotonic//p /proc/self/timens_offsets
    """
    with nslab.Pool("all", size=1, map_root_user=True, **options) as stock:
        found = stock.run(["sh", "-c", script], capture_output=True, text=True).stdout
    assert found.split() == ["lab", "1", "0", "1", "100", "0"]


@pytest.mark.unprivileged
def test_the_options_of_a_program() -> None:
    with pool("net", size=1) as stock:
        process = stock.spawn(["sh", "-c", "cat; pwd; exit 3"], stdin=nslab.PIPE, stdout=nslab.PIPE, text=True, cwd="/")
        assert process.communicate("in ")[0] == "in /\n"
        assert process.returncode == 3
        assert type(process) is nslab.Process
        with pytest.raises(FileNotFoundError):
            stock.spawn(["no-such-program"])
        with pytest.raises(TypeError, match="hostname belongs to the namespaces"):
            stock.spawn(["true"], hostname="x")


@pytest.mark.unprivileged
def test_the_directory_is_the_callers(tmp_path: Path) -> None:
    # A mount namespace that was entered would begin in its root.
    with pool("net mnt pid", size=1) as stock:
        assert stock.run(["pwd"], capture_output=True, text=True).stdout == os.getcwd() + "\n"


@pytest.mark.unprivileged
def test_it_fills_up_again() -> None:
    with pool("net", size=3) as stock:
        until_ready(stock, 3)
        for _ in range(3):
            assert stock.run(["true"]).returncode == 0
        until_ready(stock, 3)
        assert "3 ready" in repr(stock)
    assert "closed" in repr(stock)


@pytest.mark.unprivileged
def test_from_many_threads() -> None:
    with pool("net ipc", size=2) as stock:
        seen: list[nslab.NamespaceId] = []
        gate = threading.Barrier(6)

        def work() -> None:
            processes = [stock.spawn(["sleep", "600"]) for _ in range(4)]
            seen.extend(process.namespaces["net"] for process in processes)
            gate.wait()
            for process in processes:
                process.kill()
                process.wait()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(seen)) == 24


@pytest.mark.unprivileged
def test_closing_leaves_nothing_but_the_programs() -> None:
    before = snapshot()
    stock = pool("net", size=4)
    process = stock.spawn(["sleep", "600"])
    stock.close()
    stock.close()
    assert stock.ready == 0
    assert process.poll() is None
    for _ in range(2):
        with pytest.raises(ValueError, match="the pool is closed"):
            stock.spawn(["true"])
    process.kill()
    process.wait()
    del process
    assert_unchanged(before)


@pytest.mark.unprivileged
def test_one_that_nobody_has_any_more_closes_itself() -> None:
    threads = threading.active_count()
    stock = pool("net", size=2)
    assert threading.active_count() == threads + 1
    del stock
    gc.collect()
    assert threading.active_count() == threads


@pytest.mark.unprivileged
def test_a_fork_is_told() -> None:
    with pool("net", size=1) as stock:
        until_ready(stock, 1)
        child = fork()
        if child == 0:
            try:
                # What is in stock can be taken; nobody makes more.
                assert stock.run(["true"]).returncode == 0
                stock.run(["true"])
            except RuntimeError:
                os._exit(3)
            os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert stock.run(["true"]).returncode == 0


@pytest.mark.parametrize(
    ("flags", "options", "error", "words"),
    [
        ("uts pid", {}, ValueError, "a pool keeps net, ipc and user"),
        ("", {}, ValueError, "a pool keeps"),
        ("net", {"size": 0}, ValueError, "size must be at least 1"),
        ("net", {"cwd": "/"}, TypeError, "cwd is no option of a pool"),
        ("net", {"join": "/proc/self/ns/net"}, TypeError, "join is no option of a pool"),
        ("net", {"hostname": "x"}, ValueError, "hostname needs the uts namespace"),
        ("net user", {"map_users": "some"}, ValueError, "map_users"),
    ],
)
def test_what_could_never_work(flags: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    before = snapshot()
    with pytest.raises(error, match=words):
        nslab.Pool(flags, **options)
    assert_unchanged(before)


def at_the_limit() -> tuple[int, list[str]]:
    """A pool where only three network namespaces may exist, dead ones included."""
    Path("/proc/sys/user/max_net_namespaces").write_text("3")
    with nslab.Pool("net", size=2) as stock:
        statuses = sum(stock.run(["true"]).returncode for _ in range(6))
    return statuses, []


def test_it_waits_for_the_kernel_to_clean_up() -> None:
    assert inside("user", at_the_limit, map_root_user=True) == (0, [])


def beyond_the_limit() -> tuple[str, int | None]:
    from nslab import _pool

    _pool._PATIENCE = 0.05
    Path("/proc/sys/user/max_net_namespaces").write_text("1")
    with nslab.Pool("net", size=2) as stock, stock.spawn(["cat"], stdin=nslab.PIPE):
        try:
            stock.spawn(["true"])
        except nslab.SpawnError as error:
            return error.step, error.errno
    return "", 0


def test_it_says_so_when_there_are_no_more() -> None:
    assert inside("user", beyond_the_limit, map_root_user=True) == ("clone", errno.ENOSPC)


@pytest.mark.unprivileged
def test_a_refusal_comes_from_the_first() -> None:
    if ROOT:
        pytest.skip("root may")
    before = snapshot()
    with pytest.raises(PermissionError):
        nslab.Pool("net")
    assert_unchanged(before)


@pytest.mark.unprivileged
def test_one_that_is_left_to_the_end_of_python() -> None:
    flags, options = with_user("net", {})
    script = f"import nslab; pool = nslab.Pool({flags}, **{options}); print(pool.run(['true']).returncode)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
