"""One wheel for every Python: what the tools of the field say of it, and the tests with it installed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .interpreters import ENVIRONMENTS, WANTED, Environment, Interpreter, at_hand
from .part import Part
from .progress import say

# Tests of the short form: every way to say what is wanted, every namespace, descriptors, errors.
CORE = ["seed", "flags", "exec", "join", "errors"]
# The file of tests that starts the second pass.
AGAIN = "tests/test_as_ordinary_user.py"
EVERY, AS_ONE = "all tests", "those for an ordinary user, as one"
MUST = {"3.11", "3.12", "3.13"}
COMPILERS = re.compile(
    r"(.*-)?(cc|c\+\+|gcc|g\+\+|c[89]9|clang.*|ld(\..*)?|as|cargo|rustc|rustup|maturin|tcc)(-[\d.]+)?"
)
# Seconds.
LONG, SHORT = 3600, 900


def prove(short: bool) -> Part:
    part = Part(
        "pythons",
        "Every Python",
        "One wheel, built once for the stable ABI of CPython 3.11, passes the tests on 3.11, 3.12, 3.13 and the newest "
        "at hand; it needs nothing but a Python.",
        ["what", "on", "result"],
    )
    if again := os.environ.get("PROOF_PYTHONS", "").split():
        return once_more(again)
    with part.timed():
        wheel = built(part)
        found = at_hand()
        regular = chosen(part, found)
        for interpreter in regular if not short else regular[-1:]:
            in_an_empty_environment(part, interpreter, wheel)
        waiting = list(regular)
        while waiting:
            interpreter = waiting.pop()
            with_the_tests(part, interpreter, wheel, short, is_newest=interpreter is regular[-1])
            if waiting and not short:
                # It takes an hour: what there is stays when it is interrupted, and does not hold.
                missing = [f"not tried: {', '.join(map(str, waiting))}"]
                dataclasses.replace(part, failures=part.failures + missing).save()
        free_threaded(part, [each for each in found.values() if each.free_threaded], wheel, short)
    return part


def once_more(minors: list[str]) -> Part:
    """Try some of the interpreters again, as 3.13 or 3.14t; what was found of the others is the last full run's."""
    part, found = Part.load("pythons"), at_hand()
    regular = [each for each in found.values() if not each.free_threaded]
    tested = ("a wheel of its own", "the GIL", "test_subprocess", EVERY, AS_ONE)
    before = part.seconds
    with part.timed():
        for interpreter in (found[minor] for minor in minors):
            part.rows = [row for row in part.rows if row[1] != str(interpreter) or not row[0].startswith(tested)]
            # A run that was interrupted does not become a whole one by this.
            failed = [each for each in part.failures if str(interpreter) in each and not each.startswith("not tried")]
            part.failures = [each for each in part.failures if each not in failed]
            say(f"pythons: {interpreter} once more")
            if interpreter.free_threaded:
                with_a_wheel_of_its_own(part, interpreter, short=False)
            else:
                with_the_tests(part, interpreter, built(Part("pythons", "", "")), False, interpreter is regular[-1])
            why = ", after what had failed there was mended" if failed else ""
            part.notes.append(f"{interpreter} was tried once more by itself{why}.")
    part.seconds += before
    return part


def chosen(part: Part, found: dict[str, Interpreter]) -> list[Interpreter]:
    """Return those that must do, and the newest; say why of the others nothing was tried."""
    regular = [each for each in found.values() if not each.free_threaded]
    newest = regular[-1]
    for minor in WANTED:
        if minor not in found:
            part.row("everything", f"CPython {minor}", "not tried: not on this machine")
    for each in regular:
        if each.minor not in MUST and each is not newest:
            part.row("everything", each, f"not tried: {newest} is newer")
    return [each for each in regular if each.minor in MUST or each is newest]


def said(command: list[str], timeout: float = SHORT) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    return done.returncode, done.stdout


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def check(part: Part, what: str, where: str, good: bool, result: str, output: str = "") -> None:
    part.row(what, where, result if good else f"**{result}**")
    part.expect(good, f"{what}, {where}: {result}\n{output[-2000:]}".strip())


# ------------------------------------------------------------------------------------------------------- the wheel


def built(part: Part) -> Path:
    status, output = said(["make", "wheel"])
    if status:
        raise RuntimeError(f"the wheel does not build: {output}")
    name = re.findall(r"dist/(\S+\.whl)", output)[-1]
    wheel = Path("dist", name).absolute()
    check(part, "one wheel for all", "maturin", "-cp311-abi3-manylinux" in name, name)
    with tempfile.TemporaryDirectory() as sdist:
        said([tool("maturin"), "sdist", "--out", sdist])
        files = [str(wheel), *map(str, Path(sdist).iterdir())]
        status, output = said([tool("twine"), "--no-color", "check", "--strict", *files])
    passed = output.count("PASSED")
    check(part, "metadata and README", "twine check --strict", (status, passed) == (0, 2), f"{passed} passed", output)
    abi(part, wheel)
    glibc(part, wheel)
    return wheel


def abi(part: Part, wheel: Path) -> None:
    status, output = said([tool("abi3audit"), "--strict", "--report", str(wheel)])
    report = json_in(output)["specs"]
    [extension] = [extension["result"] for spec in report.values() for extension in spec["wheel"]]
    computed, others = extension["computed"], len(extension["non_abi3_symbols"])
    clean = (status, computed, others) == (0, "3.11", 0)
    result = f"the stable ABI of {computed}, and {others} symbols outside of it"
    check(part, "its symbols of CPython", "abi3audit --strict", clean, result, output)


def glibc(part: Part, wheel: Path) -> None:
    """Compare the tag, which says what C library it needs, with the versions of its symbols."""
    _, output = said([tool("auditwheel"), "show", "--json", str(wheel)])
    needed = json_in(output)["overall_tag"]
    newest = max(re.findall(r"GLIBC_(\d+)\.(\d+)", output), key=lambda version: tuple(map(int, version)))
    honest = wheel.stem.endswith(needed) and needed.startswith(f"manylinux_{'_'.join(newest)}_")
    result = f"{needed}: the newest symbol is of glibc {'.'.join(newest)}"
    check(part, "its tag", "auditwheel show", honest, result, output)
    with tempfile.TemporaryDirectory() as out:
        older = ["--compatibility", "manylinux_2_17", "--auditwheel", "check"]
        status, output = said([tool("maturin"), "build", "--release", "--out", out, *older])
    refused = status != 0 and "too-recent versioned symbols" in output
    result = "refused, for its symbols" if refused else "not refused"
    check(part, "an older tag, manylinux_2_17", "maturin --auditwheel check", refused, result, output)


def json_in(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.JSONDecoder().raw_decode(output[output.index("{") :])[0]
    return found


# --------------------------------------------------------------------------------------------- an empty environment


def without_compilers(directory: Path) -> str:
    """Fill a directory with links to the programs of this machine, but for whatever compiles; return a PATH."""
    for place in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in os.scandir(place):
            if not COMPILERS.fullmatch(program.name) and not (directory / program.name).exists():
                (directory / program.name).symlink_to(program.path)
    return str(directory)


def in_an_empty_environment(part: Part, interpreter: Interpreter, wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        here.chmod(0o755)
        environment = Environment.make(interpreter, here / "env")
        output = environment.install("--no-index", "--no-deps", str(wheel)).stderr
        packages = sorted(path.name for path in (environment.directory / "lib").glob("python*/site-packages/*"))
        alone = packages == ["nslab", re.sub(r"-cp311.*", ".dist-info", wheel.name)]
        check(part, "the wheel alone installs", str(interpreter), alone, ", ".join(packages) or "nothing", output)
        (here / "bin").mkdir()
        path = f"{environment.directory}/bin:{without_compilers(here / 'bin')}"
        for who in ("root", "an ordinary user") if os.geteuid() == 0 else ("an ordinary user",):
            status, output = work(path, [here, Path(interpreter.path)], who == "an ordinary user")
            done = status == 0
            result = "nslab tour, nslab doctor, a spawn: done" if done else f"exit status {status}"
            check(part, f"without compilers, as {who}", str(interpreter), done, result, output)


SPAWN = """
import sys, nslab
assert nslab.__file__.startswith(sys.prefix), nslab.__file__
done = nslab.run("user uts", ["uname", "-n"], map_root_user=True, hostname="lab", capture_output=True, text=True)
assert done.stdout == "lab\\n", done
"""


def work(path: str, needed: list[Path], as_nobody: bool) -> tuple[int, str]:
    """Use what has been installed, with this PATH and an empty environment."""
    script = "set -e; ! command -v cc cargo rustc; nslab tour; nslab doctor; exec python -c " + shlex.quote(SPAWN)
    env = {"PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8"}
    command = ["/bin/sh", "-c", script]
    if not as_nobody or os.geteuid() != 0:
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=SHORT)
        return done.returncode, done.stdout + done.stderr
    import nslab

    sys.path.insert(0, "tests")
    from conftest import reachable_by_others

    prefixes = [str(needed[0]), str(Path(os.path.realpath(needed[1])).parent.parent)]
    drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", *command]
    inner = f"{reachable_by_others(prefixes)}\nexec {shlex.join(drop)}"
    options: dict[str, Any] = {"env": env, "cwd": "/", "capture_output": True, "text": True, "timeout": SHORT}
    ran = nslab.run("mnt", ["/bin/sh", "-c", inner], **options)
    return ran.returncode, str(ran.stdout) + str(ran.stderr)


# ------------------------------------------------------------------------------------------------------- the tests


def with_the_tests(part: Part, interpreter: Interpreter, wheel: Path, short: bool, is_newest: bool) -> None:
    environment = Environment.make(interpreter, ENVIRONMENTS / interpreter.minor)
    lacking = environment.install_with("core" if short else "suite", wheel)
    where = environment.run(["-c", "import nslab; print(nslab.__file__)"], SHORT).stdout.strip()
    part.expect(where.startswith(f"{environment.directory}/lib"), f"{interpreter} has tested {where}")
    if interpreter.free_threaded:
        keeps_it_off(part, interpreter, environment)
    if lacking:
        part.notes.append(f"{interpreter}: without {', '.join(lacking)}, of which there is no wheel for it.")
    core = {f"tests: {', '.join(CORE)}": [f"tests/test_{name}.py" for name in CORE]}
    every = {EVERY: ["tests", f"--deselect={AGAIN}"]}
    if is_newest:
        # As an ordinary user it is the same core, and other rules of the kernel: one Python will do. Beside the first
        # pass, as in `make test`; -rP for its own last line.
        every[AS_ONE] = ["-rP", AGAIN]
    with ThreadPoolExecutor() as at_once:
        passes = (core if short else every).items()
        running = [at_once.submit(run_tests, part, interpreter, environment, *each) for each in passes]
    for each in running:
        each.result()
    if short:
        return
    if not interpreter.has_tests:
        part.row("test_subprocess on nslab.Popen", interpreter, "not tried: it comes without its own tests")
        return
    done = environment.run(["tests/conformance/run.py"], LONG)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    check(part, "test_subprocess on nslab.Popen", str(interpreter), done.returncode == 0, summary, done.stdout)


def run_tests(part: Part, interpreter: Interpreter, environment: Environment, what: str, tests: list[str]) -> None:
    done = environment.run(["-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-q", *tests], LONG)
    ends = re.findall(r"^(?:=+ )?((?:\d+ \w+, )*(\d+) passed.*?)(?: =+)?$", done.stdout, re.MULTILINE)
    summary = max(ends, key=lambda end: int(end[1]))[0] if ends else done.stdout[-200:].strip() or "no output"
    say(f"pythons: {what}, {interpreter}: {summary}")
    check(part, what, str(interpreter), done.returncode == 0, summary, done.stdout)
    part.failures += [
        f"{interpreter}: {line}" for line in done.stdout.splitlines() if re.match("(FAILED|ERROR) ", line)
    ]


# --------------------------------------------------------------------------------------------------- free threading


def free_threaded(part: Part, interpreters: list[Interpreter], wheel: Path, short: bool) -> None:
    """Offer the wheel to free-threaded builds, which have not got the stable ABI of 3.11; then one of their own."""
    offline = ["--dry-run", "--no-index", "--no-deps", "--only-binary=:all:"]
    tags = ["--implementation", "cp", "--python-version", "3.14", "--abi", "cp314t"]
    with tempfile.TemporaryDirectory() as nowhere:
        pip = [sys.executable, "-m", "pip", "install", *offline, *tags, "--target", nowhere, str(wheel)]
        status, output = said(pip)
    refused = status != 0 and "is not a supported wheel" in output
    check(part, "the same wheel", "pip, tags of cp314t", refused, "refused by name" if refused else output, output)
    if not interpreters:
        part.notes.append("No free-threaded build is on this machine, so what it makes of the source was not tried.")
    for interpreter in interpreters:
        with_a_wheel_of_its_own(part, interpreter, short)


def with_a_wheel_of_its_own(part: Part, interpreter: Interpreter, short: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [tool("maturin"), "build", "--release", "--interpreter", interpreter.path, "--out", directory]
        _, output = said(command)
        wheels = list(Path(directory).glob("*.whl"))
        names = ", ".join(each.name for each in wheels)
        check(part, "a wheel of its own", str(interpreter), len(wheels) == 1, names or "none", output)
        for own in wheels:
            with_the_tests(part, interpreter, own, short, is_newest=False)


def keeps_it_off(part: Part, interpreter: Interpreter, environment: Environment) -> None:
    """Python turns the GIL on again, with a warning, for a module that has not declared that it needs none."""
    ask = "import sys, nslab; print(sys._is_gil_enabled())"
    done = environment.run(["-W", "error", "-c", ask], SHORT)
    off = done.stdout == "False\n"
    check(part, "the GIL after import nslab", str(interpreter), off, "off" if off else "on", done.stdout)
