"""`ipc`: the System V objects and POSIX message queues of an IPC namespace."""

from __future__ import annotations

from dataclasses import dataclass

from .ids import NamespaceId
from .record import Record


@dataclass(frozen=True)
class MessageQueue(Record):
    """A System V message queue, see sysvipc(7)."""

    id: int
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
    creator_pid: int


@dataclass(frozen=True)
class PosixQueue(Record):
    """A POSIX message queue, see mq_overview(7)."""

    #: With the slash: ``"/jobs"``.
    name: str
    uid: int
    gid: int
    mode: int
    #: The bytes that wait in it.
    bytes: int


@dataclass(frozen=True)
class IpcObjects(Record):
    """What is in one IPC namespace."""

    namespace: NamespaceId
    message_queues: tuple[MessageQueue, ...]
    semaphore_sets: tuple[SemaphoreSet, ...]
    shared_memory: tuple[SharedMemory, ...]
    posix_queues: tuple[PosixQueue, ...]
    #: What could not be read and why, or None.
    note: str | None
