"""The experiments of the classroom text "Namespace 实验" as data: the call, what to look at, what to expect.

`EXPERIMENTS` maps names to `Experiment` rows, in the order of the text and beyond it to the namespaces that it leaves
out; `run` makes one. ``nslab tour``, tests and notebooks read the same rows.

>>> from nslab.experiments import EXPERIMENTS, run
>>> [(row.what, row.child) for row in run(EXPERIMENTS["pid"]).made[0].seen][:2]
[('pid: $$', '1'), ('parent: $PPID', '0')]
"""

from __future__ import annotations

from ._beyond import BEYOND
from ._observe import PACKAGES, run
from ._row import Check, Experiment, Look, Made, Outcome, Seen, Trial
from ._text import TEXT

__all__ = ["EXPERIMENTS", "PACKAGES", "Check", "Experiment", "Look", "Made", "Outcome", "Seen", "Trial", "run"]

EXPERIMENTS = {experiment.name: experiment for experiment in (*TEXT, *BEYOND)}
