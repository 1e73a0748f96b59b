"""What keeps the namespaces of a host: its init, which is our child, or one that another process has made."""

from __future__ import annotations

import os
import select

from . import _core
from ._errors import SpawnError, from_os
from ._process import Process, _take_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Any

    from ._inspect.ids import NamespaceId


class Init(Process):
    """The process that keeps the namespaces."""

    _by_subprocess = True


class Found:
    """The same, of another process: by its pid and its pidfd."""

    def __init__(self, pid: int, pidfd: _core.Fd) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd

    def fileno(self) -> int:
        if self.returncode is not None:
            raise ValueError("the host has ended, or was closed")
        return self._pidfd.fileno()

    def _look(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        if self.returncode is None and has_ended(self._pidfd.fileno(), 0):
            self.forget()
        return self.returncode

    @property
    def namespaces(self) -> Mapping[str, NamespaceId]:
        from ._inspect.ids import namespaces

        return namespaces(self.pid)

    def forget(self) -> None:
        if self.returncode is None:
            self.returncode = 0
            self._pidfd.close()


def has_ended(pidfd: int, seconds: float) -> bool:
    """Return whether the process has ended, or does so in this time."""
    # select(2) knows no descriptor above 1023.
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def keep(bits: int, name: str | None, kinds: list[str], options: dict[str, Any]) -> Init:
    """Start the init. Raises `SpawnError`, and `FileExistsError` for a name that is taken."""
    argv = ["nslab-host", name or "", *kinds]
    own = {**_take_own(options), "host": True}
    # What `subprocess` passes for a call with nothing but the program.
    process: tuple[Any, ...] = (None, {}, False, (), True, False, -1, -1, None, None, None)
    plan = _core.plan(bits, argv, argv[0], own, *process)
    init = Init.__new__(Init)
    init._plan = plan
    try:
        with (
            _null() if name is None else _reserve(name) as out,
            _core.Fd(os.pidfd_open, os.getpid()) as owner,
            _core.Fd(os.open, "/proc", os.O_RDONLY | os.O_DIRECTORY) as proc,
        ):
            init._make(argv, (), None, {"stdin": owner, "stdout": out, "stderr": proc})
    except (SpawnError, FileExistsError):
        raise
    except OSError as error:
        raise from_os(error, "init") from None
    return init


def _null() -> _core.Fd:
    """Open /dev/null, which `subprocess` would lose to an exception of a signal handler."""
    try:
        return _core.Fd(os.open, os.devnull, os.O_RDWR)
    except OSError as error:
        raise from_os(error, "stdio") from None


def _reserve(name: str) -> socket.socket:
    # Imported for named hosts only.
    from ._hosts import reserve

    return reserve(name)
