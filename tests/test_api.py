"""The public surface: names, signatures, tables that must agree, what an import costs."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nslab
from nslab import _core, _process

PACKAGE = Path(nslab.__file__).parent
KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
# As linux/sched.h has them.
BITS = {
    "CLONE_NEWTIME": 0x00000080,
    "CLONE_NEWNS": 0x00020000,
    "CLONE_NEWCGROUP": 0x02000000,
    "CLONE_NEWUTS": 0x04000000,
    "CLONE_NEWIPC": 0x08000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
}
PROMISED = {
    *BITS,
    *("Namespace", "spawn", "run", "plan", "Plan", "Step", "Process", "Popen", "StepTime", "SpawnError"),
    *("NamespaceId", "namespaces", "probe", "Probe", "PIPE", "DEVNULL", "STDOUT"),
    *("CompletedProcess", "CalledProcessError", "TimeoutExpired", "SubprocessError"),
    *("call", "Executor", "WorkerDied", "aspawn", "arun", "AsyncProcess"),
}


def test_everything_that_is_promised_is_public() -> None:
    assert set(nslab.__all__) >= PROMISED
    assert len(nslab.__all__) == len(set(nslab.__all__))
    assert set(nslab.__all__) <= set(dir(nslab))
    for name in nslab.__all__:
        assert getattr(nslab, name) is not None


def test_a_star_import_gives_exactly_that() -> None:
    names: dict[str, object] = {}
    exec("from nslab import *", names)
    assert set(names) - {"__builtins__"} == set(nslab.__all__)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'spwan'"):
        nslab.spwan  # type: ignore[attr-defined] # noqa: B018


def test_every_public_thing_is_documented() -> None:
    for name in nslab.__all__:
        thing = getattr(nslab, name)
        if getattr(thing, "__module__", "").startswith("nslab"):
            assert thing.__doc__, name


def test_the_version_is_that_of_the_distribution() -> None:
    assert nslab.__version__ == importlib.metadata.version("nslab")


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "_core.pyi").exists()


def test_the_streams_are_those_of_subprocess() -> None:
    for name in ("PIPE", "DEVNULL", "STDOUT", "CompletedProcess", "CalledProcessError", "TimeoutExpired"):
        assert getattr(nslab, name) is getattr(subprocess, name)


def test_spawn_takes_what_popen_takes_and_the_options_of_the_table() -> None:
    windows = {"startupinfo", "creationflags"}
    popen = inspect.signature(subprocess.Popen.__init__).parameters
    theirs = set(popen) - {"self", "args"} - windows
    ours = inspect.signature(nslab.spawn).parameters
    assert set(ours) == {"flags", "argv"} | theirs | set(_process.OPTIONS)
    assert list(ours)[:2] == ["flags", "argv"]
    for name, parameter in ours.items():
        keyword_only = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert keyword_only == (name not in ("flags", "argv")), name
    for name in theirs:
        assert ours[name].default == popen[name].default, name


@pytest.mark.parametrize("option", _process.OPTIONS)
def test_every_option_is_off_by_default_and_known_to_the_core(option: str) -> None:
    default = inspect.signature(nslab.spawn).parameters[option].default
    assert default is None or default is False
    plain = nslab.plan("all", ["true"])
    assert nslab.plan("all", ["true"], **{option: default}) == plain
    with pytest.raises(TypeError, match=option + "s"):
        nslab.plan("all", ["true"], **{option + "s": default})


@pytest.mark.parametrize("call", [nslab.spawn, nslab.run, nslab.plan, nslab.Popen])
def test_an_unknown_option_is_a_type_error_that_names_it(call: Callable[..., object]) -> None:
    arguments = (["true"],) if call is nslab.Popen else (0, ["true"])
    with pytest.raises(TypeError, match="hostnam"):
        call(*arguments, hostnam="lab")


@pytest.mark.parametrize("call", [nslab.spawn, nslab.run, nslab.plan])
def test_options_are_keywords(call: Callable[..., object]) -> None:
    with pytest.raises(TypeError):
        call("uts", ["true"], "lab")


def test_run_adds_what_subprocess_run_adds() -> None:
    added = {"input", "capture_output", "timeout", "check"}
    assert added <= set(inspect.signature(nslab.run).parameters)
    assert added <= set(inspect.signature(subprocess.run).parameters)


def test_a_process_is_a_popen() -> None:
    assert nslab.Popen is nslab.Process
    with nslab.spawn("uts", ["true"]) as process:
        assert isinstance(process, subprocess.Popen)
        assert type(process) is nslab.Process
    done = nslab.run("uts", ["true"])
    assert type(done) is subprocess.CompletedProcess


def test_popen_takes_the_arguments_of_subprocess_in_their_places() -> None:
    with nslab.Popen(["zero", "-c", "echo $0"], -1, "/bin/sh", None, subprocess.PIPE, flags="uts") as process:
        assert process.communicate()[0] == b"zero\n"


@pytest.mark.parametrize("call", [nslab.spawn, nslab.run, nslab.plan])
def test_preexec_fn_is_refused_with_what_to_use_instead(call: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="preexec_fn") as caught:
        call("uts", ["true"], preexec_fn=lambda: None)
    assert {"start_new_session", "umask", "user"} <= set(str(caught.value).replace(",", " ").split())


def test_the_two_tables_of_namespaces_agree() -> None:
    rows = _core.table()
    assert [row[0] for row in rows] == KINDS == [member.name.lower() for member in nslab.Namespace if member.name][:8]
    for name, bit, c_name, switch, manual, since, isolates in rows:
        assert nslab.Namespace[name.upper()] == bit == BITS[c_name] == getattr(nslab, c_name)
        assert switch.startswith("--")
        assert manual.endswith("_namespaces(7)")
        assert tuple(map(int, since.split("."))) >= (2, 4)
        assert isolates
    assert sum(BITS.values()) == nslab.Namespace.ALL
    assert {member.name for member in nslab.Namespace} == {kind.upper() for kind in KINDS}


def test_the_bits_are_those_of_python_where_it_has_them() -> None:
    theirs = {name: getattr(os, name) for name in dir(os) if name.startswith("CLONE_NEW")}
    assert theirs == {name: BITS[name] for name in theirs}
    assert bool(theirs) == (sys.version_info >= (3, 12))


def loaded_by(statements: str) -> set[str]:
    """Return the modules that these load in a fresh interpreter which has `subprocess` already."""
    code = f"import subprocess, sys; before = set(sys.modules); {statements}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


SLOW = {"dataclasses", "typing", "inspect", "asyncio", "re", "importlib.metadata", "pathlib", "json"}


@pytest.mark.parametrize("statements", ["import nslab", "import nslab; nslab.spawn('uts', ['true']).wait()"])
def test_an_import_and_a_plain_call_load_little(statements: str) -> None:
    loaded = loaded_by(statements)
    assert not loaded & SLOW
    assert all(name.split(".")[0] in {"nslab", *sys.stdlib_module_names} for name in loaded)


def test_what_is_loaded_late_is_loaded_once_asked_for() -> None:
    assert "dataclasses" in loaded_by("import nslab; nslab.NamespaceId")
    assert "nslab._hints" not in loaded_by("import nslab")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in PACKAGE.glob(folder))


FRONT_DOORS = sources("__main__.py", "_cli/*.py", "dask.py", "experiments/*.py", "_magics/*.py", "pytest_plugin.py")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (level, name) of everything a module imports: level 0 is absolute, 1 its own package, …"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
            yield from ((node.level, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", FRONT_DOORS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_front_doors_use_only_what_is_public(path: Path) -> None:
    tree = ast.parse(path.read_text())
    depth = len(path.relative_to(PACKAGE).parts)
    for level, name in imported(tree):
        parts = name.split(".")
        if level == 0 and parts[0] == "nslab":
            assert not any(part.startswith("_") for part in parts[1:]), name
        # A package's own modules; what one front door has for another; from `__main__`, the command itself.
        shared = "_cli" if depth == 1 else "_cli.switches _cli.doctor.table _warden _lock"
        assert level < depth or any(one.startswith(name) or name.startswith(one) for one in shared.split()), name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nslab":
            assert not node.attr.startswith("_") or node.attr.startswith("__"), node.attr


@pytest.mark.parametrize("leaf", ["_errors.py", "_namespace.py"])
def test_leaves_load_nothing_of_the_package(leaf: str) -> None:
    tree = ast.parse((PACKAGE / leaf).read_text())
    top: list[Any] = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert all(getattr(node, "level", 0) == 0 for node in top)
    assert not any(name.startswith("nslab") for node in top for _, name in imported(node))


def test_the_front_doors_are_found() -> None:
    assert {path.name for path in FRONT_DOORS} >= {"__main__.py", "doctor.py", "tour.py", "magics.py"}
