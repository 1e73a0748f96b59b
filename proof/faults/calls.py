"""Which system calls there are to fail: as strace(1) sees them."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess

from .listener import CONTROL

_BEGUN = re.compile(r"^(\d+) +\[ *(\d+)\] ((\w+)\(.*)$")
_RESUMED = re.compile(r"^(\d+) +\[ *(\d+)\] <\.\.\. (\w+) resumed>(.*)$")


@dataclasses.dataclass
class Call:
    """One call of one process."""

    tid: int
    number: int
    name: str
    #: As strace prints it, with its result.
    text: str

    @property
    def is_control(self) -> bool:
        return self.text.startswith((f"read({CONTROL}<", f"write({CONTROL}<"))

    @property
    def failed(self) -> bool:
        return bool(re.search(r" = -1 E\w+ \([^)]*\)$", self.text))


def parse(output: str) -> list[Call]:
    """Return the calls in the order in which they began."""
    calls: list[Call] = []
    waiting: dict[int, Call] = {}
    for line in output.splitlines():
        if begun := _BEGUN.match(line):
            tid, number, text, name = begun.groups()
            call = Call(int(tid), int(number), name, text.removesuffix(" <unfinished ...>"))
            calls.append(call)
            if text.endswith(" <unfinished ...>"):
                waiting[call.tid] = call
        elif (resumed := _RESUMED.match(line)) and int(resumed[1]) in waiting:
            waiting.pop(int(resumed[1])).text += resumed[4]
    return calls


class Tracer:
    """An strace of a running process and of all it makes, until they have ended."""

    def __init__(self, pid: int, *options: str) -> None:
        self._output = os.memfd_create("strace")
        file = f"/dev/fd/{self._output}"
        command = ["strace", "-f", "-n", "-y", "-s", "200", "-o", file, *options, "-p", str(pid)]
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, pass_fds=[self._output])
        assert self._strace.stderr
        first = self._strace.stderr.readline()
        if "attached" not in first:
            raise RuntimeError(first + self._strace.stderr.read())

    def stop(self) -> None:
        """Leave them; they go on."""
        self._strace.send_signal(signal.SIGINT)

    def has_ended(self) -> bool:
        return self._strace.poll() is not None

    def calls(self) -> list[Call]:
        """Return what they did, once they have ended."""
        self._strace.communicate(timeout=30)
        with open(self._output, errors="replace") as file:
            file.seek(0)
            return parse(file.read())
