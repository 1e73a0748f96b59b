"""Every set of namespaces, each with all options that it allows."""

from __future__ import annotations

import itertools
import os
from typing import Any

import nslab

KINDS = [kind.name.lower() for kind in nslab.Namespace if kind.name]


def options_of(kinds: tuple[str, ...], name: str = "proof") -> dict[str, Any]:
    wanted: dict[str, tuple[dict[str, Any], set[str]]] = {
        "uts": ({"hostname": name, "domainname": name}, {"uts"}),
        "user": ({"map_root_user": True}, {"user"}),
        "mnt": ({"mount_proc": True}, {"mnt", "pid"}),
        "net": ({"loopback": True}, {"net"}),
        "time": ({"monotonic": 1000, "boottime": 1000}, {"time"}),
    }
    return {key: value for options, needs in wanted.values() if needs <= set(kinds) for key, value in options.items()}


def every_set() -> list[tuple[str, ...]]:
    """Return the 256 sets; for an ordinary user the 128 with the user namespace, and the empty one."""
    sets = [kinds for size in range(len(KINDS) + 1) for kinds in itertools.combinations(KINDS, size)]
    return [kinds for kinds in sets if os.geteuid() == 0 or not kinds or "user" in kinds]
