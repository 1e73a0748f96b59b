"""Id maps as user_namespaces(7) and unshare(1) define them."""

from __future__ import annotations

import collections.abc
import itertools
from typing import Any

from .world import Ranges, World


class BadError(Exception):
    """No request: it must be refused before anything is cloned."""


LAST = 2**32 - 2  # (uid_t)-1 is no id
MOST_LINES = 340
MOST_BYTES = 4095


def wanted(world: World, options: dict[str, Any], what: str, me: int, own: Ranges) -> Ranges | None:
    """Return the map that is asked for, or None; raise `BadError` for what is none or could never be one.

    ``me`` is the caller's id and ``own`` the map of the user namespace that the new one is made in.
    """
    single = None
    if options.get("map_root_user") or options.get("map_current_user"):
        single = (0 if options.get("map_root_user") else me, me, 1)
    request = options.get(f"map_{what}")
    if request is None:
        return None if single is None else [single]
    if isinstance(request, str):
        ranges = _word(world.subordinate[what], request, own, single)
    else:
        ranges = [_range(item) for item in _iterable(request)] + ([single] if single else [])
        _need(len(ranges) > (single is not None), "an empty map")
    _takes(ranges)
    return sorted(ranges)


def _need(condition: bool, why: str) -> None:
    if not condition:
        raise BadError(why)


def _iterable(request: Any) -> Any:
    _need(isinstance(request, collections.abc.Iterable), "a map of no form")
    return request


def _range(item: Any) -> tuple[int, int, int]:
    _need(isinstance(item, (tuple, list)) and len(item) == 3, "a range of no form")
    _need(all(isinstance(number, int) and 0 <= number < 2**32 for number in item), "a range of no ids")
    return tuple(item)


def _word(block: tuple[int, int] | None, word: str, own: Ranges, single: tuple[int, int, int] | None) -> Ranges:
    _need(word in ("auto", "subids", "all"), "no such word")
    if word == "all":
        # unshare(1) --map-users=all: "pass-through map ... of all ids".
        ranges = [(inside, inside, count) for inside, _, count in own]
    else:
        _need(block is not None, "no subordinate ids")
        assert block
        if word == "auto":
            # "map the first block of ... ids ... to a block starting at 0".
            return _around(block, single)
        ranges = [(block[0], block[0], block[1])]
    if single is None:
        return ranges
    return [*itertools.chain.from_iterable(_without(one, {single[0], single[1]}) for one in ranges), single]


def _without(identity: tuple[int, int, int], holes: set[int]) -> Ranges:
    """Take ids out of a range that maps each to itself."""
    first, _, count = identity
    found = []
    for hole in [*sorted(hole for hole in holes if first <= hole < first + count), first + count]:
        found.append((first, first, hole - first))
        count -= hole - first + 1
        first = hole + 1
    return [one for one in found if one[2] > 0]


def _around(block: tuple[int, int], single: tuple[int, int, int] | None) -> Ranges:
    """Pair what the single id leaves on both sides, in order: inside the others are shifted."""
    if single is None:
        return [(0, *block)]
    outside = [number for number in range(block[0], sum(block)) if number != single[1]]
    inside = [number for number in range(block[1]) if number != single[0]]
    if single[0] < block[1] and len(outside) == block[1]:
        inside.append(block[1])
    found: Ranges = [single]
    for a, b in zip(inside, outside, strict=False):
        if found[1:] and (a, b) == (found[-1][0] + found[-1][2], found[-1][1] + found[-1][2]):
            found[-1] = (found[-1][0], found[-1][1], found[-1][2] + 1)
        else:
            found.append((a, b, 1))
    return found


def _takes(ranges: Ranges) -> None:
    """user_namespaces(7), "Defining user and group ID mappings"."""
    _need(len(ranges) <= MOST_LINES, "too many lines")
    _need(all(count > 0 for _, _, count in ranges), "a count of 0")
    for side in (0, 1):
        _need(all(one[side] + one[2] - 1 <= LAST for one in ranges), "beyond the last id")
        firsts = sorted((one[side], one[2]) for one in ranges)
        _need(all(a + n <= b for (a, n), (b, _) in itertools.pairwise(firsts)), "ranges that overlap")
    _need(sum(len(" ".join(map(str, one))) + 1 for one in ranges) <= MOST_BYTES, "more than a page")


def inside(ranges: Ranges, outside: int) -> int | None:
    return next((a + outside - b for a, b, n in ranges if b <= outside < b + n), None)


def has(ranges: Ranges, number: int) -> bool:
    return any(a <= number < a + n for a, _, n in ranges)


def covers(ranges: Ranges, first: int, count: int) -> bool:
    """Whether all these ids of the namespace exist, in one line of its map."""
    return any(a <= first and first + count <= a + n for a, _, n in ranges)
