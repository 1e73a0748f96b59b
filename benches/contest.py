"""Take turns: the contenders spawn in small interleaved batches, and the clocks are kept."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

BATCH = 4

# The kernel destroys net namespaces later, in batches, on whatever CPU is free. Whoever comes
# next must not pay for that.
NET_SETTLE = 0.015

CPUS = sorted(os.sched_getaffinity(0))


class RefusedError(Exception):
    """The contender cannot do this here; the text says why."""


class Life(NamedTuple):
    """CLOCK_MONOTONIC nanoseconds; `stamped` only for the payload that writes its last moment."""

    called: int
    returned: int
    reaped: int
    closed: int
    stamped: int | None = None

    @property
    def to_return(self) -> float:
        return (self.returned - self.called) / 1000

    @property
    def whole(self) -> float:
        """Spawn, wait, and give back what the two held."""
        return (self.closed - self.called) / 1000

    @property
    def wake_up(self) -> float:
        if self.stamped is None:
            raise ValueError("only the stamp payload says when it ended")
        return (self.reaped - self.stamped) / 1000


class Entrant:
    """A contender's process, driven line by line."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        # A file and not a pipe: a pipe would wake this process just when the contender is timed.
        self._log = os.memfd_create(f"{name}.stderr")
        self._log_read = 0
        self._program = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.communicate()
        os.close(self._log)

    def live(self, names: Sequence[str], payload: Path, count: int) -> list[Life]:
        assert self._program.stdin and self._program.stdout
        self._program.stdin.write(f"{','.join(names) or 'none'} {payload} {count}\n")
        self._program.stdin.flush()
        lines = [self._program.stdout.readline() for _ in range(count)]
        log = self._new_log()
        for line in lines:
            if not line:
                raise RefusedError(f"{self.name} died: {log.strip() or 'no message'}")
            if line.startswith("error"):
                raise RefusedError(line.removeprefix("error").strip())
        stamps: list[int | None] = [int(stamp) for stamp in log.split() if stamp.isdigit()]
        stamps += [None] * (count - len(stamps))
        clocks = (map(int, line.split()) for line in lines)
        return [
            Life(called, returned, reaped, closed, stamp)
            for (called, returned, reaped, closed), stamp in zip(clocks, stamps, strict=True)
        ]

    def _new_log(self) -> str:
        text = os.pread(self._log, 1 << 20, self._log_read)
        self._log_read += len(text)
        return text.decode(errors="replace")


def compete(entrants: Sequence[Entrant], names: Sequence[str], payload: Path, samples: int) -> dict[str, list[Life]]:
    """`samples` lives of each, such that the n-th lives of all were neighbours in time."""
    # Drawn anew in each round, so that nobody always goes after the same neighbour.
    order = random.Random(0)
    lives: dict[str, list[Life]] = {entrant.name: [] for entrant in entrants}
    while entrants and len(lives[entrants[0].name]) < samples:
        for entrant in order.sample(entrants, len(entrants)):
            lives[entrant.name] += turn(entrant, names, payload)
        done = len(lives[entrants[0].name])
        progress(f"{','.join(names) or 'none'} {payload.name}: {done}/{samples}")
    return lives


def turn(entrant: Entrant, names: Sequence[str], payload: Path) -> list[Life]:
    """The first life only warms caches up, and is not counted."""
    if "net" not in names:
        return entrant.live(names, payload, 1 + BATCH)[1:]
    # Without net, so that nothing has to be cleaned up while the next one is timed.
    entrant.live([], payload, 1)
    lives = entrant.live(names, payload, 1)
    time.sleep(NET_SETTLE)
    return lives


@contextmanager
def contest_cpu() -> Iterator[None]:
    """Keep what is started in here on one CPU; this process goes to the others.

    Where the scheduler happens to put a child changes a sample by a third: what is left out here.
    """
    if len(CPUS) == 1:
        yield
        return
    os.sched_setaffinity(0, CPUS[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, CPUS[:-1])


def progress(text: str = "") -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:78]}", end="", file=sys.stderr, flush=True)
