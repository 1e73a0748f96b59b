"""Executes a notebook from top to bottom, as a program: a line of JSON for each code cell, when it has run.

The libraries for it are those of the field, nbformat and nbclient, of the extra ``nslab[grade]``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import recorder

_NEEDED = ("nbformat", "nbclient", "ipykernel")
# Of a directory for sockets.
_LONGEST = 80
# Runs last, in the kernel.
_LAST = "__import__('nslab._grade.recorder', fromlist=['finish']).finish()"


def check_installed() -> None:
    """Raise `ImportError` with one sentence if a notebook cannot be executed here."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"a notebook takes {' and '.join(missing)} to execute: pip install 'nslab[grade]'")


def execute(notebook: Path, output: Path, notes: str) -> None:
    """Execute the notebook; ``output`` gets the lines, ``notes`` is the directory for what the kernel notes."""
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    book = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    book.cells.append(nbformat.v4.new_code_cell(_LAST))  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="nslab-kernel-") as home, output.open("w", encoding="utf-8") as lines:

        def note(cell: Any, cell_index: int, **_: Any) -> None:
            if cell.cell_type == "code" and cell_index < len(book.cells) - 1:
                print(json.dumps(seen(cell)), file=lines, flush=True)

        # By sockets of the file system, if their names are not too long for that, see unix(7): other users of the
        # machine have no way to this kernel.
        transport = "ipc" if len(home) < _LONGEST else "tcp"
        manager = AsyncKernelManager(
            kernel_name=_kernel(book), transport=transport, connection_file=f"{home}/kernel.json"
        )
        client = NotebookClient(book, km=manager, allow_errors=True, timeout=None, on_cell_executed=note)
        client.execute(
            cwd=str(notebook.parent), env={**os.environ, recorder.VARIABLE: notes, "IPYTHONDIR": f"{home}/ipython"}
        )


def _kernel(book: Any) -> str:
    """Return the kernel of the notebook; for Python the one that goes with this nslab."""
    spec = book.metadata.get("kernelspec", {})
    return "python3" if spec.get("language", "python") == "python" else str(spec.get("name"))


def seen(cell: Any) -> dict[str, Any]:
    """Return a cell as `evidence.SeenCell` has it."""
    texts: dict[str, list[str]] = {"stdout": [], "stderr": [], "display": []}
    error = None
    for output in cell.outputs:
        if output.output_type == "stream":
            texts[output.name].append(output.text)
        elif output.output_type == "error":
            error = f"{output.ename}: {output.evalue}"
        elif "text/plain" in output.get("data", {}):
            texts["display"].append(output.data["text/plain"])
    joined = {name: "".join(found) for name, found in texts.items()}
    return {"source": cell.source, "tags": list(cell.metadata.get("tags", ())), **joined, "error": error}


def main(notebook: str, output: str, notes: str) -> int:
    """Execute it; what is no notebook is said in one line on standard error, with status 1."""
    try:
        execute(Path(notebook), Path(output), notes)
    except Exception as error:
        print(f"{Path(notebook).name} was not executed to its end: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
