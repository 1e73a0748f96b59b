"""``python -m proof.fuzzed FD EXAMPLES SEED``, in the laboratory: requests against the model; FD gets the counts."""

from __future__ import annotations

import collections
import json
import os
import sys
import traceback
from typing import Any

import hypothesis

import nslab

from . import laboratory
from .model import Request
from .requests import requests
from .trial import attempt


def main(fd: int, examples: int, seed: int) -> None:
    os.set_inheritable(fd, False)
    counts: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    with laboratory.world() as world:
        # The thread that outlives the callers of kill_child is started once.
        nslab.run("user", ["true"], kill_child=True)

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(requests(world))
        def agrees(request: Request) -> None:
            counts[attempt(world, request)] += 1

        try:
            agrees()
        except BaseException as error:
            failures += told(error)
    with os.fdopen(fd, "w") as answer:
        json.dump({"counts": counts, "failures": failures}, answer)


def told(error: BaseException) -> list[str]:
    """Say what was found with the smallest request that shows it."""
    found = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    told: list[Any] = []
    for one in found:
        text = "".join(traceback.format_exception_only(one)).strip()
        notes = " ".join(" ".join(getattr(one, "__notes__", ())).split())
        where = traceback.extract_tb(one.__traceback__)[-1]
        told.append(f"{text} ({where.filename.rpartition('/')[2]}:{where.lineno}) {notes}")
    return told


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
