"""A host that may be changed: own namespaces of every kind but time, in which requests are tried without danger.

`inside` starts a module in it, as its root or as an ordinary user, and returns what that says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nslab

from .world import PLACE, PROGRAM, REPORT, Seen, World, look, read_report

ROOT = os.geteuid() == 0
# Where hypothesis is.
PACKAGES = f"{sys.prefix}/fuzz"
SOURCE = Path(__file__).with_name("report.c")

# What the requests can name: something of every kind, and mounts of every propagation.
_PLACES = f"""
mount -t tmpfs -o mode=755 laboratory {PLACE}
cd {PLACE}
cp "$program" report; : >seen; echo text >file; printf 'echo no first line\\n' >script
chmod 755 report script; chmod 666 seen; chmod 644 file
mkdir -m 755 directory proc shared slave unbindable; mkdir -m 1777 scratch; mkdir -m 700 closed; mkdir closed/inner
mount -t tmpfs shared shared; mount --make-shared shared
mount --bind shared slave; mount --make-slave slave
mount -t tmpfs unbindable unbindable; mount --make-unbindable unbindable
printf 'root:500000:65536\\nnobody:100000:65536\\n' >subids; chmod 644 subids
for file in /etc/subuid /etc/subgid; do [ ! -e $file ] || mount --bind subids $file; done
cd "$OLDPWD"
"""
_ORDINARY = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all"


def compiled() -> str:
    """Compile the program that reports and return its path."""
    program = Path("target/proof/report")
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", str(program), str(SOURCE)], check=True)
    return str(program.absolute())


def inside(module: str, *arguments: str, ordinary: bool = False) -> dict[str, Any]:
    """Run ``python -m proof.MODULE FD ARGUMENT…`` in it and return what it writes to the descriptor, as JSON."""
    read, write = os.pipe()
    command = [sys.executable, "-m", f"proof.{module}", str(write), *arguments]
    script = f"set -e\nprogram={shlex.quote(compiled())}\n{_reachable()}\n{_PLACES}"
    own = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": PACKAGES, "TMPDIR": "/tmp", "HOME": "/tmp"}
    script += f"exec {_ORDINARY if ordinary else ''} {shlex.join(command)}"
    options: dict[str, Any] = {"map_users": "all", "map_groups": "all"} if ROOT else {"map_root_user": True}
    argv, flags = ["sh", "-c", script], "user mnt uts net ipc pid cgroup"
    with nslab.spawn(
        flags, argv, init=True, mount_proc=True, pass_fds=[write], env={**os.environ, **own}, kill_child=True, **options
    ) as process:
        os.close(write)
        with open(read) as answer:
            text = answer.read()
        if process.wait() != 0:
            raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}")
    return json.loads(text)  # type: ignore[no-any-return]


def _reachable() -> str:
    sys.path.append("tests")
    from conftest import reachable_by_others

    return reachable_by_others([str(Path.cwd()), sys.prefix, sys.base_prefix])


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Return what there is inside; while the block runs, there is also a process to join."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
    kinds = "--user --map-root-user --mount --uts --ipc --net --pid --cgroup --time --fork --kill-child"
    # Its /proc is the laboratory's, in which whoever joins its mount namespace alone finds himself.
    setup = f"hostname joined; ip link set lo up; {PROGRAM} {REPORT} 0; read -r end"
    command = ["unshare", *kinds.split(), "--monotonic=1000", "--boottime=2000", "--", "sh", "-c", setup]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as holder:
        while not REPORT.read_text().endswith("}\n"):
            os.sched_yield()
            assert holder.poll() is None, "unshare(1) has failed"
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        yield look(int(children[0]), Seen(read_report().values))
