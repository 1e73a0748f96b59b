"""`SpawnError`: what failed between the call and the program, and why.

::

    OSError
    └── SpawnError
        ├── SpawnFileNotFoundError     (also FileNotFoundError)
        ├── SpawnPermissionError       (also PermissionError)
        └── …                          one for each class that OSError has for an errno
"""

from __future__ import annotations

import builtins
import errno
import os
import signal as signals


class SpawnError(OSError):
    """A step of `nslab.spawn` was refused, or the child was killed in it; nothing is left behind.

    ``errno``, ``strerror`` and ``filename`` are as in `OSError`, and the class follows the errno: a missing program is
    a `SpawnError` and a `FileNotFoundError`.

    >>> try:
    ...     nslab.spawn(0, ["/nonexistent"])
    ... except FileNotFoundError as error:
    ...     error.step, error.filename
    ('execve', '/nonexistent')
    """

    #: The step's name, as `Plan.steps` has it: ``"clone"``, ``"uid_map"``, ``"execve"``, …
    step: str = ""
    #: What the step was about: the path, the map, the flags.
    detail: str = ""
    #: The signal that killed the child during set-up; ``errno`` is None then.
    signal: int | None = None
    #: Why the kernel refuses here, and what helps.
    hint: str | None = None

    def __str__(self) -> str:
        number = "" if self.errno is None else f"[Errno {self.errno}] "
        about = self.detail if self.filename is None else repr(self.filename)
        return f"{number}{self.step}: {self.strerror}" + (f": {about}" if about else "")


def _mixed(base: type[OSError]) -> type[SpawnError]:
    """Return the class that is both, making it when first needed: there are fifteen, and most programs see none."""
    name = f"Spawn{base.__name__}"
    if base is OSError:
        return SpawnError
    if name not in globals():
        members = {"__doc__": SpawnError.__doc__, "__module__": __name__}
        globals()[name] = type(name, (SpawnError, base), members)
    made: type[SpawnError] = globals()[name]
    return made


def __getattr__(name: str) -> type[SpawnError]:
    # So that an exception from another process can be unpickled in one that has not made its class yet.
    base = getattr(builtins, name.removeprefix("Spawn"), None)
    if name.startswith("Spawn") and isinstance(base, type) and issubclass(base, OSError):
        return _mixed(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Steps whose detail is a path, which `OSError.filename` should name.
_PATHS = {"execve", "chdir", "open_ns", "mount_proc", "bind"}
# Whatever noticed it: no descriptor is left for a child.
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}


def from_core(errno: int | None, step: str, detail: str, signal: int | None) -> SpawnError:
    """Return the exception for a failed step, with its hint; called by the Rust core."""
    if errno is None:
        error = SpawnError(None, _killed_by(signal))
    else:
        text = os.strerror(errno)
        cls = _mixed(type(OSError(errno, text)))
        error = cls(errno, text, detail) if step in _PATHS else cls(errno, text)
    error.step, error.detail, error.signal = step, detail, signal
    _explain(error)
    return error


def from_os(error: OSError, step: str) -> SpawnError:
    """Return the exception for what Python could not do, before or after the clone."""
    made = from_core(error.errno, "clone" if error.errno in _NO_DESCRIPTOR else step, str(error.filename or ""), None)
    made.filename = error.filename
    return made


def _explain(error: SpawnError) -> None:
    try:
        from ._hints import explain

        explain(error)
    except (ImportError, OSError):
        return  # With no descriptor left no module can be loaded, and what a hint looks at may be closed to us.
    if error.hint:
        error.add_note(error.hint)


def _killed_by(signal: int | None) -> str:
    try:
        return f"the child was killed by {signals.Signals(signal or 0).name} during set-up"
    except ValueError:
        return f"the child was killed by signal {signal} during set-up"
