"""Checks of the first lab: a host name of one's own, in a child that is process 1.

nslab grade checks.py --submission right.py
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nslab import check
from nslab.grading import Run, SeenProcess, Submission


@pytest.fixture
def run(submission: Submission) -> Run:
    """What the submission did; it is run once for all checks."""
    return submission.run()


@pytest.fixture
def lab(run: Run) -> SeenProcess:
    """The process that the submission has in the variable ``lab``."""
    return run.process("lab")


def test_it_ends_without_an_error(run: Run) -> None:
    check.exited(run)


@pytest.mark.points(3)
def test_the_name_is_changed_inside(lab: SeenProcess, credit: Callable[[float], None]) -> None:
    check.isolated(lab, "uts")
    credit(1)
    check.hostname(lab, "container")


@pytest.mark.points(2)
def test_the_name_is_not_changed_outside(run: Run) -> None:
    assert run.after.hostname == run.before.hostname


@pytest.mark.points(2)
def test_the_child_is_process_1(lab: SeenProcess) -> None:
    check.is_pid1(lab)


@pytest.mark.parametrize("kind", ["net", "mnt"])
def test_nothing_else_is_isolated(lab: SeenProcess, kind: str) -> None:
    check.shares(lab, kind)


def test_it_says_what_it_sees(run: Run) -> None:
    assert run.stdout == "1 on container\n"
