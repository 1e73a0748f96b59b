"""`WorkerDied`: in a file of its own, as `concurrent.futures` costs more than a call otherwise imports."""

from __future__ import annotations

import signal
from concurrent.futures import BrokenExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._interpreter import Interpreter


class WorkerDied(BrokenExecutor):
    """The interpreter of a function ended before the function returned.

    ``returncode`` says how: its exit status, or the negative number of the signal that killed it.
    """

    returncode: int | None = None

    @classmethod
    def of(cls, interpreter: Interpreter, name: str) -> WorkerDied:
        """Say it of a function and the interpreter that had it."""
        returncode = interpreter.process.returncode
        if returncode is not None and returncode < 0:
            try:
                how = f"was killed by {signal.Signals(-returncode).name}"
            except ValueError:
                how = f"was killed by signal {-returncode}"
        else:
            how = f"ended with status {returncode}"
        when = f"before it could take {name}" if interpreter.deaf else f"before {name} returned"
        error = cls(f"the interpreter {how} {when}")
        error.returncode = returncode
        return error
