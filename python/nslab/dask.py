"""Tasks of `dask.distributed` inside namespaces, on one machine or many.

>>> import dask, nslab.dask
>>> from distributed import Client
>>> with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
...     client.register_plugin(nslab.dask.ExecutorPlugin("uts pid", hostname="lab"))
...     with dask.annotate(executor="nslab"):
...         client.submit(os.uname).result().nodename
'lab'
"""

from __future__ import annotations

import nslab
from distributed import WorkerPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Any

    from distributed import Worker


class ExecutorPlugin(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """Gives every worker of a cluster, also those that come later, an `nslab.Executor`.

    ``flags`` and the options are those of `nslab.Executor`; there are as many workers in namespaces as a Dask worker has
    threads. Tasks run there if they are annotated with ``executor=name``, and all of them if that is ``"default"``. Each
    machine needs nslab, and the right to make such namespaces: ``nslab doctor``.

    Raises `ValueError` or `TypeError` for what could never work.
    """

    def __init__(self, flags: Any, *, executor: str = "nslab", **options: Any) -> None:
        self.name = f"nslab-{executor}"
        self._executor = executor
        self._flags = flags
        self._options = options
        # Here rather than on each of the machines.
        nslab.Executor(flags, **options).shutdown()

    def setup(self, worker: Worker) -> None:
        """Called by each worker as it starts."""
        options = {"max_workers": worker.state.nthreads, **self._options}
        self._before: Executor | None = worker.executors.get(self._executor)
        worker.executors[self._executor] = nslab.Executor(self._flags, **options)

    def teardown(self, worker: Worker) -> None:
        """Called by each worker as it ends, or as the plugin is taken away."""
        worker.executors.pop(self._executor).shutdown(wait=False, cancel_futures=True)
        if self._before is not None:
            worker.executors[self._executor] = self._before
