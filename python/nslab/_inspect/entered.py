"""A namespace that a child enters to read what is in it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import _core
from .ids import NamespaceId
from .target import Target, namespaces_of, pinned

#: What a question about one namespace takes: a process that is in it, the namespace itself, or None for the caller.
Place = Target | NamespaceId


@contextmanager
def entered(target: Place, kind: str) -> Iterator[tuple[NamespaceId, int]]:
    """Open the namespace of this type, for the core to enter it.

    Raises `ProcessLookupError` when process or namespace are gone, `PermissionError` when the process may not be
    inspected or the namespace may not be entered, `ValueError` for a `NamespaceId` of another type.
    """
    namespace, opened = _opened(target, kind)
    with opened as fd:
        try:
            yield namespace, fd
        except PermissionError:
            needed = "that takes CAP_SYS_ADMIN in the user namespace that owns it"
            raise PermissionError(errno.EPERM, f"{namespace} may not be entered: {needed}") from None


def _opened(target: Place, kind: str) -> tuple[NamespaceId, _core.Fd]:
    if not isinstance(target, NamespaceId):
        with pinned(target) as process:
            namespace = namespaces_of(process).get(kind)
            if namespace is not None:
                return namespace, _core.Fd(_core.open_namespace, *namespace.key())
        if Path(f"/proc/self/ns/{kind}").exists():
            # On its way out of the kernel it has lost them, and is not called a zombie yet.
            raise ProcessLookupError(errno.ESRCH, f"process {process.pid} has ended")
        raise OSError(errno.ENOSYS, f"this kernel has no {kind} namespaces")
    if target.type != kind:
        raise ValueError(f"{target} is not a namespace of type {kind}")
    try:
        return target, _core.Fd(_core.open_namespace, *target.key())
    except ProcessLookupError:
        raise ProcessLookupError(errno.ESRCH, f"no process that may be inspected is in {target}") from None
