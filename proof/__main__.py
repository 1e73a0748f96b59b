"""``python -m proof [PART …] [--short] [--page]``: run the parts, print them, and write docs/proof.md."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys

from . import page

# In the order of the page. Each is a module with ``prove(short: bool) -> Part``.
PARTS = ("faults", "soak", "concurrency", "fuzzing", "death", "differential", "pythons", "security")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof", description="Prove what nslab promises, and count.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; all of them unless named")
    parser.add_argument("--short", action="store_true", help="the form that CI runs: minutes instead of hours")
    parser.add_argument("--page", action="store_true", help="write docs/proof.md from the last full run of every part")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    # Whoever starts this in the background may have them ignored, and so would every program.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    broken = []
    for name in arguments.parts or ([] if arguments.page else PARTS):
        part = importlib.import_module(f"proof.{name}").prove(arguments.short)
        part.short = arguments.short
        if not arguments.short:
            part.save()
        print(page.section(part), flush=True)
        if not part.holds:
            broken.append(part)
    if arguments.page:
        page.write(PARTS)
    # Last, so that whoever sees only the end of it sees why.
    for part in broken:
        print(f"{part.name} does not hold:", *part.failures, sep="\n  ", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
