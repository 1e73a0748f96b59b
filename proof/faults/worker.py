"""The process under test: forks, for each cell, one that calls the library once with a fault and once without.

It never decides anything: `matrix` says when to go on, looks at it from outside in between, and holds its system calls.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import pkgutil
import signal
import sys
from pathlib import Path
from typing import Any

import nslab

from . import listener
from .plans import KEPT, PASSED, Plan, Scene

# So that a mask that was not put back is seen.
BLOCKED = {signal.SIGUSR1}
PR_GET_DUMPABLE = 3


def main() -> None:
    import_everything()
    plans = {plan.name: plan for plan in importlib.import_module(sys.argv[1]).PLANS}
    scene = Scene()
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    gc.disable()
    gc.freeze()
    os.dup2(os.open("/dev/null", os.O_RDWR), PASSED)
    lowest = os.dup(0)
    os.close(lowest)
    # Nobody listens before this is said, so it is put into words before.
    message = pickle.dumps(([host.pid for host in scene.hosts], lowest))
    held = listener.install()
    os.write(listener.CONTROL, message)
    os.close(held)
    try:
        while name := hear():
            pid = os.fork()
            if pid == 0:
                try:
                    cell(plans[name], scene)
                finally:
                    os._exit(70)
            say(("over", os.waitpid(pid, 0)[1]))
    finally:
        scene.close()


def import_everything() -> None:
    """Import what the library would import when it first needs it: what Python does then is not the library's."""
    for module in pkgutil.walk_packages(nslab.__path__, "nslab."):
        if not module.name.startswith(("nslab.dask", "nslab._pytest", "nslab.__main__", "nslab._magics")):
            importlib.import_module(module.name)


def cell(plan: Plan, scene: Scene) -> None:
    if plan.before:
        plan.before()
    say(("ready", os.getpid()))
    for _ in range(2):
        hear()
        made, outcome = call(plan, scene)
        say(("spawned", outcome))
        hear()
        ended = end(made)
        made = None
        gc.collect()
        say(("ended", ended, ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)))
    hear()
    os._exit(0)


def call(plan: Plan, scene: Scene) -> tuple[Any, dict[str, Any]]:
    try:
        made = plan.make(scene)
    except BaseException as error:
        parts = ("step", "errno", "signal", "detail", "filename")
        return None, {"error": type(error).__name__, "text": str(error), **{p: getattr(error, p, None) for p in parts}}
    return made, {"pid": made.pid}


def end(made: Any) -> Any:
    """End what was made; return how it ended."""
    try:
        if isinstance(made, nslab.Host):
            try:
                with made:
                    return made.run(["/bin/true"]).returncode
            finally:
                if Path(KEPT).is_dir():
                    nslab.unpersist(KEPT)
        if made:
            with made:
                made.kill()
                return made.wait()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def say(message: Any) -> None:
    os.write(listener.CONTROL, pickle.dumps(message))


def hear() -> Any:
    message = os.read(listener.CONTROL, 512)
    return pickle.loads(message) if message else None


if __name__ == "__main__":
    main()
