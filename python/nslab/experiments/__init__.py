"""The experiments of the classroom text "Namespace 实验" as data: what to call, what to look at on both sides, what to expect.

`EXPERIMENTS` maps names to `Experiment` rows in the order of the text; ``nslab tour``, tests and notebooks read the same rows.

>>> outcome = nslab.experiments.EXPERIMENTS["uts"].run()
>>> [(row.what, row.child) for row in outcome.made[0].seen][:1]
[('hostname', 'container')]
"""
