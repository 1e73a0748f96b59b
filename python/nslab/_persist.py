"""Binds namespaces to files, which keep them without any process, as ``unshare --net=FILE`` and ip-netns(8) do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from . import _core
from ._inspect.ids import NamespaceId, current
from ._namespace import names, parse_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._namespace import Flags


def persist(holder: Any, directory: Any, kinds: Flags = None) -> None:
    """Bind the namespaces of a process to files in ``directory``, named after their types, until `unpersist`.

    ``holder`` is a `Process`, a `Host`, or a mapping as `nslab.namespaces` returns it; ``kinds`` are by default those
    in which it differs from the caller. The directory is made, or empty; it becomes a mount point, which no other mount
    namespace sees. ``join`` and nsenter(1) take the files.

    Raises `ValueError` for a pid namespace, which ends with its init; `FileExistsError` where something is in the way;
    `PermissionError` for who may not mount. Whatever it raises, nothing is left.

    See mount(2).
    """
    found: Mapping[str, NamespaceId] = holder if isinstance(holder, Mapping) else holder.namespaces
    here = current()
    wanted = names(parse_flags(kinds)) or [kind for kind in found if found[kind] != here.get(kind)]
    check(wanted)
    place = Path(os.fsdecode(directory))
    was_there = place.is_dir()
    place.mkdir(exist_ok=True)
    try:
        if any(place.iterdir()):
            raise FileExistsError(f"{place} is neither new nor empty")
        # A mount that is shared would carry the files into the very mount namespace that is bound (EINVAL).
        _core.bind(place, place)
        _core.make_private(place)
        for kind in wanted:
            _bind(found[kind], place / kind)
    except FileExistsError:
        raise
    except BaseException:
        _undo(place)
        if not was_there:
            place.rmdir()
        raise


def check(kinds: list[str]) -> None:
    """Refuse what no file can keep."""
    if not kinds:
        raise ValueError("persist: there is no namespace that is not the caller's own")
    if "pid" in kinds:
        raise ValueError("persist: a pid namespace ends with its init, whatever is bound to it (leave pid out)")


def _bind(namespace: NamespaceId, file: Path) -> None:
    fd = namespace.open()
    try:
        file.touch(exist_ok=False)
        _core.bind(f"/proc/self/fd/{fd}", file)
    finally:
        os.close(fd)


def unpersist(directory: Any) -> None:
    """Undo `persist`: unbind the namespaces, which end unless a process is in them, and remove the directory.

    Raises `ValueError` for a directory that `persist` has not made.
    """
    place = Path(os.fsdecode(directory))
    files = list(place.iterdir())
    namespaces = Path("/proc/self/ns/net").stat().st_dev
    if not files or any(file.stat().st_dev != namespaces for file in files):
        raise ValueError(f"{place} is no directory of nslab.persist")
    for file in files:
        _core.unmount(file)
        file.unlink()
    _core.unmount(place)
    place.rmdir()


def _undo(place: Path) -> None:
    for file in place.iterdir():
        with suppress(OSError):
            _core.unmount(file)
        file.unlink()
    with suppress(OSError):
        _core.unmount(place)
