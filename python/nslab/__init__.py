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
    from ._aio import AsyncProcess, arun, aspawn
    from ._call import call
    from ._died import WorkerDied
    from ._executor import Executor
    from ._inspect.ids import NamespaceId, namespaces
    from ._plan import Plan, Step, StepTime
    from ._probe import Probe, probe
else:
    # Imported when first used: dataclasses and typing would more than double the time of `import nslab`.
    _LAZY = {
        "AsyncProcess": "_aio",
        "arun": "_aio",
        "aspawn": "_aio",
        "call": "_call",
        "Executor": "_executor",
        "WorkerDied": "_died",
        "NamespaceId": "_inspect.ids",
        "namespaces": "_inspect.ids",
        "Plan": "_plan",
        "Step": "_plan",
        "StepTime": "_plan",
        "Probe": "_probe",
        "probe": "_probe",
    }

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(globals().keys() | set(__all__))


__version__ = "0.1.0"

__all__ = [
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWTIME",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "AsyncProcess",
    "CalledProcessError",
    "CompletedProcess",
    "Executor",
    "Namespace",
    "NamespaceId",
    "Plan",
    "Popen",
    "Probe",
    "Process",
    "SpawnError",
    "Step",
    "StepTime",
    "SubprocessError",
    "TimeoutExpired",
    "WorkerDied",
    "arun",
    "aspawn",
    "call",
    "namespaces",
    "plan",
    "probe",
    "run",
    "spawn",
]
