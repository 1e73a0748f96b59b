"""`call`: a Python function inside namespaces."""

from __future__ import annotations

import selectors
import sys
import time

from ._interpreter import Interpreter
from ._task import name_of, outcome, task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ._namespace import Flags
    from ._task import Message

    T = TypeVar("T")


def call(flags: Flags, fn: Callable[..., T], /, *args: Any, timeout: float | None = None, **options: Any) -> T:
    """Call ``fn(*args)`` in a fresh Python inside new namespaces; return what it returns, raise what it raises.

    ``flags`` and the options are those of `spawn`. The function and its arguments are pickled; where cloudpickle is
    installed, lambdas and functions of notebooks too, else those of a script need ``if __name__ == "__main__":`` as
    with `multiprocessing`. What it prints appears in order. ``timeout`` is in seconds, from the start of Python to its
    end. The interpreter is in a session of its own and ends with this process (``kill_child=True``).

    Raises what the function raises, with its traceback there as the cause; what `spawn` raises; `TimeoutError`, and
    then the function is killed with its pid namespace or process group, as it is by any other exception in here;
    `WorkerDied` if it ended its interpreter; `pickle.PicklingError`; `ValueError` for what means nothing to a function.

    >>> nslab.call("uts", os.uname, hostname="lab").nodename
    'lab'
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    message = task(fn, args, {})
    _refuse_while_main_is_imported()
    late = f"{name_of(fn)} did not return within {timeout} seconds"
    return outcome(_ask(flags, options, name_of(fn), message, deadline, late))  # type: ignore[no-any-return]


def _ask(
    flags: Flags, options: dict[str, Any], name: str, message: Message, deadline: float | None, late: str
) -> list[bytearray]:
    """Return the answer of an interpreter, once it has ended."""
    answer = None
    with selectors.DefaultSelector() as selector:
        interpreter = Interpreter(selector)
        try:
            interpreter.start(flags, options)
            interpreter.send(message)
            interpreter.watch_sending()
            while interpreter.process.returncode is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(late)
                for _, events in selector.select(left):
                    answer = interpreter.advance(events) or answer
                if answer:
                    # It has nothing more to do: now it ends as any program does, with what is registered for that.
                    interpreter.let_go()
        finally:
            interpreter.close()
    if answer is None:
        from ._died import WorkerDied

        raise WorkerDied.of(interpreter, name)
    return answer


def _refuse_while_main_is_imported() -> None:
    process = sys.modules.get("multiprocessing.process")
    if process and getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError(
            "this interpreter is importing the main module for a function that it is to call; put what starts further "
            'ones under `if __name__ == "__main__":`'
        )
