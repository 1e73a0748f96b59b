"""Binds namespaces to files, which keep them without any process, as ``unshare --net=FILE`` and ip-netns(8) do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_IWGRP, S_IWOTH

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
    `PermissionError` for who may not mount, and for a directory that others may write to. Whatever it raises, nothing
    is left.

    See mount(2).
    """
    found: Mapping[str, NamespaceId] = holder if isinstance(holder, Mapping) else holder.namespaces
    here = current()
    wanted = names(parse_flags(kinds)) or [kind for kind in found if found[kind] != here.get(kind)]
    check(wanted)
    place = Path(os.fsdecode(directory))
    was_there, beneath = place.is_dir(), None
    try:
        place.mkdir(mode=0o755, exist_ok=True)
        with _opened(place) as below:
            _refuse_what_others_change(place, below)
            beneath = _core.mount_id(below)
            # A mount that is shared would carry the files into the very mount namespace that is bound (EINVAL).
            _core.bind(f"/proc/self/fd/{below}", f"/proc/self/fd/{below}", place)
            _fill(place, os.fstat(below).st_ino, {kind: found[kind] for kind in wanted})
    except BaseException:
        # Wherever it came from: a signal handler may raise between any two lines.
        if beneath is not None:
            _undo(place, beneath, wanted)
        if not was_there:
            with suppress(OSError):
                place.rmdir()
        raise


def check(kinds: list[str]) -> None:
    """Refuse what no file can keep."""
    if not kinds:
        raise ValueError("persist: there is no namespace that is not the caller's own")
    if "pid" in kinds:
        raise ValueError("persist: a pid namespace ends with its init, whatever is bound to it (leave pid out)")


def _opened(place: Path) -> _core.Fd:
    """Open a directory, and not what a link leads to.

    What is done by its descriptor is done in it, even if somebody puts another directory or a link in its place.
    """
    try:
        return _core.Fd(os.open, place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:
        raise FileExistsError(f"{place} is a link, and not a directory") from None


def _refuse_what_others_change(place: Path, directory: int) -> None:
    if os.listdir(directory):
        raise FileExistsError(f"{place} is neither new nor empty")
    status = os.fstat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & (S_IWGRP | S_IWOTH):
        raise PermissionError(f"{place} may be written to by others, who could move what is bound in it (chmod go-w)")


def _fill(place: Path, inode: int, namespaces: Mapping[str, NamespaceId]) -> None:
    """Make and bind the files in the directory that has just been mounted."""
    with _opened(place) as directory:
        if os.fstat(directory).st_ino != inode:
            raise FileExistsError(f"{place} has become another directory")
        _core.make_private(f"/proc/self/fd/{directory}")
        for kind, namespace in namespaces.items():
            _core.Fd(os.open, kind, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=directory).close()
            with _core.Fd(_core.open_namespace, *namespace.key()) as opened:
                _core.bind(f"/proc/self/fd/{opened}", f"/proc/self/fd/{directory}/{kind}", place / kind)


def _undo(place: Path, beneath: int, kinds: list[str]) -> None:
    """Unbind and remove as much as there is, if what is mounted there is ours."""
    with suppress(OSError), _opened(place) as directory:
        if _core.mount_id(directory) == beneath:
            return
        for kind in kinds:
            with suppress(OSError):
                # The last may not have been bound yet.
                _core.unmount(f"/proc/self/fd/{directory}/{kind}")
            with suppress(OSError):
                os.unlink(kind, dir_fd=directory)
    with suppress(OSError):
        _core.unmount(place)


def unpersist(directory: Any) -> None:
    """Undo `persist`: unbind the namespaces, which end unless a process is in them, and remove the directory.

    Raises `ValueError` for a directory that `persist` has not made.
    """
    place = Path(os.fsdecode(directory))
    namespaces = Path("/proc/self/ns/net").stat().st_dev
    with _opened(place) as opened:
        kinds = os.listdir(opened)  # noqa: PTH208
        if not kinds or any(os.stat(kind, dir_fd=opened).st_dev != namespaces for kind in kinds):
            raise ValueError(f"{place} is no directory of nslab.persist")
        for kind in kinds:
            _core.unmount(f"/proc/self/fd/{opened}/{kind}")
            os.unlink(kind, dir_fd=opened)
    _core.unmount(place)
    place.rmdir()
