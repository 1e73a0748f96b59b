"""CPython's own tests of `subprocess`, with `nslab.Popen` in place of `subprocess.Popen`.

    python tests/conformance/run.py [--check | PART-OF-A-TEST-NAME…]

The tests are those of the interpreter that runs this; ``--check`` only looks whether it has them. Here is how they are
started; `suite.py` runs them.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
MISSING = """\
{python} comes without its own tests (the module test.test_subprocess).
Debian and Ubuntu have them in the package libpython{major}.{minor}-testsuite; a slim container image has none at all.
"""


def main() -> None:
    if find_spec("test") is None or find_spec("test.test_subprocess") is None:
        sys.exit(MISSING.format(python=sys.executable, major=sys.version_info[0], minor=sys.version_info[1]))
    if sys.argv[1:] == ["--check"]:
        return
    nslab = find_spec("nslab")
    if nslab is None or nslab.origin is None:
        sys.exit(f"{sys.executable} has no nslab")
    path = [HERE / "children", Path(nslab.origin).parent.parent]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    # Some tests skip themselves where the limit is higher, and others in a virtual environment.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    # A shell without job control ignores them for what it puts into the background.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    python = sys._base_executable  # type: ignore[attr-defined]
    # The warnings are those of regrtest.
    os.execve(python, [python, "-bb", "-W", "default", str(HERE / "suite.py"), *sys.argv[1:]], env)


if __name__ == "__main__":
    main()
