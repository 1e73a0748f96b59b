"""What helps to understand a failure inside: the namespaces of the test, their links and their mounts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import nslab

from .._inspect.ids import current
from .._namespace import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._inspect.network import Network

Section = tuple[str, str]


def of(pid: int | None, flags: int, threads: Sequence[str] = ()) -> list[Section]:
    """Return the sections for a report about a process, or about this one, with these new namespaces.

    ``threads`` are those that a fixture has left outside: who waits for one of them in a child waits for ever.
    """
    found: list[Section] = []
    # The test may have unmounted /proc, or closed everything: then there is less to show.
    with contextlib.suppress(OSError):
        found.append(("namespaces", _namespaces(pid, flags)))
    if flags & nslab.Namespace.NET:
        with contextlib.suppress(OSError):
            found.append(("links", _links(nslab.network(pid))))
    if flags & nslab.Namespace.MNT:
        with contextlib.suppress(OSError):
            found.append(("mounts", "\n".join(f"{mount.target:<32} {mount.fstype}" for mount in nslab.mounts(pid))))
    if threads:
        found.append(("threads that stay outside", ", ".join(threads)))
    return found


def _namespaces(pid: int | None, flags: int) -> str:
    new = set(names(flags))
    found: dict[str, object] = dict(current() if pid is None else nslab.namespaces(pid))
    if pid is not None and "pid" in new:
        # Nothing can hold one whose init has ended.
        found["pid"] = "ended with the test"
    return "\n".join(f"{name:<8}{value}{'  new' if name in new else ''}" for name, value in found.items())


def _links(network: Network) -> str:
    rows = []
    for link in network.links:
        addresses = " ".join(f"{address.local}/{address.prefixlen}" for address in link.addresses)
        rows.append(f"{link.name:<16}{'UP' if link.up else 'DOWN':<6}{addresses}".rstrip())
    return "\n".join(rows)
