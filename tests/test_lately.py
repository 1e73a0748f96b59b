"""A request that was made before is not planned again; what may have changed since is."""

from __future__ import annotations

import ctypes
import os

import pytest

import nslab

pytestmark = pytest.mark.unprivileged


def output(*argv: str, flags: str = "user uts", **options: object) -> str:
    """What a program prints, started without streams of its own: only such requests are kept."""
    read, write = os.pipe()
    kept = os.dup(1)
    os.dup2(write, 1)
    try:
        process = nslab.spawn(flags, list(argv), map_root_user=True, **options)  # type: ignore[arg-type]
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(write)
    with os.fdopen(read) as text:
        printed = text.read()
    assert process.wait() == 0
    return printed


def test_the_environment_is_that_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    show = "sh", "-c", "echo $NSLAB_TEST"
    for value in ("one", "two", "two", "", "one"):
        monkeypatch.setenv("NSLAB_TEST", value)
        assert output(*show) == f"{value}\n"
    monkeypatch.delenv("NSLAB_TEST")
    assert output(*show) == "\n"


def test_the_environment_may_be_changed_in_place() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    variable = ctypes.create_string_buffer(b"NSLAB_TEST=one")
    libc.putenv(variable)
    try:
        assert output("sh", "-c", "echo $NSLAB_TEST") == "one\n"
        ctypes.memmove(variable, b"NSLAB_TEST=two", 14)
        assert output("sh", "-c", "echo $NSLAB_TEST") == "two\n"
    finally:
        libc.unsetenv(b"NSLAB_TEST")


def test_every_other_argument_is_another_request() -> None:
    for _ in range(2):
        for word in ("a", "b"):
            for name in ("lab", "web", b"web"):
                shown = name.decode() if isinstance(name, bytes) else name
                assert output("sh", "-c", f"echo {word} $(uname -n)", hostname=name) == f"{word} {shown}\n"
        assert output("sh", "-c", "echo $$", flags="user pid") == "1\n"
        assert output("sh", "-c", "test $$ != 1", flags="user") == ""


def test_true_is_not_one() -> None:
    details = []
    for value in (True, 1, True):
        with nslab.spawn("user", ["true"], kill_child=value) as process:
            details += [step.detail for step in process.plan.steps if step.name == "pdeathsig"]
    assert details == ["9", "1", "9"]


def test_a_list_that_was_changed_is_another_request() -> None:
    argv = ["sh", "-c", "exit 3"]
    assert nslab.spawn("user", argv).wait() == 3
    argv[2] = "exit 4"
    assert nslab.spawn("user", argv).wait() == 4
    argv.append("more")
    with nslab.spawn("user", argv) as process:
        assert process.args == ["sh", "-c", "exit 4", "more"]


def test_more_requests_than_are_kept() -> None:
    for _ in range(2):
        for status in range(20):
            assert nslab.spawn("user", ["sh", "-c", f"exit {status}"]).wait() == status
