"""`nslab.dask`: tasks of a cluster run inside namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import called
import pytest
from conftest import with_user

import nslab

pytest.importorskip("distributed")

EXAMPLE = Path(__file__).parent.parent / "examples" / "dask_cluster.py"


def python(*argv: str) -> str:
    """Run it in a process of its own: what Dask keeps for good is none of the other tests' business."""
    done = subprocess.run([sys.executable, *argv], check=False, capture_output=True, text=True)
    # On standard error are Dask's own warnings, too.
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.unprivileged
def test_the_example() -> None:
    lines = python(str(EXAMPLE)).splitlines()
    assert lines == [f"pid 1: simulation {number} on simulated, interfaces ['lo']" for number in range(8)]


@pytest.mark.unprivileged
@pytest.mark.parametrize("test", ["annotated", "by_default", "failures"])
def test_a_cluster_of_two_processes(test: str) -> None:
    # Before that, Dask logs the failures.
    assert python(__file__, test).endswith("ok\n")


def annotated(client: Any) -> None:
    import dask

    isolate(client)
    with dask.annotate(executor="nslab"):
        inside = client.map(called.pid_and, range(20))
        lazy = dask.delayed(called.about)()
    outside = client.map(called.pid_and, range(20, 24))
    assert client.gather(inside) == [(1, number) for number in range(20)]
    assert client.compute(lazy, optimize_graph=False).result()[1] == "lab"
    assert 1 not in {pid for pid, _ in client.gather(outside)}
    # In both of the processes.
    with dask.annotate(executor="nslab"):
        addresses = list(client.scheduler_info()["workers"])
        links = [client.submit(os.readlink, "/proc/self/ns/uts", workers=[where], pure=False) for where in addresses]
    assert len({os.readlink("/proc/self/ns/uts"), *client.gather(links)}) == 3
    # Functions of a notebook, and what one returns goes into the next.
    with dask.annotate(executor="nslab"):
        first = client.submit(lambda: os.uname().nodename)
        assert client.submit(lambda name: name * 2, first).result() == "lablab"


def by_default(client: Any) -> None:
    isolate(client, executor="default")
    assert client.gather(client.map(called.pid_and, range(8))) == [(1, number) for number in range(8)]
    client.unregister_worker_plugin("nslab-default")
    assert 1 not in {pid for pid, _ in client.gather(client.map(called.pid_and, range(10, 18)))}


def failures(client: Any) -> None:
    import dask

    isolate(client)
    with dask.annotate(executor="nslab"):
        error = client.submit(called.fail, "no good").exception()
        died = client.submit(os._exit, 3).exception()
        assert client.submit(called.double, 2).result() == 4
    assert isinstance(error, ValueError)
    assert isinstance(died, nslab.WorkerDied)
    try:
        isolate(client, hostnam="lab")
    except TypeError as reason:
        assert "hostnam" in str(reason)
    else:
        raise AssertionError("it was not refused")


def isolate(client: Any, **options: Any) -> None:
    import nslab.dask

    bits, options = with_user("pid uts", {"hostname": "lab", **options})
    client.register_plugin(nslab.dask.ExecutorPlugin(bits, **options))


def main(test: str) -> None:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        globals()[test](client)
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
