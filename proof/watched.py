"""A check in a fresh interpreter with a watchdog: it never hangs, but fails with the stack of every thread."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import IO, Any, TypeVar

T = TypeVar("T")

PR_SET_PDEATHSIG = 1
# Seconds for an interpreter whose own watchdog has not ended it.
_GRACE = 10.0
_SHOWN = 4000


class CheckError(Exception):
    """The check raised, died or hung; the text says how."""


def watched(function: Callable[..., T], *args: Any, seconds: float, python: str = sys.executable, path: str = "") -> T:
    """Call ``function(*args)`` in another interpreter and return what it returns, both by way of JSON.

    Another ``python`` finds nslab in the directory ``path``.

    Raises `CheckError` if it raises, dies, or has not returned after ``seconds``. Its session ends with it.
    """
    with _file() as answer, _file() as words, tempfile.TemporaryDirectory() as directory:
        files = [answer.fileno(), words.fileno()]
        call = json.dumps([function.__module__, function.__qualname__, args, seconds, *files])
        env = {**os.environ, "TMPDIR": directory, **({"PYTHONPATH": path} if path else {})}
        process = subprocess.Popen(
            [python, "-m", "proof.watched", call], env=env, pass_fds=files, start_new_session=True
        )
        try:
            returncode = process.wait(seconds + _GRACE)
        except subprocess.TimeoutExpired:
            returncode = None
        finally:
            _end_session(process)
        if returncode != 0:
            raise CheckError(f"{function.__name__}: {_ending(returncode)}\n{_read(words)[-_SHOWN:]}".strip())
        returned: T = json.loads(_read(answer))
        return returned


def _end_session(process: subprocess.Popen[bytes]) -> None:
    # One of our own: whoever is in it keeps the number from being used again.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _file() -> IO[str]:
    return tempfile.TemporaryFile("w+")


def _ending(returncode: int | None) -> str:
    if returncode is None:
        return "it hung, and its watchdog too"
    return f"killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"status {returncode}"


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    module, name, args, seconds, answer_fd, words_fd = json.loads(sys.argv[1])
    for fd in (answer_fd, words_fd):
        os.set_inheritable(fd, False)
    # Nobody ever writes: who reads from it lives as long as this process, and no longer.
    os.dup2(os.pipe()[0], 0)
    with open(answer_fd, "w") as answer, open(words_fd, "w") as words:
        # A thread without Python's lock: it runs also while that is held for ever.
        faulthandler.dump_traceback_later(seconds, exit=True, file=words)
        faulthandler.enable(words)
        try:
            value = getattr(importlib.import_module(module), name)(*args)
        except BaseException:
            traceback.print_exc(file=words)
            words.flush()
            os._exit(1)
        json.dump(value, answer)
        answer.flush()
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
