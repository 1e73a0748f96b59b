"""nslab beside C and its peers in one run: Markdown on stdout, JSON and a plot in target/bench.

Needs a C compiler; the picture needs matplotlib (`make bench` installs it).
"""

import argparse
import sys

import measures
import plot
import report
from contest import progress
from findings import Findings


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, less exact")
    parser.add_argument(
        "--only",
        action="append",
        choices=measures.MEASURES,
        metavar="NAME",
        help=f"one of {', '.join(measures.MEASURES)}; may be repeated",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    options = parser.parse_args()

    effort = measures.QUICK if options.quick else measures.FULL
    findings = Findings()
    measures.compile_programs()
    for name in options.only or measures.MEASURES:
        measures.MEASURES[name](findings, effort)
        progress()

    plot.save(findings, measures.BUILD / "bench")
    (measures.BUILD / "bench.json").write_text(report.as_json(findings))
    print(report.as_markdown(findings))
    missed = not all(bar.ok for bar in findings.bars)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
