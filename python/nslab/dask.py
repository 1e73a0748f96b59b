"""Tasks of `dask.distributed` inside namespaces, on one machine or many; ``examples/dask_cluster.py`` shows it."""

from __future__ import annotations

from distributed import WorkerPlugin

import nslab

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Any

    from distributed import Worker


class ExecutorPlugin(WorkerPlugin):  # type: ignore[misc] # distributed has few types
    """Gives every worker of a cluster, also those that come later, an `nslab.Executor`.

        client.register_plugin(nslab.dask.ExecutorPlugin("user net", map_root_user=True, loopback=True))
        with dask.annotate(executor="nslab"):
            futures = client.map(simulate, range(100))

    ``flags`` and the options are those of `nslab.Executor`; there are as many workers in namespaces as a Dask worker
    has threads. Tasks run there if they are annotated with ``executor``, and all of them if that is ``"default"``. Each
    machine needs nslab, and the right to make such namespaces: ``nslab doctor``.

    Raises `ValueError` or `TypeError` for what could never work.
    """

    def __init__(self, flags: Any, *, executor: str = "nslab", **options: Any) -> None:
        self.name = f"nslab-{executor}"
        self._executor = executor
        self._flags = flags
        self._options = options
        self._before: dict[str, Executor] = {}
        # Here rather than on each of the machines.
        nslab.Executor(flags, **options).shutdown()

    def setup(self, worker: Worker) -> None:
        """Give it to a worker that starts."""
        executors, options = worker.executors, {"max_workers": worker.state.nthreads, **self._options}
        if self._executor in executors:
            self._before[worker.id] = executors[self._executor]
        executors[self._executor] = nslab.Executor(self._flags, **options)

    def teardown(self, worker: Worker) -> None:
        """Take it from a worker that ends, or that the plugin is taken from."""
        worker.executors.pop(self._executor).shutdown(wait=False, cancel_futures=True)
        if worker.id in self._before:
            worker.executors[self._executor] = self._before.pop(worker.id)
