"""The experiments of the classroom text "Namespace 实验" as data: the call, what to look at, what to expect.

`EXPERIMENTS` maps names to `Experiment` rows, in the order of the text and beyond it to the namespaces that it
leaves out; ``nslab tour``, tests and notebooks read the same rows.

>>> outcome = nslab.experiments.EXPERIMENTS["pid"].run()
>>> [(row.what, row.child) for row in outcome.made[0].seen][:2]
[('pid: $$', '1'), ('parent: $PPID', '0')]
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ._observe import PACKAGES, Check, Experiment, Look, Made, Outcome, Seen, Trial

__all__ = ["EXPERIMENTS", "PACKAGES", "Check", "Experiment", "Look", "Made", "Outcome", "Seen", "Trial"]


def _file(name: str) -> Look:
    """Look at which namespace each side is in: the number differs where the namespace does."""
    return Look(f"/proc/self/ns/{name}", f"readlink /proc/self/ns/{name}")


def _new(name: str) -> Check:
    file = f"/proc/self/ns/{name}"
    return Check(f"the child is in a {name} namespace of its own", lambda c, h: "" != c[file] != h[file])


def _keys(table: str) -> set[str]:
    """Return the keys of ipcs(1)'s rows."""
    return set(re.findall(r"^0x\w+", table, re.MULTILINE))


def _pids(table: str) -> set[int]:
    """Return the pids of ps(1)'s rows."""
    return {int(pid) for pid in re.findall(r"^ *(\d+)", table, re.MULTILINE)}


def _offset(offsets: str) -> int:
    """Return the seconds of the boottime line of ``/proc/PID/timens_offsets``."""
    found = re.search(r"^boottime +(-?\d+)", offsets, re.MULTILINE)
    return int(found[1]) if found else 0


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


_PS = Look("ps ax", "ps ax -o pid,comm")

_CLONE = Experiment(
    name="clone",
    title="clone, execve, wait",
    shows=(
        "The frame of every experiment: a child is cloned, executes a program, and its parent waits for it. Without a "
        "flag it shares everything with the host: both sides give the same answers."
    ),
    trials=(
        Trial(
            flags="",
            looks=(
                Look("pid: $$", "echo $$", "echo $child"),
                Look("parent: $PPID", "echo $PPID"),
                _file("uts"),
                _file("pid"),
            ),
            status=7,
            checks=(
                Check("the child's pid is the one that the parent knows", lambda c, h: c["pid: $$"] == h["pid: $$"]),
                Check("the child's parent is the caller", lambda c, _: c["parent: $PPID"] == str(os.getpid())),
                Check(
                    "the child is in the host's namespaces",
                    lambda c, h: all("" != c[file] == h[file] for file in ("/proc/self/ns/uts", "/proc/self/ns/pid")),
                ),
            ),
        ),
    ),
    claim="one process, seen alike from both sides, and its exit status came back",
)

_UTS = Experiment(
    name="uts",
    title="a host name of one's own",
    shows="What the child does to its host name does not reach the host.",
    programs=("hostname",),
    trials=(
        Trial(
            flags="uts",
            looks=(Look("hostname container", "hostname container", ""), Look("hostname", "hostname"), _file("uts")),
            checks=(Check("the child's name is container", lambda c, _: c["hostname"] == "container"), _new("uts")),
            note="by hand, with hostname(1):",
            untouched=("hostname",),
        ),
        Trial(
            flags="uts",
            options={"hostname": "container"},
            looks=(Look("hostname", "hostname"), _file("uts")),
            checks=(Check("the child's name is container", lambda c, _: c["hostname"] == "container"), _new("uts")),
            note="set before the program starts:",
            untouched=("hostname",),
        ),
    ),
    claim="the child is called container, the host is called what it was called before",
)

_IPC = Experiment(
    name="ipc",
    title="message queues of one's own",
    shows="A message queue made in the child can be seen there, but not on the host.",
    programs=("ipcmk", "ipcs"),
    trials=(
        Trial(
            flags="ipc",
            looks=(Look("ipcmk -Q", "ipcmk -Q", ""), Look("ipcs -q", "ipcs -q"), _file("ipc")),
            checks=(
                Check("the child has one queue", lambda c, _: len(_keys(c["ipcs -q"])) == 1),
                Check("the host has no such queue", lambda c, h: not _keys(c["ipcs -q"]) & _keys(h["ipcs -q"])),
                _new("ipc"),
            ),
        ),
    ),
    claim="the child's queue is not the host's, and it is gone with the child",
)

_PID = Experiment(
    name="pid",
    title="process ids from 1",
    shows="The child is process 1, and its parent, which it cannot see, is 0. The host knows the same process as another.",
    programs=("ps",),
    trials=(
        Trial(
            flags="pid",
            looks=(
                Look("pid: $$", "echo $$", "echo $child"),
                Look("parent: $PPID", "echo $PPID", "ps -o ppid= -p $child | tr -d ' '"),
                _file("pid"),
            ),
            checks=(
                Check("the child is process 1", lambda c, _: c["pid: $$"] == "1"),
                Check("the child sees no parent", lambda c, _: c["parent: $PPID"] == "0"),
                Check("the host knows the caller as its parent", lambda _, h: h["parent: $PPID"] == str(os.getpid())),
                _new("pid"),
            ),
        ),
    ),
    claim="one process has two pids: 1 inside, an ordinary one on the host",
)

_MOUNT = Experiment(
    name="mount",
    title="mounts that leak, and how to stop them",
    shows=(
        "Where / is shared, as systemd makes it, a mount made in the child reaches the host: a /proc mounted there "
        "breaks the host's ps for as long as nobody unmounts it. To keep your host out of it, the two calls that "
        "show it are made by a Python that runs in the first."
    ),
    programs=("findmnt", "mount", "ps"),
    trials=(
        Trial(
            flags="mnt pid",
            options={"mount_proc": True},
            looks=(
                Look("mount --make-rshared /", "mount --make-rshared /", ""),
                Look("/ is", "findmnt -n -o PROPAGATION /"),
                _file("mnt"),
            ),
            checks=(
                Check("/ is shared in the nested host", lambda c, _: c["/ is"] == "shared"),
                _new("mnt"),
            ),
            note="a nested host, whose / is shared:",
            untouched=("cat /proc/self/mountinfo",),
            inside=(
                Trial(
                    flags="mnt pid",
                    options={"propagation": "unchanged"},
                    looks=(Look("mount -t proc", "mount -t proc proc /proc", ""), _PS),
                    checks=(
                        Check("the child sees itself as process 1", lambda c, _: 1 in _pids(c["ps ax"])),
                        Check("the host's ps is broken afterwards", lambda _, h: not _pids(h["ps ax"])),
                    ),
                    note="the leak, which is what a bare clone does; the nested host when the child has ended:",
                    afterwards=True,
                    repair="umount /proc",
                ),
                Trial(
                    flags="mnt pid",
                    options={"propagation": "private", "mount_proc": True},
                    looks=(_PS,),
                    checks=(
                        Check("the child sees itself as process 1", lambda c, _: 1 in _pids(c["ps ax"])),
                        Check("the host's ps works afterwards", lambda _, h: os.getpid() in _pids(h["ps ax"])),
                    ),
                    note="the cure, after umount /proc in the nested host; \"private\" is the default:",
                    untouched=("cat /proc/self/mountinfo",),
                    afterwards=True,
                ),
            ),
        ),
    ),
    claim="the leak is real, propagation=\"private\" stops it, and the mounts of your host are as before",
)

_NET = Experiment(
    name="net",
    title="a network of one's own",
    shows="A new network namespace has one device, the loopback, and it is down: without more work, no network.",
    programs=("ip",),
    trials=(
        Trial(
            flags="net",
            looks=(Look("ip -br link", "ip -br link"), _file("net")),
            checks=(
                Check("the child has lo", lambda c, _: "lo" in {row[0] for row in _rows(c["ip -br link"])}),
                Check(
                    "every device of the child is down",
                    lambda c, _: {row[1] for row in _rows(c["ip -br link"])} == {"DOWN"},
                ),
                _new("net"),
            ),
        ),
        Trial(
            flags="net",
            options={"loopback": True},
            looks=(Look("ip -br link", "ip -br link"), Look("ip -br addr", "ip -br addr show lo"), _file("net")),
            checks=(
                Check("the child's lo is up", lambda c, _: "LOOPBACK,UP" in c["ip -br link"]),
                Check("it has an address", lambda c, _: "127.0.0.1/8" in c["ip -br addr"]),
                _new("net"),
            ),
            note="with the loopback brought up:",
        ),
    ),
    claim="lo is alone and down, until loopback=True brings it up",
)


def _uid(text: str) -> bool:
    return text == str(os.geteuid())


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
                _file("user"),
            ),
            checks=(
                Check("the child is root", lambda c, _: c["uid"] == "0"),
                Check("on the host it is the caller", lambda _, h: _uid(h["uid"])),
                Check(
                    "its uid_map says so",
                    lambda c, _: c["/proc/self/uid_map"].split() == ["0", str(os.geteuid()), "1"],
                ),
                Check("it has capabilities", lambda c, _: int(c["capabilities"], 16) > 0),
                Check("it may not set the host's name", lambda c, _: c["set the host name"] != ""),
                _new("user"),
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
            note="with ids that nobody has on the host, which only root may give:",
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
            looks=(Look("/proc/PID/cgroup", "cat /proc/self/cgroup", "cat /proc/$child/cgroup"), _file("cgroup")),
            checks=(
                Check("every path is / in the child", lambda c, _: _paths(c["/proc/PID/cgroup"]) == {"/"}),
                Check(
                    "on the host it is in the caller's groups",
                    lambda _, h: h["/proc/PID/cgroup"] == Path("/proc/self/cgroup").read_text().strip(),
                ),
                _new("cgroup"),
            ),
        ),
    ),
    claim="the child sees its own group as the root; the host sees where it really is",
)


def _clocks_differ(child: str, host: str, seconds: int) -> bool:
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
                _file("time"),
            ),
            checks=(
                Check(
                    "the child's uptime is a day longer",
                    lambda c, h: _clocks_differ(
                        c["/proc/uptime"], h["/proc/uptime"], 86400 - _offset(h["timens_offsets"])
                    ),
                ),
                Check(
                    "its offsets are the ones asked for",
                    lambda c, _: [row[:2] for row in _rows(c["timens_offsets"])]
                    == [["monotonic", "3600"], ["boottime", "86400"]],
                ),
                Check("the time of day is the same", lambda c, h: _clocks_differ(c["date"], h["date"], 0)),
                _new("time"),
            ),
        ),
    ),
    claim="the child was \"up\" a day longer than the host, at the same time of day",
)

EXPERIMENTS = {row.name: row for row in (_CLONE, _UTS, _IPC, _PID, _MOUNT, _NET, _USER, _CGROUP, _TIME)}
