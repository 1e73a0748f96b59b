"""JupyterLab on loopback, and a page of headless Chromium in it: what a student has in front of him."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

import nslab

LESSONS = Path(__file__).parents[1]
PATIENCE = 60_000  # milliseconds
SETTINGS = {
    "notification": {"fetchNews": "false", "checkForUpdates": False},
    "themes": {"theme": "JupyterLab Light"},
}


class Laboratory:
    """A running JupyterLab."""

    def __init__(self, url: str, token: str, directory: Path, settings: Path, process: nslab.Process) -> None:
        self.url = url
        self.token = token
        #: What it shows: a copy of the lessons.
        self.directory = directory
        self._settings = settings
        self.process = process

    def theme(self, name: str) -> None:
        """Choose the theme for the pages that are opened from now on: ``"Light"`` or ``"Dark"``."""
        _write_settings(self._settings, {**SETTINGS, "themes": {"theme": f"JupyterLab {name}"}})

    def kernels(self) -> list[int]:
        """Return the pids of its kernels."""
        children = nslab.processes(self.process).roots[0].children
        return [child.pid for child in children if "ipykernel_launcher" in child.command]

    def end_kernels(self) -> None:
        """Shut every kernel down."""
        for session in json.load(self._call("GET", "/api/sessions")):
            self._call("DELETE", f"/api/sessions/{session['id']}")

    def _call(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"token {self.token}"}
        return urllib.request.urlopen(urllib.request.Request(self.url + path, method=method, headers=headers))


class Book:
    """A notebook that is open in the browser."""

    def __init__(self, page: Page, laboratory: Laboratory, path: str) -> None:
        self.page = page
        page.goto(f"{laboratory.url}/lab/tree/{path}?reset&token={laboratory.token}")
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        expect(self.panel.locator(".jp-Cell").first).to_be_visible(timeout=PATIENCE)
        page.keyboard.press("Control+b")  # the list of files goes, the page gets its place
        self.wait_until_idle()

    @property
    def cells(self) -> Locator:
        return self.panel.locator(".jp-CodeCell")

    def output(self, code: str) -> Locator:
        """Return the output area of the cell whose code has this in it."""
        cell = self.cells.filter(has=self.page.locator(".jp-InputArea", has_text=code)).first
        return cell.locator(".jp-Cell-outputArea")

    def run_all(self) -> None:
        """Choose Run > Run All Cells, and wait until the last one has run."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        expect(self.cells.last.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"), timeout=PATIENCE)
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until the kernel is there and has nothing to do."""
        expect(self.page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE)

    def run(self, code: str) -> Locator:
        """Put a cell at the end, run it, and return its output area at once."""
        self.page.keyboard.press("Escape")
        self.panel.locator(".jp-Notebook-footer").click()
        editor = self.panel.locator(".jp-Notebook-cell").last.locator(".cm-content")
        editor.fill(code)
        self.page.keyboard.press("Control+Enter")
        return self.panel.locator(".jp-Notebook-cell").last.locator(".jp-Cell-outputArea")

    def press(self, command: str) -> None:
        """Press a button of the toolbar."""
        self.panel.locator(f'[data-command="notebook:{command}"]').first.click()


@contextmanager
def laboratory(home: Path) -> Iterator[Laboratory]:
    """Start JupyterLab on a free port of the loopback, with a copy of the lessons, and end it."""
    lessons, settings, token = home / "lessons", home / "settings", secrets.token_hex()
    shutil.copytree(LESSONS, lessons, ignore=shutil.ignore_patterns("browser", "__pycache__"))
    _write_settings(settings, SETTINGS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": lessons,
        "IdentityProvider.token": token,
        "LabApp.collaborative": False,
    }
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    env = {
        **os.environ,
        **{f"JUPYTER_{name}": str(home / name.lower()) for name in names},
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    words = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    words += [f"--{name}={value}" for name, value in options.items()]
    log = home / "jupyterlab.log"
    with log.open("wb") as output:
        process = nslab.spawn(
            0, words, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL, kill_child=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/api/status?token={token}", process, log)
        yield Laboratory(url, token, lessons, settings, process)
    finally:
        process.terminate()
        process.stop(timeout=10)


def _write_settings(directory: Path, settings: dict[str, dict[str, object]]) -> None:
    folder = directory / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in settings.items():
        (folder / f"{name}.jupyterlab-settings").write_text(json.dumps(values))
    # So that every cell is in the page, not only those in view.
    folder = directory / "@jupyterlab" / "notebook-extension"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))


def _wait_for(url: str, process: nslab.Process, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except urllib.error.URLError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
