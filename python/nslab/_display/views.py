"""What a snapshot answers to each question, in words that can be held beside another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from .._inspect.ipc import IpcObjects
from .._inspect.mounts import Mounts
from .._inspect.network import Link, Network
from .._inspect.processes import ProcessTree
from .._inspect.snapshot import Snapshot
from .._inspect.users import IdRange
from . import labels
from .nesting import every
from .text import clean

_MAIN_TABLE = 254
# The map of the initial user namespace.
_EVERYONE = IdRange(0, 0, 2**32 - 1)


class Answer(NamedTuple):
    """What one side answers to one question."""

    #: In a line.
    text: str
    #: One by one, by what makes it the same thing on the other side; empty where the line says it all.
    items: Mapping[Hashable, str] = MappingProxyType({})
    #: Whether these are all there are, so that only what another side lacks is worth a line.
    whole: bool = False


class Question(NamedTuple):
    """One line of the comparison."""

    title: str
    #: The type of namespace on which the answer depends.
    namespace: str
    #: The field of `Snapshot`, whose note says why there is no answer.
    field: str
    ask: Callable[[Snapshot], Answer | None]
    #: What to say of an item that both have, in different words.
    apart: str = "≠"


def _text(value: object) -> Answer | None:
    return None if value is None else Answer(clean(value) or "(empty)")


def _ids(snapshot: Snapshot) -> Answer | None:
    if snapshot.uid is None and snapshot.gid is None:
        return None
    return Answer(f"uid {_number(snapshot.uid)}, gid {_number(snapshot.gid)}")


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _capabilities(snapshot: Snapshot) -> Answer | None:
    held = snapshot.capabilities
    if held is None:
        return None
    count = len(held.effective)
    names: dict[Hashable, str] = {name: clean(name) for name in held.effective}
    if count in (0, held.known):
        return Answer(f"{'all' if count else 'none'} of {held.known}", names, whole=True)
    return Answer(f"{count} of {held.known}", names)


def _id_map(snapshot: Snapshot) -> Answer | None:
    if snapshot.id_maps is None:
        return None
    return Answer(", ".join(map(_range, snapshot.id_maps.users)) or "none: everyone is nobody")


def _range(ids: IdRange) -> str:
    last = ids.count - 1
    if ids == _EVERYONE:
        return "everyone is the same outside"
    if not last:
        return f"{ids.inside} is {ids.outside} outside"
    return f"{ids.inside}-{ids.inside + last} is {ids.outside}-{ids.outside + last} outside"


def _processes(snapshot: Snapshot) -> Answer | None:
    return None if snapshot.processes is None else _answer("process", "processes", _seen(snapshot.processes))


def _seen(tree: ProcessTree) -> dict[Hashable, str]:
    """Return the processes with the pids that they have in the namespace of the snapshot, by those the caller sees."""
    everyone = [*every(tree.roots)]
    level = min((len(process.pids) for process in everyone), default=1) - 1
    shown: dict[Hashable, str] = {}
    for process in everyone:
        number = labels.pid(process.pid) if level <= 0 else str(process.pids[level])
        shown[process.pid] = f"{number} {clean(process.command or process.name)}"
    return shown


def _mounts(snapshot: Snapshot) -> Answer | None:
    return None if snapshot.mounts is None else _answer("mount", "mounts", _mounted(snapshot.mounts))


def _mounted(mounts: Mounts) -> dict[Hashable, str]:
    shown: dict[Hashable, str] = {}
    covered: Counter[str] = Counter()
    for mount in mounts.mounts:
        # What is mounted over another one has the same place.
        covered[mount.target] += 1
        key = (mount.target, covered[mount.target])
        options = "" if "rw" in mount.options else f", {','.join(mount.options[:1])}"
        shown[key] = f"{clean(mount.target)} ({clean(mount.fstype)}{clean(options)}, {mount.propagation})"
    return shown


def _links(snapshot: Snapshot) -> Answer | None:
    if snapshot.network is None:
        return None
    return _answer("link", "links", {link.name: _link(link) for link in snapshot.network.links})


def _link(link: Link) -> str:
    addresses = " ".join(
        f"{address.local}/{address.prefixlen}" for address in link.addresses if address.family == "inet"
    )
    return clean(f"{link.name} {'UP' if link.up else 'DOWN'} {addresses or 'no IPv4 address'}")


def _routes(snapshot: Snapshot) -> Answer | None:
    return None if snapshot.network is None else _answer("route", "routes", _routed(snapshot.network))


def _routed(network: Network) -> dict[Hashable, str]:
    main = [route for route in network.routes if route.table == _MAIN_TABLE and route.family == "inet"]
    shown: dict[Hashable, str] = {}
    for route in main:
        via = f" via {route.gateway}" if route.gateway else ""
        device = f" dev {route.device}" if route.device else ""
        shown[route.destination, route.metric] = clean(f"{route.destination}{via}{device}")
    return shown


def _ipc(snapshot: Snapshot) -> Answer | None:
    return None if snapshot.ipc is None else _answer("object", "objects", _objects(snapshot.ipc))


def _objects(ipc: IpcObjects) -> dict[Hashable, str]:
    shown: dict[Hashable, str] = {}
    for queue in ipc.message_queues:
        shown["queue", queue.id, queue.key] = f"message queue {queue.id}: {queue.messages} messages"
    for semaphores in ipc.semaphore_sets:
        shown["set", semaphores.id, semaphores.key] = f"semaphore set {semaphores.id}: {semaphores.semaphores}"
    for memory in ipc.shared_memory:
        shown["memory", memory.id, memory.key] = f"shared memory {memory.id}: {memory.size} bytes"
    for posix in ipc.posix_queues:
        shown["posix", posix.name] = clean(f"POSIX queue {posix.name}: {posix.bytes} bytes")
    return shown


def _monotonic(snapshot: Snapshot) -> Answer | None:
    return None if snapshot.clocks is None else _shifted(snapshot.clocks.monotonic_offset)


def _boottime(snapshot: Snapshot) -> Answer | None:
    return None if snapshot.clocks is None else _shifted(snapshot.clocks.boottime_offset)


def _shifted(nanoseconds: int) -> Answer:
    return Answer(f"shifted by {nanoseconds / 1e9:+,.9g} s" if nanoseconds else "not shifted")


def _realtime(snapshot: Snapshot) -> Answer | None:
    return None if snapshot.clocks is None else Answer("no namespace shifts it")


def _cgroups(snapshot: Snapshot) -> Answer | None:
    if snapshot.cgroup is None:
        return None
    paths = {at.hierarchy: (at.inside, at.controllers) for at in snapshot.cgroup.paths}
    items: dict[Hashable, str] = {
        number: clean(f"{','.join(controllers) or 'v2'}: {'not readable' if path is None else path}")
        for number, (path, controllers) in sorted(paths.items())
    }
    return Answer("".join(items.values())) if len(items) == 1 else _answer("path", "paths", items)


def _answer(one: str, many: str, items: dict[Hashable, str]) -> Answer:
    return Answer(f"{len(items) or 'no'} {one if len(items) == 1 else many}", items)


QUESTIONS: tuple[Question, ...] = (
    Question("host name", "uts", "hostname", lambda snapshot: _text(snapshot.hostname)),
    Question("domain name", "uts", "domainname", lambda snapshot: _text(snapshot.domainname)),
    Question("user", "user", "uid", _ids),
    Question("user id map", "user", "id_maps", _id_map),
    Question("capabilities", "user", "capabilities", _capabilities),
    Question("processes", "pid", "processes", _processes, "the same process"),
    Question("mounts", "mnt", "mounts", _mounts, "≠ not alike"),
    Question("network links", "net", "network", _links, "≠ not alike"),
    Question("routes", "net", "network", _routes),
    Question("IPC objects", "ipc", "ipc", _ipc),
    Question("monotonic clock", "time", "clocks", _monotonic),
    Question("boot time clock", "time", "clocks", _boottime),
    Question("wall clock", "time", "clocks", _realtime),
    Question("control group", "cgroup", "cgroup", _cgroups),
)
