"""Executor."""
from __future__ import annotations
from concurrent.futures import BrokenExecutor
import signal
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._interpreter import Interpreter

class WorkerDied(BrokenExecutor):  # noqa: N818
    """The interpreter of a function ended before the function returned; ``returncode`` says how."""

    returncode: int | None = None

    @classmethod
    def of(cls, interpreter: Interpreter, name: str) -> WorkerDied:
        code = interpreter.process.returncode
        self = cls(f"{name} {code}")
        self.returncode = code
        return self

class Executor: ...
