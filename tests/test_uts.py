"""The uts namespace."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from conftest import inode, sh, spawn

import nslab


def test_uts_01_a_plain_child_has_the_hosts_name() -> None:
    assert sh(0, "uname -n") == (0, os.uname().nodename)


@pytest.mark.unprivileged
def test_uts_02_a_new_namespace_copies_the_name() -> None:
    with spawn("uts", ["uname", "-n"], stdout=nslab.PIPE, text=True) as child:
        assert child.communicate()[0].strip() == os.uname().nodename
    assert child.namespaces["uts"].inode != inode("uts")


@pytest.mark.unprivileged
def test_uts_03_hostname() -> None:
    before = os.uname().nodename
    assert sh("uts", "uname -n", hostname="lab") == (0, "lab")
    assert os.uname().nodename == before


@pytest.mark.unprivileged
@pytest.mark.parametrize("size", [65, 200])
def test_uts_07_a_name_too_long(size: int, invalid: Callable[..., str]) -> None:
    assert "64" in invalid("uts", hostname="x" * size)
