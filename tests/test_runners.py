"""Who forks and ends before anybody has looked at him: nothing that ends processes lets his children go on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import with_user
from nested import interpreter

import nslab
from nslab import _warden

pytestmark = pytest.mark.unprivileged

# The first ends at once. Those after him hand on within half a millisecond each: reading /proc takes longer.
_RUNNER = [
    sys.executable,
    "-c",
    """
import os, time
for number in range(4):
    if os.fork():
        os._exit(0)
    time.sleep(0.0005 if number else 0)
time.sleep(60)
""",
]


@contextmanager
def baton() -> Iterator[int]:
    """Give the writing end of a pipe; at the end, nobody has it any more."""
    reader, writer = os.pipe()
    try:
        yield writer
        os.close(writer)
        poll = select.poll()
        poll.register(reader, 0)
        assert poll.poll(10_000) == [(reader, select.POLLHUP)]
    finally:
        os.close(reader)


def test_by_its_word() -> None:
    word = f"{_warden.owner()}/runner"
    for _ in range(10):
        with baton() as writer:
            subprocess.run(_RUNNER, env=_warden.environment(word), pass_fds=[writer], check=True)
            _warden.end_marked(word)


def test_in_a_host() -> None:
    flags, options = with_user("uts", {})
    for _ in range(10):
        with baton() as writer, nslab.Host(flags, **options) as host:
            host.run(_RUNNER, pass_fds=[writer], check=True)


def owner(flags: int, options: dict[str, Any], runner: list[str], writer: int) -> None:
    host = nslab.Host(flags, **options)
    host.run(runner, pass_fds=[writer], check=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_when_the_owner_of_a_host_is_killed() -> None:
    for _ in range(10):
        with baton() as writer:
            command = interpreter(owner, *with_user("uts", {}), _RUNNER, writer)
            assert subprocess.run(command, pass_fds=[writer], check=False).returncode == -signal.SIGKILL
