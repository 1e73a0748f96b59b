"""`Plan`: a checked request that can be read, compared, translated and run."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _core
from ._process import Process


class Step(NamedTuple):
    """One step of a plan."""

    #: What `SpawnError.step` would say.
    name: str
    #: The path, the map, the flags.
    detail: str
    #: Who takes it: ``"parent"``, ``"intermediate"`` or ``"child"``.
    side: str


class StepTime(NamedTuple):
    """What one step cost."""

    #: The step's name.
    name: str
    #: When it began, in nanoseconds of ``time.monotonic_ns()``'s clock.
    start: int
    #: How long it took, in nanoseconds.
    duration: int


class Plan:
    """What `nslab.plan` returns: validated and ordered, nothing cloned; it can run any number of times.

    >>> [step.name for step in nslab.plan("uts", ["true"], hostname="lab").steps][:3]
    ['clone', 'unshare_files', 'sethostname']
    """

    def __init__(self, core: _core.Plan, args: Any, keep: object = None) -> None:
        self._core = core
        # The plan knows the objects to join by their descriptors only.
        self._keep = keep
        #: What it executes, as it was given.
        self.args = args

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, in the order of execution."""
        return tuple(map(Step._make, self._core.steps))

    def __str__(self) -> str:
        return str(self._core)

    def __repr__(self) -> str:
        return f"<Plan: {' → '.join(step.name for step in self.steps)}>"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Plan) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def unshare_command(self) -> str:
        """Return the same experiment as a shell line with unshare(1); what that cannot express is in a comment."""
        return self._core.unshare_command()

    def c_source(self) -> str:
        """Return the same experiment as a C program that compiles with ``cc -Wall``; what it omits is in a comment."""
        return self._core.c_source()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ._display.twins import twins

        return twins(self)._repr_mimebundle_(include, exclude)

    def spawn(self, **stdio: Any) -> Process:
        """Run it: the keywords are ``stdin``, ``stdout``, ``stderr``, ``pipesize`` and those for text, as in `spawn`.

        Raises what `nslab.spawn` raises once the request is valid.

        >>> nslab.plan("uts", ["true"]).spawn().wait()
        0
        """
        allowed = {"stdin", "stdout", "stderr", "pipesize", "bufsize"}
        allowed |= {"text", "encoding", "errors", "universal_newlines"}
        unknown = sorted(stdio.keys() - allowed)
        if unknown:
            raise TypeError(f"{unknown[0]} is part of the plan: give it to nslab.plan() (here: {', '.join(allowed)})")
        process = Process.__new__(Process)
        process._plan, process._by_subprocess = self._core, True
        process._make(self.args, (), None, stdio)
        process._known = True
        return process
