"""`snapshot`: everything a process sees, at one moment: the answers to the same questions inside and outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .cgroup import CgroupView
from .clocks import Clocks
from .ids import NamespaceId
from .ipc import IpcObjects
from .mounts import Mounts
from .network import Network
from .processes import ProcessTree
from .record import Record
from .users import Capabilities, IdMaps


@dataclass(frozen=True)
class Snapshot(Record):
    """What one process sees; None and a line in ``notes`` where it could not be read."""

    #: ``"host"``, ``"pid 4711"``.
    name: str
    pid: int
    namespaces: Mapping[str, NamespaceId]
    hostname: str | None
    domainname: str | None
    #: Its user and group id as it sees them itself.
    uid: int | None
    gid: int | None
    #: The processes in its pid namespace and below it.
    processes: ProcessTree | None
    mounts: Mounts | None
    id_maps: IdMaps | None
    capabilities: Capabilities | None
    clocks: Clocks | None
    network: Network | None
    ipc: IpcObjects | None
    cgroup: CgroupView | None
    #: By field: why it is None.
    notes: Mapping[str, str]
