"""Two snapshots as a lab has them: a host, and a shell in new namespaces on it."""

from __future__ import annotations

from types import MappingProxyType

from pictures_check import host, other

from nslab._inspect.cgroup import CgroupPath, CgroupView
from nslab._inspect.clocks import Clocks
from nslab._inspect.ids import NamespaceId
from nslab._inspect.ipc import IpcObjects, MessageQueue, PosixQueue, SemaphoreSet, SharedMemory
from nslab._inspect.mounts import Mount, Mounts
from nslab._inspect.network import Address, Link, Network, Route
from nslab._inspect.processes import ProcessInfo, ProcessTree
from nslab._inspect.snapshot import Snapshot
from nslab._inspect.users import Capabilities, IdMaps, IdRange

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def process(command: str, pids: tuple[int, ...], namespace: NamespaceId, *children: ProcessInfo) -> ProcessInfo:
    return ProcessInfo(pids[0], 1, pids, command, command, "S", 0, {"pid": namespace}, None, children)


def mount(number: int, target: str, fstype: str, shared: int | None = None) -> Mount:
    return Mount(number, 1, f"0:{number}", "/", target, ("rw",), fstype, fstype, (), shared, None, None, False)


def link(index: int, name: str, up: bool, *addresses: str) -> Link:
    found = tuple(Address("inet", address, 24, "global") for address in addresses)
    flags = ("UP", "LOWER_UP") if up else ()
    return Link(index, name, None, "ether", flags, "UP" if up else "DOWN", 1500, None, None, None, None, found, 0, 0)


def mounts(namespace: NamespaceId, *found: Mount) -> Mounts:
    return Mounts(namespace, 4711, found)


def outside() -> Snapshot:
    """Return what the host sees."""
    shell = process("sh", (4711, 1), other("pid"))
    everyone = [process(f"daemon{number}", (100 + number,), host("pid")) for number in range(9)]
    return Snapshot(
        name="host", pid=4700, namespaces=MappingProxyType({kind: host(kind) for kind in KINDS}),
        hostname="vm", domainname="(none)", uid=1000, gid=1000,
        processes=ProcessTree((process("systemd", (1,), host("pid"), *everyone, shell),), None),
        mounts=mounts(
            host("mnt"), mount(1, "/", "ext4", 1), mount(2, "/proc", "proc", 2), mount(3, "/home", "ext4", 3)
        ),
        id_maps=IdMaps(host("user"), 4700, (IdRange(0, 0, 2**32 - 1),), (), "allow"),
        capabilities=Capabilities(4700, (), (), (), (), (), 41, False),
        clocks=Clocks(host("time"), 4700, 0, 0, 10**12, 10**12, 10**18),
        network=Network(
            host("net"), (link(1, "lo", True, "127.0.0.1"), link(2, "eth0", True, "10.0.0.2")),
            (Route("inet", "unicast", "default", "10.0.0.1", "eth0", None, None, 254, "boot", "global"),), {},
        ),
        ipc=IpcObjects(host("ipc"), (MessageQueue(0, 1, 0, 0, 0o644, 2, 20),), (), (), (), None),
        cgroup=CgroupView(host("cgroup"), 4700, (CgroupPath(0, (), "/user.slice", "/user.slice"),), None),
        notes={},
    )  # fmt: skip


def inside() -> Snapshot:
    """Return what a shell sees that is in new namespaces of every type but cgroup and time."""
    new = {kind: host(kind) if kind in ("cgroup", "time") else other(kind) for kind in KINDS}
    return Snapshot(
        name="pid 4711", pid=4711, namespaces=MappingProxyType(new),
        hostname="lab", domainname="(none)", uid=0, gid=0,
        processes=ProcessTree((process("sh", (4711, 1), other("pid")),), None),
        mounts=mounts(
            other("mnt"), mount(11, "/", "ext4"), mount(12, "/proc", "proc"), mount(13, "/home", "ext4"),
            mount(14, "/proc", "proc"),
        ),
        id_maps=IdMaps(other("user"), 4711, (IdRange(0, 1000, 1),), (), "deny"),
        capabilities=Capabilities(4711, tuple(f"CAP_{number}" for number in range(41)), (), (), (), (), 41, False),
        clocks=Clocks(host("time"), 4711, 0, 0, 10**12, 10**12, 10**18),
        network=Network(other("net"), (link(1, "lo", False),), (), {}),
        ipc=IpcObjects(
            other("ipc"), (), (SemaphoreSet(0, 2, 0, 0, 0o600, 3),), (SharedMemory(0, 3, 0, 0, 0o600, 4096, 1, 1),),
            (PosixQueue("/jobs", 0, 0, 0o600, 12),), None,
        ),
        cgroup=CgroupView(host("cgroup"), 4711, (CgroupPath(0, (), "/user.slice", "/user.slice"),), None),
        notes={},
    )  # fmt: skip
