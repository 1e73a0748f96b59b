"""A shell in the namespaces of a test that has failed, while everything is still as it was."""

from __future__ import annotations

import os
import subprocess

import pytest


def open_here(item: pytest.Item) -> None:
    """Run a shell in the foreground and wait for it."""
    capture = item.config.pluginmanager.getplugin("capturemanager")
    if capture:
        capture.suspend(in_=True)
    print(f"\n{item.nodeid} has failed; this shell is in its namespaces, the test goes on when it ends")
    subprocess.run([os.environ.get("SHELL", "/bin/sh")], check=False)
    if capture:
        capture.resume()
