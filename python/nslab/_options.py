"""Turns the options of `nslab.spawn` into what the core takes."""

from __future__ import annotations

import math
import operator
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NANO = 1_000_000_000


def name(value: str | bytes) -> bytes:
    """Return a host or domain name as bytes."""
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"a name must be str or bytes, not {type(value).__name__}")
    return os.fsencode(value)


def mount_point(value: bool | str | bytes | os.PathLike[Any]) -> str | bytes | None:
    """Return where to mount proc(5): ``True`` is ``/proc``, ``False`` is nowhere."""
    if value is False:
        return None
    return "/proc" if value is True else os.fspath(value)


def death_signal(value: bool | int) -> int | None:
    """Return the signal for ``kill_child``: ``True`` is SIGKILL, ``False`` is none."""
    if value is False:
        return None
    return int(signal.SIGKILL) if value is True else operator.index(value)


def clock_offset(value: Any) -> tuple[int, int]:
    """Return (seconds, nanoseconds), the latter not negative, of an int, a float or a ``datetime.timedelta``."""
    if hasattr(value, "total_seconds"):
        micros = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
        return _in_range(*divmod(micros * 1_000, _NANO))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a clock offset must be a finite number of seconds, not {value}")
        whole = math.floor(value)
        return _in_range(*divmod(whole * _NANO + round((value - whole) * _NANO), _NANO))
    if isinstance(value, int) and not isinstance(value, bool):
        return _in_range(value, 0)
    raise TypeError(f"a clock offset must be an int, a float or a timedelta, not {type(value).__name__}")


def _in_range(seconds: int, nanoseconds: int) -> tuple[int, int]:
    if not -(2**63) <= seconds < 2**63:
        raise ValueError(f"a clock offset of {seconds} seconds is beyond what the kernel takes")
    return seconds, nanoseconds


def namespaces_to_join(value: Any) -> list[Any]:
    """Flatten every form that ``join`` takes into descriptors, paths and namespace ids."""
    if hasattr(value, "_to_join"):
        return value._to_join()  # type: ignore[no-any-return]
    from ._inspect.ids import NamespaceId, current

    if isinstance(value, NamespaceId):
        return [value.key()]
    if isinstance(value, Mapping):
        # The caller is in these already; to enter one's own user namespace is an error (EINVAL).
        own = current()
        return [item.key() for item in value.values() if own.get(item.type) != item]
    if isinstance(value, (str, bytes, os.PathLike)):
        return [os.fspath(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if hasattr(value, "fileno"):
        return [value.fileno()]
    if isinstance(value, Iterable):
        return [found for item in value for found in namespaces_to_join(item)]
    raise TypeError(
        "join takes a Process, a NamespaceId or a mapping of them, a path, an object with fileno(), an open fd, "
        f"or a sequence of those, not {type(value).__name__}"
    )


def say_encoding(options: dict[str, Any]) -> None:
    """Fill in the default encoding of text streams with the warning of ``-X warn_default_encoding``.

    `subprocess` would do it too, but blame the line of ours that calls it instead of the user's.
    """
    text = any(map(options.get, ("text", "universal_newlines", "errors")))
    if not text or options.get("encoding") is not None:
        return
    import locale

    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in {"nslab", "subprocess"}:
        frame, level = frame.f_back, level + 1
    warnings.warn("'encoding' argument not specified.", EncodingWarning, level)
    options["encoding"] = "utf-8" if sys.flags.utf8_mode else locale.getencoding()
