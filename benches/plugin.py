"""What the pytest plugin costs: import, a marked test, and a thousand of them.

    python benches/plugin.py [--runs 10]

Prints a table with the bars, and ends with status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

TESTS = """
import os
import pytest
memory = bytearray({megabytes} << 20)
for page in range(0, len(memory), 4096):
    memory[page] = 1

@pytest.fixture(scope="session", autouse=True)
def big(): yield memory

@pytest.mark.parametrize("number", range({count}))
def test_plain(number): assert number >= 0

@pytest.mark.parametrize("number", range({count}))
def test_fork(number):
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)

@pytest.mark.namespaces({mark})
@pytest.mark.parametrize("number", range({count}))
def test_marked(number): assert number >= 0
"""

TIMER = """
import time, pytest
times = {}

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    began = time.perf_counter()
    try:
        return (yield)
    finally:
        times[item.nodeid] = time.perf_counter() - began

def pytest_sessionfinish():
    import json, pathlib
    pathlib.Path("times.json").write_text(json.dumps(times))
"""


def pytest(directory: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def overhead(directory: Path, mark: str, count: int = 60) -> float:
    """Milliseconds that the mark adds to a test, in the median, in a process of 100 MB; prints what a fork takes."""
    (directory / "conftest.py").write_text(TIMER)
    (directory / "test_cost.py").write_text(TESTS.format(megabytes=80, count=count, mark=mark))
    done = pytest(directory)
    assert done.returncode == 0, done.stdout
    times = json.loads((directory / "times.json").read_text())
    medians = {
        kind: statistics.median(taken for name, taken in times.items() if kind in name)
        for kind in ("test_plain", "test_fork", "test_marked")
    }
    fork = (medians["test_fork"] - medians["test_plain"]) * 1000
    print(f"a bare fork and exit of this process: {fork:.2f} ms")
    return (medians["test_marked"] - medians["test_plain"]) * 1000


def imported() -> float:
    """Milliseconds that the plugin's import takes in a Python that has imported pytest, median of ten."""
    code = "import time, pytest; t = time.perf_counter(); import nslab._pytest.plugin; print(time.perf_counter() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(10)]
    return statistics.median(times) * 1000


def orphans() -> set[str]:
    """The processes that a run of ours could have left: shells that hold namespaces, or pytests, without a parent."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
            parent = (file.parent / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent == "1" and (b"read _" in line or b"pytest" in line):
            found.add(file.parent.name)
    return found


def thousand(directory: Path, runs: int) -> tuple[int, float]:
    """How many of these runs with two workers were not clean, and the seconds of one."""
    (directory / "conftest.py").unlink(missing_ok=True)
    text = TESTS.format(megabytes=1, count=1000, mark="'net', 'pid', 'uts', hostname='a'")
    (directory / "test_cost.py").write_text(text)
    bad, taken = 0, []
    for _ in range(runs):
        before = orphans()
        done = pytest(directory, "-n", "2", "-k", "marked", "--junitxml=junit.xml")
        suite = ElementTree.parse(directory / "junit.xml").getroot()[0].attrib
        taken.append(float(suite["time"]))
        clean = done.returncode == 0 and suite["tests"] == "1000" and orphans() <= before
        if not clean:
            print(done.stdout[-3000:])
        bad += not clean
    return bad, statistics.median(taken)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    rows = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rows.append(("import of the plugin", imported(), "ms", 10.0))
        marks = ["'user', 'net'", "'user', 'net', 'pid', 'mnt'"]
        if os.geteuid() == 0:
            marks = ["'uts'", "'net', 'pid', hostname='a'", *marks]
        rows += [(f"overhead of namespaces({mark})", overhead(directory, mark), "ms", 15.0) for mark in marks]
        if runs:
            bad, seconds = thousand(directory, runs)
            rows.append((f"1000 marked tests, -n 2: runs of {runs} not clean", float(bad), "", 0.5))
            print(f"one such run: {seconds:.1f} s")
    for what, value, unit, bar in rows:
        print(f"{what:<75} {value:8.2f} {unit:<3} bar {bar:g}  {'ok' if value < bar else 'MISSED'}")
    return any(value >= bar for _, value, _, bar in rows)


if __name__ == "__main__":
    sys.exit(main())
