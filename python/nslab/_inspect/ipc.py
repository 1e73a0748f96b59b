"""`ipc`: the System V objects and POSIX message queues of an IPC namespace."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from .. import _core
from .entered import Place, entered
from .ids import NamespaceId
from .record import Record


@dataclass(frozen=True)
class MessageQueue(Record):
    """A System V message queue, see sysvipc(7)."""

    id: int
    #: As ipcs(1) prints it in hexadecimal; 0 for ``IPC_PRIVATE``.
    key: int
    uid: int
    gid: int
    #: The permission bits.
    mode: int
    messages: int
    bytes: int


@dataclass(frozen=True)
class SemaphoreSet(Record):
    """A System V semaphore set."""

    id: int
    key: int
    uid: int
    gid: int
    mode: int
    semaphores: int


@dataclass(frozen=True)
class SharedMemory(Record):
    """A System V shared memory segment."""

    id: int
    key: int
    uid: int
    gid: int
    mode: int
    #: In bytes.
    size: int
    #: How many processes have it attached.
    attached: int
    #: Who made it; 0 for a process that the caller's pid namespace does not have.
    creator_pid: int


@dataclass(frozen=True)
class PosixQueue(Record):
    """A POSIX message queue, see mq_overview(7)."""

    #: With the slash: ``"/jobs"``.
    name: str
    uid: int
    gid: int
    mode: int
    #: The bytes that wait in it; None where the caller may not read it.
    bytes: int | None


@dataclass(frozen=True)
class IpcObjects(Record):
    """What is in one IPC namespace; users and groups are those of the caller's user namespace."""

    namespace: NamespaceId
    message_queues: tuple[MessageQueue, ...]
    semaphore_sets: tuple[SemaphoreSet, ...]
    shared_memory: tuple[SharedMemory, ...]
    posix_queues: tuple[PosixQueue, ...]
    #: What could not be read and why, or None.
    note: str | None


def ipc(target: Place = None) -> IpcObjects:
    """Read the System V objects and POSIX message queues of an IPC namespace, through a child that enters it.

    ``target`` is a pid, an object that has one, a `NamespaceId` of type ipc, or None for the calling process. Raises
    `ProcessLookupError` when it is gone, `PermissionError` when it may not be inspected or entered. See
    ipc_namespaces(7).

    >>> nslab.ipc().namespace == nslab.namespaces(os.getpid())["ipc"]
    True
    """
    with entered(target, "ipc") as (namespace, fd):
        (messages, *failed), (semaphores, *_), (memory, *_), (queues, refused) = _core.ipc(fd)
    return IpcObjects(
        namespace,
        tuple(MessageQueue(*head, *numbers) for *head, numbers in messages),
        tuple(SemaphoreSet(*head, *numbers) for *head, numbers in semaphores),
        tuple(SharedMemory(*head, *numbers) for *head, numbers in memory),
        tuple(PosixQueue(*queue) for queue in queues),
        _note(failed[0], refused),
    )


def _note(system_v: int | None, posix: int | None) -> str | None:
    """Return what could not be read and why."""
    notes = []
    if system_v is not None:
        notes.append(f"System V objects: no /proc/sysvipc ({os.strerror(system_v)})")
    if posix == errno.EPERM:
        notes.append("POSIX queues: to list them takes CAP_SYS_ADMIN in the user namespace that owns the IPC namespace")
    elif posix == errno.ENOSYS:
        notes.append("POSIX queues: to list them takes fsopen(2), which Linux 5.2 brought")
    elif posix is not None:
        notes.append(f"POSIX queues: {os.strerror(posix)}")
    return "; ".join(notes) or None
