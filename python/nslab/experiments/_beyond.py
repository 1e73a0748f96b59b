"""The namespaces that the classroom text leaves out: user, cgroup, time."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ._row import Check, Experiment, Look, Trial
from ._text import new, ns_file, rows


def _offset(offsets: str) -> int:
    """Return the seconds of the boottime line of ``/proc/PID/timens_offsets``."""
    found = re.search(r"^boottime +(-?\d+)", offsets, re.MULTILINE)
    return int(found[1]) if found else 0


_USER = Experiment(
    name="user",
    title="root inside, nobody special outside",
    shows=(
        "The child is root in its user namespace, with every capability; on the host it is who the caller is. What "
        "belongs to the host stays out of its reach, even to set the host name to what it is."
    ),
    programs=("hostname", "ps"),
    trials=(
        Trial(
            flags="user",
            options={"map_root_user": True},
            looks=(
                Look("uid", "id -u", "ps -o uid= -p $child | tr -d ' '"),
                Look("/proc/self/uid_map", "cat /proc/self/uid_map"),
                Look("capabilities", "sed -n 's/CapEff:.//p' /proc/self/status"),
                Look("set the host name", "hostname $(hostname)", ""),
                ns_file("user"),
            ),
            checks=(
                Check("the child is root", lambda c, _: c["uid"] == "0"),
                Check("on the host it is the caller", lambda _, h: h["uid"] == str(os.geteuid())),
                Check(
                    "its uid_map says so",
                    lambda c, _: c["/proc/self/uid_map"].split() == ["0", str(os.geteuid()), "1"],
                ),
                Check("it has capabilities", lambda c, _: int(c["capabilities"], 16) > 0),
                Check("it may not set the host's name", lambda c, _: c["set the host name"] != ""),
                new("user"),
            ),
        ),
        Trial(
            flags="user",
            options={
                "map_users": [(0, 100000, 65536)],
                "map_groups": [(0, 100000, 65536)],
                "user": 0,
                "group": 0,
                "extra_groups": [],
            },
            looks=(
                Look("uid", "id -u", "ps -o uid= -p $child | tr -d ' '"),
                Look("/proc/self/uid_map", "cat /proc/self/uid_map"),
            ),
            checks=(
                Check("the child is root", lambda c, _: c["uid"] == "0"),
                Check("on the host it is 100000", lambda _, h: h["uid"] == "100000"),
            ),
            note="with ids that nobody else has on the host",
            needs_ids=True,
        ),
    ),
    claim="uid 0 inside is an ordinary uid outside, and its power ends with what the namespace owns",
)


def _paths(cgroups: str) -> set[str]:
    """Return the paths in ``/proc/PID/cgroup``."""
    return {line.split(":", 2)[-1] for line in cgroups.splitlines()}


_CGROUP = Experiment(
    name="cgroup",
    title="the control groups seen from within",
    shows=(
        "The group that the child starts in becomes the root of its view: its path is / inside, whatever it is on the "
        "host."
    ),
    trials=(
        Trial(
            flags="cgroup",
            looks=(Look("/proc/PID/cgroup", "cat /proc/self/cgroup", "cat /proc/$child/cgroup"), ns_file("cgroup")),
            checks=(
                Check("every path is / in the child", lambda c, _: _paths(c["/proc/PID/cgroup"]) == {"/"}),
                Check(
                    "on the host it is in the caller's groups",
                    lambda _, h: h["/proc/PID/cgroup"] == Path("/proc/self/cgroup").read_text().strip(),
                ),
                new("cgroup"),
            ),
        ),
    ),
    claim="the child sees its own group as the root; the host sees where it really is",
)


def _is_ahead(child: str, host: str, seconds: int) -> bool:
    # Both sides are asked one after the other, on a machine that may be busy.
    return abs(float(child) - float(host) - seconds) < 5


_TIME = Experiment(
    name="time",
    title="clocks with an offset",
    shows=(
        "The boot clock of the child is a day ahead and its monotonic clock an hour; the time of day is not in the "
        "namespace, and is the host's."
    ),
    trials=(
        Trial(
            flags="time",
            options={"monotonic": 3600, "boottime": 86400},
            looks=(
                Look("/proc/uptime", "cut -d ' ' -f 1 /proc/uptime"),
                Look("timens_offsets", "cat /proc/self/timens_offsets"),
                Look("date", "date +%s"),
                ns_file("time"),
            ),
            checks=(
                Check(
                    "the child's uptime is a day longer",
                    lambda c, h: _is_ahead(c["/proc/uptime"], h["/proc/uptime"], 86400 - _offset(h["timens_offsets"])),
                ),
                Check(
                    "its offsets are the ones asked for",
                    lambda c, _: (
                        [row[:2] for row in rows(c["timens_offsets"])] == [["monotonic", "3600"], ["boottime", "86400"]]
                    ),
                ),
                Check("the time of day is the same", lambda c, h: _is_ahead(c["date"], h["date"], 0)),
                new("time"),
            ),
        ),
    ),
    claim='the child was "up" a day longer than the host, at the same time of day',
)

BEYOND = (_USER, _CGROUP, _TIME)
