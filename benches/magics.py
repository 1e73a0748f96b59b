"""A cell with %%ns beside the same cell with %%bash, in one kernel, turn by turn: a table on stdout.

Needs the notebook's packages (`make notebooks` installs them). Exits with 1 when a bar is missed.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from notebook import Notebook, notebook

ROUNDS = 60
BAR = 1.0
SCRIPTS = {
    "nothing": "true",
    "three lines": "for i in 1 2 3; do echo line $i; done",
    "20 kB": "head -c 20000 /dev/zero | tr '\\0' x",
}
FLAGS = ["", "uts", "uts pid", "user uts pid mnt ipc"]


def seconds(kernel: Notebook, cell: str) -> float:
    """Return how long it takes from the request until the kernel is idle again."""
    start = time.perf_counter()
    for _ in kernel.outputs(kernel.send(cell)):
        pass
    assert kernel.status == "ok", cell
    return time.perf_counter() - start


def main() -> int:
    missed = False
    print(f"{'script':<12} {'cell':<30} {'median ms':>9} {'÷ %%bash':>8}")
    with notebook() as kernel:
        for name, script in SCRIPTS.items():
            cells = [f"%%bash\n{script}", *(f"%%ns {flags}\n{script}" for flags in FLAGS)]
            for cell in cells:
                seconds(kernel, cell)
            rounds = [[seconds(kernel, cell) for cell in cells] for _ in range(ROUNDS)]
            medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
            for cell, median in zip(cells, medians, strict=True):
                ratio = median / medians[0]
                missed |= ratio > BAR
                print(f"{name:<12} {cell.splitlines()[0]:<30} {median * 1000:9.2f} {ratio:8.2f}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
