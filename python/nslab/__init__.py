r"""Linux namespaces as `subprocess` has processes: clone a child into any mix of them, execute a program, wait for it.

>>> nslab.run("uts pid", ["sh", "-c", "echo $$ $(uname -n)"], hostname="lab", capture_output=True, text=True).stdout
'1 lab\n'
"""

from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
)

from ._errors import SpawnError
from ._namespace import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    Namespace,
)
from ._process import Process
from ._spawn import plan, run, spawn

Popen = Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import check, pictures
    from ._aio import AsyncProcess, arun, aspawn
    from ._call import call
    from ._died import WorkerDied
    from ._display.options import options
    from ._executor import Executor
    from ._host import Host
    from ._hosts import HostInfo, hosts
    from ._inspect.cgroup import cgroup
    from ._inspect.clocks import clocks
    from ._inspect.compare import compare
    from ._inspect.ids import NamespaceId, namespaces
    from ._inspect.ipc import ipc
    from ._inspect.lsns import lsns
    from ._inspect.mounts import mounts
    from ._inspect.network import network
    from ._inspect.processes import processes
    from ._inspect.snapshot import snapshot
    from ._inspect.users import capabilities, id_maps
    from ._persist import persist, unpersist
    from ._plan import Plan, Step, StepTime
    from ._pool import Pool
    from ._probe import Probe, probe
    from ._shell import Shell, ShellEndedError, shell
else:
    # Imported when first used: dataclasses and typing would more than double the time of `import nslab`.
    _LAZY = {
        "options": "_display.options",
        "Host": "_host",
        "HostInfo": "_hosts",
        "hosts": "_hosts",
        "cgroup": "_inspect.cgroup",
        "clocks": "_inspect.clocks",
        "compare": "_inspect.compare",
        "AsyncProcess": "_aio",
        "arun": "_aio",
        "aspawn": "_aio",
        "call": "_call",
        "Executor": "_executor",
        "WorkerDied": "_died",
        "NamespaceId": "_inspect.ids",
        "namespaces": "_inspect.ids",
        "ipc": "_inspect.ipc",
        "lsns": "_inspect.lsns",
        "mounts": "_inspect.mounts",
        "network": "_inspect.network",
        "processes": "_inspect.processes",
        "snapshot": "_inspect.snapshot",
        "capabilities": "_inspect.users",
        "id_maps": "_inspect.users",
        "persist": "_persist",
        "unpersist": "_persist",
        "Plan": "_plan",
        "Step": "_plan",
        "StepTime": "_plan",
        "Pool": "_pool",
        "Probe": "_probe",
        "probe": "_probe",
        "Shell": "_shell",
        "ShellEndedError": "_shell",
        "shell": "_shell",
        "check": "check",
        "load_ipython_extension": "_magics",
        "unload_ipython_extension": "_magics",
        "pictures": "pictures",
    }

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        module = importlib.import_module(f".{_LAZY[name]}", __name__)
        # `pictures` and `check` are modules themselves.
        value = getattr(module, name, module)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(globals().keys() | set(__all__))


__version__ = "0.1.0"

__all__ = [
    "AsyncProcess",
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWTIME",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "CalledProcessError",
    "CompletedProcess",
    "DEVNULL",
    "Executor",
    "Host",
    "HostInfo",
    "Namespace",
    "NamespaceId",
    "PIPE",
    "Plan",
    "Pool",
    "Popen",
    "Probe",
    "Process",
    "STDOUT",
    "Shell",
    "ShellEndedError",
    "SpawnError",
    "Step",
    "StepTime",
    "SubprocessError",
    "TimeoutExpired",
    "WorkerDied",
    "arun",
    "aspawn",
    "call",
    "capabilities",
    "cgroup",
    "check",
    "clocks",
    "compare",
    "hosts",
    "id_maps",
    "ipc",
    "lsns",
    "mounts",
    "namespaces",
    "network",
    "options",
    "persist",
    "pictures",
    "plan",
    "probe",
    "processes",
    "run",
    "shell",
    "snapshot",
    "spawn",
    "unpersist",
]
