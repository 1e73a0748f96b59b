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


# What belongs to one run, and may be said again at each.
_STDIO = {"stdin", "stdout", "stderr", "pipesize", "bufsize", "text", "encoding", "errors", "universal_newlines"}


class Plan:
    """What `nslab.plan` returns: validated and ordered, nothing cloned; it can run any number of times.

    >>> [step.name for step in nslab.plan("uts", ["true"], hostname="lab").steps][:3]
    ['clone', 'unshare_files', 'sethostname']
    """

    def __init__(self, core: _core.Plan, args: Any, options: dict[str, Any]) -> None:
        self._core = core
        # The plan knows the objects to join by their descriptors only.
        self._keep = options
        self._stdio = {name: options[name] for name in options.keys() & _STDIO}
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
        redirected = [name for name in ("stdin", "stdout", "stderr") if self._stdio.get(name) is not None]
        notes = [f"# {name}: that of this shell; redirect it on this line\n" for name in redirected]
        return "".join([*notes, self._core.unshare_command()])

    def c_source(self) -> str:
        """Return the same experiment as a C program that compiles with ``cc -Wall``; what it omits is in a comment."""
        return self._core.c_source()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ._display.twins import twins

        return twins(self)._repr_mimebundle_(include, exclude)

    def spawn(self, **stdio: Any) -> Process:
        """Run it: the keywords are ``stdin``, ``stdout``, ``stderr``, ``pipesize`` and those for text, as in `spawn`.

        They replace what `nslab.plan` was given for this.

        Raises what `nslab.spawn` raises once the request is valid.

        >>> nslab.plan("uts", ["true"]).spawn().wait()
        0
        """
        if unknown := sorted(stdio.keys() - _STDIO):
            here = ", ".join(sorted(_STDIO))
            raise TypeError(f"{unknown[0]} is part of the plan: give it to nslab.plan() (here: {here})")
        process = Process.__new__(Process)
        process._plan, process._by_subprocess = self._core, True
        process._make(self.args, (), None, {**self._stdio, **stdio})
        process._known = True
        return process
