"""What a test needs from the running kernel."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

LINUX = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))


def needs_linux(major: int, minor: int, what: str) -> pytest.MarkDecorator:
    """Skip where the kernel is older; ``what`` is the feature it lacks."""
    reason = f"Linux {major}.{minor} brought {what}; this is {os.uname().release}"
    return pytest.mark.skipif((major, minor) > LINUX, reason=reason)


needs_kernel_threads = pytest.mark.skipif(
    not Path("/proc/2/comm").exists() or Path("/proc/2/comm").read_text() != "kthreadd\n",
    reason="in a pid namespace there are no kernel threads",
)
