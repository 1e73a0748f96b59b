"""What ``%ns WORD`` shows: the pictures of a child, also when it has ended."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.display import display

import nslab
from nslab import pictures

from .cell import Cell


def show(picture: object) -> None:
    """Show it below the cell."""
    display(picture)  # type: ignore[no-untyped-call]


def plan(made: nslab.Plan) -> object:
    """Return the picture of a plan."""
    return pictures.twins(made)


@functools.cache
def privileged() -> bool:
    """Return whether this process may make namespaces of every type without a user namespace."""
    return "CAP_SYS_ADMIN" in nslab.capabilities().effective


def greeting() -> str:
    """Say in a line what is possible here."""
    found = nslab.probe()
    marks = " ".join(f"{name} {'✓' if probe.ok else '✗'}" for name, probe in found.items())
    line = f"nslab {nslab.__version__} · Linux {platform.release().partition('-')[0]} · {marks}"
    if not any(probe.ok for probe in found.values()):
        reason = found["user"].reason
        return f"{line}\nNo Linux namespace can be made here: {reason}. `%ns doctor` says what helps."
    if not all(probe.ok for probe in found.values()):
        return f"{line}\nNot everything is possible here: `%ns doctor` says why."
    if not privileged():
        return f"{line}\nYou are not root: each child gets a user namespace too, in which it is (lesson 07)."
    return line


def commands(pids: Sequence[int]) -> str:
    """Return the names of processes, with their pids."""
    return ", ".join(f"{_name(pid)} (pid {pid})" for pid in pids)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


# ------------------------------------------------------------------------------------------------------- the targets


@contextmanager
def _alive(target: Any) -> Iterator[Any]:
    """Give what can be inspected: the process, or what still is in the namespaces of a child that has ended."""
    if isinstance(target, Cell):
        with target.held.looker() as pid:
            yield pid
    else:
        yield target


def _need(targets: Sequence[Any]) -> Any:
    if not targets:
        raise LookupError("there is no child yet: run a cell with %%ns first, or name a process")
    return targets[-1]


def _sides(question: Callable[..., Any], targets: Sequence[Any]) -> list[Any]:
    """Return the answers of the host and of a target, or those of several targets."""
    answers = [question()] if len(targets) < 2 else []
    for target in targets or [_need(targets)]:
        with _alive(target) as process:
            answers.append(question(process))
    return answers


# --------------------------------------------------------------------------------------------------------- the words


def _card(targets: Sequence[Any], _names: Sequence[str]) -> None:
    _need(targets)
    show(pictures.card(nslab.compare("self", *targets)))


def _everything(names: Sequence[str]) -> None:
    if names:
        raise LookupError("this word shows the whole machine: name nothing after it")


def _tree(_targets: Sequence[Any], names: Sequence[str]) -> None:
    _everything(names)
    show(pictures.owners(nslab.lsns()))


def _pids(targets: Sequence[Any], _names: Sequence[str]) -> None:
    target = _need(targets)
    if isinstance(target, Cell) and target.poll() is not None:
        raise ProcessLookupError(
            f"process {target.pid}, which was {target.held.pids[-1]} in its pid namespace, has ended, and all in it "
            "with it: start a cell with --bg, or use nslab.shell(), to look at it while it runs"
        )
    show(pictures.pids(nslab.processes(target)))


def _mounts(targets: Sequence[Any], _names: Sequence[str]) -> None:
    before, after = _sides(nslab.mounts, [_need(targets)])
    show(pictures.mounts(before.diff(after)))


def _propagation(targets: Sequence[Any], names: Sequence[str]) -> None:
    diff = [target for target in targets if hasattr(target, "added")] or None
    named = [(target, name) for target, name in zip(targets, names, strict=False) if not hasattr(target, "added")]
    shown = [target for target, _ in named] or [_need(targets)]
    called = [name for _, name in named] or ["child"]
    mounts = _sides(nslab.mounts, shown)
    show(pictures.propagation(*mounts, diff=diff, names=["host", *called][-len(mounts) :]))


def _cgroup(targets: Sequence[Any], _names: Sequence[str]) -> None:
    with _alive(_need(targets)) as process:
        show(pictures.cgroup(nslab.cgroup(process)))


def _users(targets: Sequence[Any], _names: Sequence[str]) -> None:
    with _alive(_need(targets)) as process:
        show(pictures.users(nslab.id_maps(process), nslab.capabilities(process)))


def _net(targets: Sequence[Any], _names: Sequence[str]) -> None:
    show(pictures.network(*_sides(nslab.network, targets)))


def _ipc(targets: Sequence[Any], _names: Sequence[str]) -> None:
    show(pictures.ipc(*_sides(nslab.ipc, targets)))


def _clocks(targets: Sequence[Any], _names: Sequence[str]) -> None:
    show(pictures.clocks(*_sides(nslab.clocks, targets)))


def _doctor(_targets: Sequence[Any], names: Sequence[str]) -> None:
    _everything(names)
    from .._cli.doctor import table

    print("\n".join(table(nslab.probe())))


def _show(targets: Sequence[Any], _names: Sequence[str]) -> None:
    target = _need(targets)
    if not hasattr(target, "show"):
        raise LookupError("only what a cell or a shell of nslab runs has its output kept")
    target.show()


def _kill(targets: Sequence[Any], _names: Sequence[str]) -> None:
    target = _need(targets)
    ended = getattr(target, "end", getattr(target, "close", None))
    if ended is None:
        raise LookupError("only what a cell or a shell of nslab runs is ended by %ns kill")
    ended()
    print(f"ended: process {target.pid} and everything that it had started")


@dataclass(frozen=True)
class View:
    """One word of ``%ns``."""

    #: Takes the targets, and how they were named.
    function: Callable[[Sequence[Any], Sequence[str]], None]
    shows: str


VIEWS = {
    "card": View(_card, "which of the eight namespaces it shares with the host"),
    "tree": View(_tree, "every namespace on the machine, under the user namespace that owns it"),
    "pids": View(_pids, "its processes, with the pid that each has on every level"),
    "mounts": View(_mounts, "what differs between the host's mounts and its own"),
    "propagation": View(_propagation, "which of their mounts are in one peer group, and so pass mounts on"),
    "users": View(_users, "who it is, inside and outside, and what it may do"),
    "net": View(_net, "the links, addresses and routes of the host and of the child"),
    "ipc": View(_ipc, "the message queues, semaphores and shared memory of the host and of the child"),
    "clocks": View(_clocks, "the clocks of the host and of the child"),
    "cgroup": View(_cgroup, "its control groups, by their paths inside and outside"),
    "doctor": View(_doctor, "what the kernel allows here, and why not where it does not"),
    "show": View(_show, "the output of a child in the background, as far as it was not shown"),
    "kill": View(_kill, "end it and everything that it has started"),
}
HELP = (
    "Show the last child, or the processes that are named.\n\n::\n\n  %ns WORD [variable or pid ...]\n\n"
    + "\n".join(f"  {word:<8} {view.shows}" for word, view in VIEWS.items())
)
