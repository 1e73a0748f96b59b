"""What a prediction stands on: who calls, and what there is; learnt without nslab."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

# In the laboratory, which `proof/laboratory.py` makes.
PLACE = "/mnt"
PROGRAM = f"{PLACE}/report"
REPORT = Path(f"{PLACE}/seen")

Ranges = list[tuple[int, int, int]]
OVERFLOW = 65534  # "nobody": who has no id in a user namespace


@dataclasses.dataclass
class Seen:
    """What one run of the program saw of itself."""

    values: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def namespace(self, kind: str) -> str:
        return str(self[f"ns {kind}"])

    def text(self, key: str) -> bytes:
        return str(self[key]).encode("latin-1")

    def ranges(self, key: str) -> Ranges:
        """Return an id map, in order."""
        lines = [tuple(map(int, line.split())) for line in self[key].splitlines()]
        return sorted(lines)  # type: ignore[arg-type]

    def status(self, key: str) -> str:
        lines: list[str] = self["status"].splitlines()
        return next(line.split(":\t")[1] for line in lines if line.startswith(f"{key}:"))

    @property
    def umask(self) -> int:
        return int(self.status("Umask"), 8)

    @property
    def ignored(self) -> int:
        return int(self.status("SigIgn"), 16)

    @property
    def capable(self) -> bool:
        return int(self.status("CapEff"), 16) != 0

    @property
    def environment(self) -> set[bytes]:
        return set(filter(None, self.text("environ").split(b"\0")))

    @property
    def offsets(self) -> dict[str, tuple[int, int]]:
        """Return what the clocks are shifted by: seconds and nanoseconds."""
        lines = [line.split() for line in self["timens_offsets"].splitlines()]
        return {name: (int(seconds), int(nanoseconds)) for name, seconds, nanoseconds in lines}

    @property
    def mounts(self) -> list[tuple[bytes, bytes, bool, bool]]:
        """Return each mount's place and type, and whether it is shared and whether it is a slave."""
        found = []
        for line in self.text("mountinfo").splitlines():
            before, _, after = line.partition(b" - ")
            tags = before.split()[6:]
            shared, slave = (any(tag.startswith(word) for tag in tags) for word in (b"shared:", b"master:"))
            found.append((before.split()[4], after.split()[0], shared, slave))
        return sorted(found)


def read_report() -> Seen:
    return Seen(json.loads(REPORT.read_text()))


@dataclasses.dataclass
class World:
    """The caller, and the process whose namespaces can be joined."""

    #: What a child of `subprocess` sees: what a plan adds is a difference to this.
    plain: Seen
    #: The same inside the namespaces that can be joined.
    joinable: Seen
    #: Whose namespaces these are.
    holder: int
    #: All capabilities in its user namespace.
    privileged: bool
    #: The first block of subuid(5) and of subgid(5): first, count.
    subordinate: dict[str, tuple[int, int] | None]
    #: Open descriptors; execve closes all but the last one.
    files: list[int]

    @property
    def uid(self) -> int:
        return int(self.plain["uids"][1])

    @property
    def gid(self) -> int:
        return int(self.plain["gids"][1])

    @property
    def groups(self) -> list[int]:
        return list(self.plain["groups"])


def look(holder: int, joinable: Seen) -> World:
    """Return the world as it is now."""
    subprocess.run([PROGRAM, str(REPORT), "0"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    plain = read_report()
    # High, where nothing of the interpreter's comes and goes.
    with open(f"{PLACE}/file") as file:
        files = [os.dup2(file.fileno(), fd, inheritable=fd == 202) for fd in (200, 201, 202)]
    effective = int(plain.status("CapEff"), 16)
    subordinate = {"users": _block("/etc/subuid"), "groups": _block("/etc/subgid")}
    return World(plain, joinable, holder, effective != 0, subordinate, files)


def _block(file: str) -> tuple[int, int] | None:
    user = pwd.getpwuid(os.getuid())
    for line in Path(file).read_text().splitlines():
        owner, first, count = line.split(":")
        if owner in (user.pw_name, str(user.pw_uid)):
            return int(first), int(count)
    return None
