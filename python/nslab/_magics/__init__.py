"""The IPython extension: ``%load_ext nslab``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give ``%%ns`` and ``%ns`` to a notebook, and say in one line what is possible there."""
    from .magics import NamespaceMagics
    from .views import greeting

    shell.register_magics(NamespaceMagics)
    print(greeting())


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take them away, and end what they have left running."""
    from .._warden import stop

    for kind in ("cell", "line"):
        shell.magics_manager.magics[kind].pop("ns", None)
    stop()
