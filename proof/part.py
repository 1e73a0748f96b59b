"""What a part of the proof hands over: a table, the words around it, and whether it holds."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

DIRECTORY = Path("target/proof")


def seed(short: bool) -> int:
    """Return what all that is random in a run comes from; PROOF_SEED repeats a run.

    Each full run is a new one. The short one always draws the same, for it is to tell what a change has broken.
    """
    return int(os.environ.get("PROOF_SEED") or (0 if short else random.SystemRandom().randrange(2**32)))


@dataclasses.dataclass
class Part:
    """One section of docs/proof.md.

    ``holds`` is False as soon as one expectation failed; ``failures`` says which, in words.
    ``kernel`` is what the kernel itself prevents, each with its reason.
    """

    name: str
    title: str
    claim: str
    columns: list[str] = dataclasses.field(default_factory=list)
    rows: list[list[str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    kernel: list[str] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    short: bool = False
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.failures

    def row(self, *cells: object) -> None:
        self.rows.append([str(cell) for cell in cells])

    def expect(self, condition: bool, failure: str) -> None:
        if not condition:
            self.failures.append(failure)

    @contextmanager
    def timed(self) -> Iterator[Self]:
        start = time.monotonic()
        try:
            yield self
        finally:
            self.seconds = time.monotonic() - start

    def save(self) -> None:
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        (DIRECTORY / f"{self.name}.json").write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, name: str) -> Self:
        return cls(**json.loads((DIRECTORY / f"{name}.json").read_text()))
