"""Plans for the fault matrix whose call of the library has a fault of its own: each must be found."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from proof.faults.plans import SLEEP, Plan, Scene

import nslab


def planted(fault: Callable[[nslab.SpawnError], Any]) -> Callable[[Scene], Any]:
    def make(_: Scene) -> Any:
        try:
            return nslab.spawn("uts", SLEEP, env={}, hostname="lab")
        except nslab.SpawnError as error:
            made = fault(error)
            if made:
                return made
            raise

    return make


def loses_the_errno(error: nslab.SpawnError) -> None:
    error.errno = 5


def names_another_step(error: nslab.SpawnError) -> None:
    error.step = "clone"


def is_less_isolated(_: nslab.SpawnError) -> nslab.Process:
    return nslab.spawn("", SLEEP, env={})


def leaves_a_descriptor(_: nslab.SpawnError) -> None:
    os.open("/dev/null", os.O_RDONLY)


def leaves_a_zombie(_: nslab.SpawnError) -> None:
    if os.fork() == 0:
        os._exit(0)


def leaves_a_file(_: nslab.SpawnError) -> None:
    with open("/dev/shm/left", "w"):
        pass


def changes_the_signal_mask(_: nslab.SpawnError) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def spoils_the_next(_: nslab.SpawnError) -> None:
    SLEEP[:] = ["/nonexistent"]


PLANS = [
    Plan(fault.__name__.replace("_", " "), planted(fault))
    for fault in (
        loses_the_errno,
        names_another_step,
        is_less_isolated,
        leaves_a_descriptor,
        leaves_a_zombie,
        leaves_a_file,
        changes_the_signal_mask,
        spoils_the_next,
    )
]
