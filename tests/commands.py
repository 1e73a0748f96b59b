"""The command as its users call it: piped, and on a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, "-m", "nslab"]


def command(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, **options)


def output(*words: str, **options: Any) -> str:
    done = command(*words, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.rstrip("\n")


def usage_error(*words: str) -> str:
    """Return the sentence of a usage error: below one line of usage, no traceback, status 2."""
    done = command(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    usage, sentence = done.stderr.splitlines()
    assert usage.startswith("usage: nslab")
    return sentence


def on_terminal(*words: str, ready: bytes = b"", keys: bytes = b"", **env: str) -> tuple[bytes, int]:
    """Run the command on a terminal of its own; type ``keys``, one by one and again, once it has written ``ready``."""
    master, slave = pty.openpty()
    argv = ["setsid", "--ctty", *COMMAND, *words]
    process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **env})
    os.close(slave)
    said = b""
    try:
        while True:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    said += os.read(master, 65536)
                except OSError:  # EIO: nobody has the terminal open any more
                    break
            elif keys and ready in said:
                os.write(master, keys)
    finally:
        os.close(master)
    return said, process.wait()
