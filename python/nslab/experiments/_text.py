"""The experiments of the classroom text, in its order: clone, uts, ipc, pid, mount, net."""

from __future__ import annotations

import os
import re

from ._row import Check, Experiment, Look, Trial


def ns_file(name: str) -> Look:
    """Look at which namespace each side is in: the number differs where the namespace does."""
    return Look(f"/proc/self/ns/{name}", f"readlink /proc/self/ns/{name}")


def new(name: str) -> Check:
    """Expect the child in a namespace of its own; goes with `ns_file`."""
    file = f"/proc/self/ns/{name}"
    return Check(f"the child is in a {name} namespace of its own", lambda c, h: "" != c[file] != h[file])


def _keys(table: str) -> set[str]:
    """Return the keys of ipcs(1)'s rows."""
    return set(re.findall(r"^0x\w+", table, re.MULTILINE))


def _pids(table: str) -> set[int]:
    """Return the pids of ps(1)'s rows."""
    return {int(pid) for pid in re.findall(r"^ *(\d+)", table, re.MULTILINE)}


def rows(text: str) -> list[list[str]]:
    """Return the words of each line."""
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
                ns_file("uts"),
                ns_file("pid"),
            ),
            status=7,
            checks=(
                Check("the child's pid is the one that the parent knows", lambda c, h: c["pid: $$"] == h["pid: $$"]),
                Check("the child's parent is the caller", lambda c, _: c["parent: $PPID"] == str(os.getpid())),
                Check(
                    "the child is in the host's namepaces",
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
            looks=(Look("hostname container", "hostname container", ""), Look("hostname", "hostname"), ns_file("uts")),
            checks=(Check("the child's name is container", lambda c, _: c["hostname"] == "container"), new("uts")),
            note="by hand, with hostname(1)",
            untouched={"the host's name": "uname -n"},
        ),
        Trial(
            flags="uts",
            options={"hostname": "container"},
            looks=(Look("hostname", "hostname"), ns_file("uts")),
            checks=(Check("the child's name is container", lambda c, _: c["hostname"] == "container"), new("uts")),
            note="set before the program starts",
            untouched={"the host's name": "uname -n"},
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
            looks=(Look("ipcmk -Q", "ipcmk -Q", ""), Look("ipcs -q", "ipcs -q"), ns_file("ipc")),
            checks=(
                Check("the child has one queue", lambda c, _: len(_keys(c["ipcs -q"])) == 1),
                Check("the host has no such queue", lambda c, h: not _keys(c["ipcs -q"]) & _keys(h["ipcs -q"])),
                new("ipc"),
            ),
        ),
    ),
    claim="the child's queue is not the host's, and it is gone with the child",
)

_PID = Experiment(
    name="pid",
    title="process ids from 1",
    shows="The child is process 1 and its parent, which it cannot see, is 0. The host knows it by another pid.",
    programs=("ps",),
    trials=(
        Trial(
            flags="pid",
            looks=(
                Look("pid: $$", "echo $$", "echo $child"),
                Look("parent: $PPID", "echo $PPID", "ps -o ppid= -p $child | tr -d ' '"),
                ns_file("pid"),
            ),
            checks=(
                Check("the child is process 1", lambda c, _: c["pid: $$"] == "1"),
                Check("the child sees no parent", lambda c, _: c["parent: $PPID"] == "0"),
                Check("the host knows the caller as its parent", lambda _, h: h["parent: $PPID"] == str(os.getpid())),
                new("pid"),
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
                ns_file("mnt"),
            ),
            checks=(
                Check("/ is shared in the nested host", lambda c, _: c["/ is"] == "shared"),
                new("mnt"),
            ),
            note="a nested host, whose / is shared",
            untouched={"the host's mounts": "cat /proc/self/mountinfo"},
            inside=(
                Trial(
                    flags="mnt pid",
                    options={"propagation": "unchanged"},
                    looks=(Look("mount -t proc", "mount -t proc proc /proc", ""), _PS),
                    checks=(
                        Check("the child sees itself as process 1", lambda c, _: 1 in _pids(c["ps ax"])),
                        Check("the host's ps is broken afterwards", lambda _, h: not _pids(h["ps ax"])),
                    ),
                    note="the leak, which is what a bare clone does; the nested host when the child has ended",
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
                    note='the cure, after umount /proc in the nested host; "private" is the default',
                    untouched={"the host's mounts": "cat /proc/self/mountinfo"},
                    afterwards=True,
                ),
            ),
        ),
    ),
    claim='the leak is real, propagation="private" stops it, and the mounts of your host are as before',
)

_NET = Experiment(
    name="net",
    title="a network of one's own",
    shows="A new network namespace has one device, the loopback, and it is down: without more work, no network.",
    programs=("ip",),
    trials=(
        Trial(
            flags="net",
            looks=(Look("ip -br link", "ip -br link"), ns_file("net")),
            checks=(
                Check("the child has lo", lambda c, _: "lo" in {row[0] for row in rows(c["ip -br link"])}),
                Check(
                    "every device of the child is down",
                    lambda c, _: {row[1] for row in rows(c["ip -br link"])} == {"DOWN"},
                ),
                new("net"),
            ),
        ),
        Trial(
            flags="net",
            options={"loopback": True},
            looks=(Look("ip -br addr show up", "ip -br addr show up"), ns_file("net")),
            checks=(
                Check(
                    "the child's lo is up and has an address",
                    lambda c, _: rows(c["ip -br addr show up"])[0][::2][:2] == ["lo", "127.0.0.1/8"],
                ),
                new("net"),
            ),
            note="with the loopback brought up",
        ),
    ),
    claim="lo is alone and down, until loopback=True brings it up",
)

TEXT = (_CLONE, _UTS, _IPC, _PID, _MOUNT, _NET)
