"""``python -m proof.fuzzed FD EXAMPLES SEED``, in the laboratory: requests against the model; FD gets the counts."""

from __future__ import annotations

import collections
import json
import os
import sys
import traceback

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
    return [_one(one) for one in found]


def _one(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    # Behind the example, hypothesis tells which lines only failures run.
    notes = " ".join(getattr(error, "__notes__", ())).partition("Explanation:")[0]
    place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
    return " ".join(f"{type(error).__name__} at {place}: {error}. {notes}".split())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
