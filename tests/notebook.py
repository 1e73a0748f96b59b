"""A real Jupyter kernel, driven as a notebook drives it."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

# The client keeps one for the life of the thread.
ensure_event_loop()

Output = list[tuple[str, str]]
# What Docker's default profile does.
IN_A_CONTAINER = f"""
import errno, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import seccomp
seccomp.refuse("clone3", errno.ENOSYS)
seccomp.refuse("clone", errno.EPERM, bits=(0, 0x7E020000))
seccomp.refuse("unshare", errno.EPERM, bits=(0, 0x7E020080))
"""


class Notebook:
    """Runs cells and returns what came below them, in order: (stream or kind, text)."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self._client = client
        self.status = ""

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.process.pid)  # type: ignore[union-attr]

    def send(self, code: str) -> str:
        return str(self._client.execute(code, allow_stdin=False))

    def outputs(self, message: str, timeout: float = 60) -> Iterator[tuple[str, str]]:
        """Yield what comes below this cell, until it is idle."""
        deadline = time.monotonic() + timeout
        while True:
            got: dict[str, Any] = self._client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            if got["parent_header"].get("msg_id") != message:
                continue
            kind, content = got["msg_type"], got["content"]
            if kind == "stream":
                yield content["name"], content["text"]
            elif kind == "error":
                yield "error", "\n".join(content["traceback"])
            elif kind in ("display_data", "execute_result"):
                yield "display", content["data"].get("text/plain", "")
            elif kind == "status" and content["execution_state"] == "idle":
                break
        reply: dict[str, Any] = {"parent_header": {}}
        # On a busy machine there are answers left to what `wait_for_ready` has asked twice.
        while reply["parent_header"].get("msg_id") != message:
            reply = self._client.get_shell_msg(timeout=timeout)
        self.status = reply["content"]["status"]

    def run(self, code: str) -> Output:
        return list(self.outputs(self.send(code)))

    def text(self, code: str) -> str:
        """Run it and return its standard output; anything else is an error."""
        output = self.run(code)
        assert {kind for kind, _ in output} <= {"stdout"}, output
        return "".join(text for _, text in output)

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        self.manager.restart_kernel(now=False)
        self._client.wait_for_ready(timeout=60)


@contextmanager
def notebook(*, extension: bool = True) -> Iterator[Notebook]:
    """Start a kernel, and end it."""
    with tempfile.TemporaryDirectory(prefix="nslab-notebook-") as home:
        # Sockets of the file system: other users of the machine have no way to this kernel.
        manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=f"{home}/kernel.json")
        manager.start_kernel(env={**os.environ, "IPYTHONDIR": home})
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            made = Notebook(manager, client)
            if extension:
                made.text("%load_ext nslab")
            yield made
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
            client.context.destroy()
            manager.context.destroy()


def until_seen(name: str, place: Path) -> str:
    """Return the line of a script that waits for a file."""
    return f"until [ -e {place}/{name} ]; do sleep 0.01; done"


def processes(marker: str) -> list[int]:
    """Return the processes that have this in their command line; zombies, which are PID 1's to reap, have none."""
    found = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read()
        except OSError:
            continue
        if marker.encode() in words and pid != os.getpid():
            found.append(pid)
    return found


@contextmanager
def interrupted_when(condition: Callable[[], object]) -> Iterator[None]:
    """Interrupt this thread, as the keyboard does, once this is so."""

    def interrupt() -> None:
        while not condition():
            time.sleep(0.005)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    thread = threading.Thread(target=interrupt)
    thread.start()
    yield
    thread.join()
