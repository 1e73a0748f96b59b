"""Hosts for tests that stay outside: made when asked for, ended with the test, and shown when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pytest

import nslab

from .._namespace import names, parse_flags
from . import sections
from .mark import impossible, needs_user
from .options import missing

if TYPE_CHECKING:
    from .._namespace import Flags

#: The factory of a test, for its report.
MADE = pytest.StashKey["Hosts"]()


class Hosts:
    """Makes hosts: call it with the flags and options of `nslab.Host`.

    Who cannot make namespaces without a user namespace gets one for all the hosts of the test, in which he is root: so
    links may go from one host to another.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._made: list[nslab.Host] = []
        self._owner: nslab.Host | None = None
        item.stash[MADE] = self

    def __call__(self, flags: Flags, **options: Any) -> nslab.Host:
        """Return a new host; the test is skipped where its namespaces are not permitted."""
        __tracebackhide__ = True
        bits = parse_flags(flags)
        if reason := impossible(bits | (nslab.Namespace.USER if needs_user(bits) else 0)):
            (pytest.fail if missing(self._item.config) == "fail" else pytest.skip)(reason)
        if needs_user(bits) and not bits & nslab.Namespace.USER and "join" not in options:
            if self._owner is None:
                self._owner = nslab.Host("user", map_root_user=True)
            options = {**options, "join": self._owner}
        host = nslab.Host(bits, **options)
        self._made.append(host)
        return host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in reversed([*filter(None, [self._owner]), *self._made]):
            host.close()
        # Each has a descriptor, until it is gone.
        self._made, self._owner = [], None

    def sections(self) -> list[sections.Section]:
        """Return what helps to understand a failure, for each host."""
        found = []
        for number, host in enumerate(self._made, 1):
            title = f"host {number} ({' '.join(names(parse_flags(host._kinds)))})"
            found += [(f"{title}: {name}", text) for name, text in sections.of(host.pid, parse_flags(host._kinds))]
        return found
