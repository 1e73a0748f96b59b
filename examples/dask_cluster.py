"""Simulations that would get in each other's way, on a cluster: each has a network and a host name of its own.

Here the cluster is two processes of this machine. On a real one, only the line that makes it is another:

    cluster = dask.distributed.SSHCluster(["scheduler", "first", "second"])      # asyncssh
    cluster = dask_jobqueue.SLURMCluster(cores=8, memory="16 GiB")               # Slurm, PBS, LSF, …
    cluster = dask_kubernetes.operator.KubeCluster(image="…")                    # pods that may make user namespaces
    client = dask.distributed.Client("tcp://scheduler:8786")                     # one that is there already

Each machine needs nslab installed, and the right to make the namespaces, which `nslab doctor user net uts` tells; the
plugin reaches workers that join later too. A worker that dies fails its task, and Dask's `retries=` gives it to
another one. Run it with: python examples/dask_cluster.py
"""

import os
import socket

import dask
from dask.distributed import Client, LocalCluster

import nslab.dask


def simulate(number: int) -> tuple[int, str, list[str]]:
    """Serve on a port that only one process of a network can have, and ask it."""
    with socket.create_server(("127.0.0.1", 80)) as server:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(f"simulation {number}".encode())
        connection, _ = server.accept()
        with connection:
            text = connection.recv(100).decode()
    return os.getpid(), f"{text} on {os.uname().nodename}", [name for _, name in socket.if_nameindex()]


def main() -> None:
    """Run a few of them, some at the same time."""
    isolation = nslab.dask.ExecutorPlugin(
        "user net uts pid", map_root_user=True, loopback=True, hostname="simulated", max_workers=2
    )
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster, Client(cluster) as client:
        client.register_plugin(isolation)
        with dask.annotate(executor="nslab"):
            futures = client.map(simulate, range(8), retries=2)
        for pid, text, interfaces in client.gather(futures):
            print(f"pid {pid}: {text}, interfaces {interfaces}")


if __name__ == "__main__":
    main()
