"""The namespaces of the machine as lsns(8) and `nslab.lsns` list them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import nslab
from nslab._inspect.lsns import NamespaceInfo, NamespaceTable

COLUMNS = "NS,TYPE,PATH,NPROCS,PID,PPID,COMMAND,UID,USER,NETNSID,NSFS,PNS,ONS"


def lsns() -> dict[tuple[str, int], dict[str, Any]]:
    """Return what lsns(8) finds, by type and inode."""
    command = ["lsns", "--json", "--list", "-o", COLUMNS]
    while (done := subprocess.run(command, stdout=nslab.PIPE, stderr=nslab.DEVNULL)).returncode:
        pass  # It gives up when a process ends while it looks at it.
    rows = json.loads(done.stdout)["namespaces"]
    return {(row["type"], row["ns"]): row for row in rows}


def found(table: NamespaceTable) -> dict[tuple[str, int], NamespaceInfo]:
    """Return what nslab finds, by type and inode."""
    rows = {(row.type, row.namespace.inode): row for row in table}
    assert len(rows) == len(table)
    return rows


def row_of(namespace: nslab.NamespaceId, types: str = "all") -> NamespaceInfo:
    """Return the one row of a namespace."""
    (row,) = (row for row in nslab.lsns(types) if row.namespace == namespace)
    return row


def failure(what: Any, *args: Any) -> OSError | None:
    try:
        what(*args)
    except OSError as error:
        return error
    return None
