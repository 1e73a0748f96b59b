"""``nslab hosts`` and ``nslab enter``: what is alive, and a program in it on the caller's terminal."""

from __future__ import annotations

import os
import sys

import nslab

from .foreground import Foreground


def list_them(*, as_json: bool) -> int:
    """Print the named hosts of this user."""
    found = nslab.hosts()
    if as_json:
        import json

        print(json.dumps([host.to_dict() for host in found], indent=2))
        return 0
    rows = [("NAME", "PID", "OWNER", "NAMESPACES")]
    rows += [(host.name, str(host.pid), str(host.owner), " ".join(host.namespaces)) for host in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, pid, owner, kinds in rows:
        print(f"{name:<{widths[0]}}  {pid:>{widths[1]}}  {owner:>{widths[2]}}  {kinds}")
    return 0


def enter(name: str, program: list[str], directory: str | None, *, is_all: bool) -> int:
    """Run the program, by default the shell, in the host of this name; return its exit status."""
    try:
        host = nslab.Host.find(name)
    except (OSError, ValueError) as error:
        print(f"nslab: {getattr(error, 'strerror', error)}", file=sys.stderr)
        return 125
    with host:
        argv = program or [os.environ.get("SHELL") or "/bin/sh"]
        return Foreground(nslab.plan(0, argv, join=host, cwd=directory), is_init=False, is_all=is_all).run()
