"""The inside of `nslab.call` and `nslab.Executor`: takes functions from a socket, sends back what they returned.

A fresh interpreter loads this file by itself, without the package, which would bring `subprocess` and more: what is
imported here is most of what a call costs. The package reads it too, for the wire.
"""

from __future__ import annotations

import marshal
import os
import sys

# Without `pickle`, which would import `re` and more.
from _pickle import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Part = bytes | bytearray | memoryview

# As many buffers as writev(2) takes at once.
_IOV_MAX = 1024


class Wire:
    """Messages on a stream socket: each a list of byte strings, whatever is in them."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stage = 0
        self._expect([8])

    def _expect(self, sizes: list[int]) -> None:
        self._parts = [bytearray(size) for size in sizes]
        self._missing = rest([memoryview(part) for part in self._parts], 0)

    def receive(self) -> list[bytearray]:
        """Return the next message.

        Raises `EOFError` at the end, `ConnectionResetError` if the other side ended without having read everything,
        and, on a socket that does not block, `BlockingIOError` for as long as the message is not complete.
        """
        while True:
            while self._missing:
                count = os.readv(self._fd, self._missing[:_IOV_MAX])
                if not count:
                    raise EOFError
                self._missing = rest(self._missing, count)
            parts, stage = self._parts, self._stage
            self._stage = (stage + 1) % 3
            if stage == 0:
                self._expect([int.from_bytes(parts[0], sys.byteorder)])
            elif stage == 1:
                self._expect(memoryview(parts[0]).cast("Q").tolist())
            else:
                self._expect([8])
                return parts

    def send(self, message: list[Part]) -> None:
        """Send it all, waiting for the other side to read."""
        left = framed(message)
        while left:
            left = rest(left, os.writev(self._fd, left[:_IOV_MAX]))


def framed(message: list[Part]) -> list[memoryview]:
    """Return what goes over the wire: the size of the table, the table of sizes, the parts."""
    parts = [memoryview(part) for part in message]
    table = [8 * len(parts), *(part.nbytes for part in parts)]
    return [memoryview(b"".join(size.to_bytes(8, sys.byteorder) for size in table)), *parts]


def rest(views: list[memoryview], count: int) -> list[memoryview]:
    """Return what is left of these without their first ``count`` bytes."""
    for index, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[index + 1 :]]
        count -= len(view)
    return []


def pickled(value: object, dump: Callable[..., bytes] = dumps) -> list[Part]:
    """Return the pickle and the large buffers that it refers to, which are not copied."""
    buffers: list[Any] = []
    data = dump(value, protocol=5, buffer_callback=buffers.append)
    return [data, *(buffer.raw() for buffer in buffers)]


def main() -> None:
    """Answer each task until there is no other side any more."""
    # A function may come from a module of the same name.
    del sys.modules["_worker"]
    fd = int(sys.argv[2])
    # What a function starts must not keep the wire open.
    os.set_inheritable(fd, False)
    wire, pid = Wire(fd), os.getpid()
    try:
        sys.path[:], sys.argv[:], pumped = marshal.loads(wire.receive()[0])
        for name in pumped:
            getattr(sys, name).reconfigure(encoding="utf-8", line_buffering=True)
        while True:
            answer = _answer(wire.receive(), pid)
            _flush()
            wire.send(answer)
            # Not while waiting for the next task.
            del answer
    except EOFError:
        return


def _answer(task: list[bytearray], pid: int) -> list[Part]:
    """Call the function of a task; return what to send back."""
    name, chunk, main_module = marshal.loads(task[0])
    try:
        function, args, keywords = _loaded(task, main_module)
        value = [function(*each) for each in args] if chunk else function(*args, **keywords)
    except BaseException as error:
        if os.getpid() != pid:
            raise
        return _raised(name, error)
    if os.getpid() != pid:
        # The function has forked, and its copy came back too; there is one answer.
        sys.exit()
    try:
        return [marshal.dumps(("returned", name)), *_pickled_somehow(value)]
    except Exception as error:
        reason = f"what {name} returned, of type {type(value).__qualname__}, cannot be pickled: {error}"
        return [marshal.dumps(("unpicklable", reason)), _traceback(error)]


def _loaded(task: list[bytearray], main_module: dict[str, str]) -> Any:
    try:
        if main_module:
            _import_main(main_module)
        return loads(task[1], buffers=task[2:])
    except Exception as error:
        error.add_note("This was raised where a fresh interpreter loads the function or an argument.")
        raise


def _import_main(main_module: dict[str, str]) -> None:
    """Import the parent's main module under another name, as `multiprocessing` does."""
    from multiprocessing import process, spawn

    current: Any = process.current_process()
    # Who starts processes while it is imported, without `if __name__ == "__main__"`, is told so.
    current._inheriting = True
    try:
        spawn.prepare(main_module)
    finally:
        del current._inheriting


def _pickled_somehow(value: object) -> list[Part]:
    try:
        return pickled(value)
    except Exception:
        # What the function itself has defined, or what came here by value.
        try:
            import cloudpickle
        except ImportError:
            cloudpickle = None
        if cloudpickle is None:
            raise
        return pickled(value, cloudpickle.dumps)


def _raised(name: str, error: BaseException) -> list[Part]:
    text = _traceback(error)
    try:
        parts = _pickled_somehow(error)
        # Classes with an `__init__` of their own are pickled easily, but not loaded.
        if not isinstance(loads(parts[0], buffers=parts[1:]), BaseException):
            raise TypeError("it becomes something else")
    except Exception as reason:
        summary = f"{type(error).__qualname__}: {error}"
        why = f"{name} raised an exception that cannot be pickled ({reason}): {summary}"
        return [marshal.dumps(("unpicklable", why)), text]
    return [marshal.dumps(("raised", name)), text, *parts]


def _traceback(error: BaseException) -> bytes:
    import traceback

    # The first frame is of this file.
    here = error.__traceback__
    lines = traceback.format_exception(type(error), error, here.tb_next if here else None)
    return "".join(lines).encode(errors="backslashreplace")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            # None, or closed by the function, or nobody reads it any more.
            continue
