"""Functions that tests have called in other interpreters: without pytest, whose import takes longer than a call."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


def about() -> tuple[int, str, int]:
    """Return what namespaces show: pid, host name, uid."""
    return os.getpid(), os.uname().nodename, os.getuid()


def double(value: Any) -> Any:
    return value * 2


def same(value: Any) -> Any:
    return value


def modules() -> set[str]:
    return set(sys.modules)


def say(*lines: str) -> None:
    for number, line in enumerate(lines):
        print(line, file=sys.stderr if number % 2 else sys.stdout)


def say_by_a_program(text: str) -> None:
    print("first")
    sys.stdout.flush()
    subprocess.run(["echo", text], check=True)
    print("last", end="")


def write(data: bytes) -> None:
    os.write(1, data)


class TwoArgumentsError(Exception):
    """Pickled easily, but not loaded: its `__init__` wants more than `args` has."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail(text: str) -> None:
    error = ValueError(text)
    error.add_note("a note")
    raise error


def fail_from(text: str) -> None:
    try:
        fail("the first one")
    except ValueError as error:
        raise LookupError(text) from error


def fail_badly() -> None:
    raise TwoArgumentsError("one", "two")


def leave(code: Any) -> None:
    sys.exit(code)


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def lock() -> Any:
    return threading.Lock()


def hang() -> None:
    time.sleep(60)


def touch_and_hang(path: str) -> None:
    Path(path).touch()
    time.sleep(60)


def hang_with_a_child(path: str, fd: int) -> None:
    """Never end; nor does the child, which has the descriptor."""
    with subprocess.Popen(["sleep", "60"], pass_fds=[fd]):
        Path(path).touch()


def write_at_once(path: str, text: str) -> None:
    Path(path + ".new").write_text(text)
    Path(path + ".new").rename(path)


def write_pid_and_hang(path: str) -> None:
    write_at_once(path, str(os.getpid()))
    time.sleep(60)


def fork_and_return() -> str:
    return "child" if os.fork() == 0 else "parent"


def links_of_a_program() -> str:
    """Return what the descriptors of a program are that is started without closing any."""
    command = ["sh", "-c", "ls -l /proc/self/fd"]
    return subprocess.run(command, close_fds=False, check=True, stdout=subprocess.PIPE, text=True).stdout


def close_everything() -> None:
    os.closerange(3, 1000)


def leave_a_child() -> int:
    return subprocess.Popen(["sleep", "60"]).pid


def read_line() -> str:
    return input()


def at_exit(path: str) -> None:
    import atexit

    atexit.register(Path(path).write_text, "done")


state: list[Any] = []


def remember(value: Any) -> list[Any]:
    """Return all that this interpreter was given so far."""
    state.append(value)
    return state


def pid_and(value: Any) -> tuple[int, Any]:
    return os.getpid(), value


def wait_for(path: str) -> str:
    """Return once the file is there."""
    while not Path(path).exists():
        time.sleep(0.001)
    return path


def touch_and_wait_for(path: str, other: str) -> str:
    Path(path).touch()
    return wait_for(other)


def hostname_after(name: str) -> str:
    """Change the host name; return what it was."""
    import socket

    before = socket.gethostname()
    socket.sethostname(name)
    return before


def raise_(error: BaseException) -> None:
    raise error


def say_and_wait_for(path: str) -> None:
    print("here")
    wait_for(path)


def pid_of(_: object) -> int:
    """Return the pid; `os.getpid` takes no argument."""
    return os.getpid()


def broken() -> Any:
    """Return what another interpreter cannot load: a class that only this one has."""

    class OnlyThere: ...

    OnlyThere.__qualname__ = OnlyThere.__name__ = "only_there"
    globals()["only_there"] = OnlyThere
    return OnlyThere
