"""Who the program is: user_namespaces(7), credentials(7), setgroups(2), setreuid(2)."""

from __future__ import annotations

import errno
import grp
import pwd
from typing import Any

from . import maps
from .world import OVERFLOW, Ranges, World


class StopError(Exception):
    """The kernel refuses one of these steps: where two are as good, the contract does not say which comes first."""

    def __init__(self, number: int, *steps: str) -> None:
        self.steps = tuple((step, number) for step in steps)


class Identity:
    """The ids of the child on its way to the program, in the user namespace that it is in."""

    def __init__(self, world: World, kinds: set[str], joined: frozenset[str]) -> None:
        self.world = world
        self.is_new = "user" in kinds
        at = world.joinable if "user" in joined else world.plain
        self.privileged = world.privileged or "user" in kinds | joined
        self.users, self.groups_map = at.ranges("uid_map"), at.ranges("gid_map")
        self.setgroups = str(at["setgroups"]).strip()
        if "user" in joined:
            self.uid, self.gid = self._as_inside(world.uid, world.gid)
            self.groups = [_or_nobody(maps.inside(self.groups_map, gid)) for gid in world.groups]
        else:
            self.uid, self.gid, self.groups = world.uid, world.gid, world.groups
        self.denies = False
        self.may_map = world.privileged or "user" in joined
        self.parent: tuple[Ranges, Ranges] = self.users, self.groups_map

    def _as_inside(self, uid: int, gid: int) -> tuple[int, int]:
        return _or_nobody(maps.inside(self.users, uid)), _or_nobody(maps.inside(self.groups_map, gid))

    def choose_maps(self, options: dict[str, Any]) -> None:
        """Say what the maps will be, if they can be any."""
        users = maps.wanted(self.world, options, "users", self.uid, self.users)
        self.wanted = users, maps.wanted(self.world, options, "groups", self.gid, self.groups_map)

    def write_maps(self, options: dict[str, Any]) -> None:
        if not self.is_new:
            return
        users, groups = self.wanted
        own_user = users is None or [one[1:] for one in users] == [(self.uid, 1)]
        own_group = groups is not None and [one[1:] for one in groups] == [(self.gid, 1)]
        # "In the case of gid_map, use of setgroups(2) must first be denied" by who maps himself; a privileged process
        # that maps others need not.
        own_group = own_group and (own_user or not self.may_map)
        self._check_map("uid_map", users, [(self.uid, 1)], self.parent[0], "users")
        if self.setgroups == "deny" and options.get("setgroups") == "allow":
            # A new namespace inherits it, and "allow" cannot be written once it is denied.
            raise StopError(errno.EPERM, "setgroups")
        self.denies = (options.get("setgroups") or ("deny" if own_group else "allow")) == "deny"
        self.setgroups = options.get("setgroups") or ("deny" if own_group else self.setgroups)
        own = [(self.gid, 1)] if self.setgroups == "deny" else []
        self._check_map("gid_map", groups, own, self.parent[1], "groups")
        self.users, self.groups_map = users or [], groups or []
        self.uid, self.gid = self._as_inside(self.uid, self.gid)
        self.groups = [_or_nobody(maps.inside(self.groups_map, gid)) for gid in self.groups]

    def _check_map(
        self, step: str, ranges: Ranges | None, own: list[tuple[int, int]], parent: Ranges, what: str
    ) -> None:
        outside = [one[1:] for one in ranges or []]
        if ranges is None or outside == own:
            return
        if self.may_map:
            # "The mapped user IDs (group IDs) must in turn have a mapping in the parent user namespace."
            if all(maps.covers(parent, first, count) for first, count in outside):
                return
            raise StopError(errno.EPERM, step)
        if what == "groups" and outside == [(self.gid, 1)]:
            # "... unless setgroups(2) is denied", and newgidmap(1) would deny it.
            raise StopError(errno.EPERM, step)
        # newuidmap(1): ids of the caller's own subordinate ones, and his own.
        block, mine = self.world.subordinate[what], (self.uid if what == "users" else self.gid, 1)
        in_block = [block is not None and block[0] <= a and a + n <= sum(block) for a, n in outside]
        if not all(fits or one == mine for fits, one in zip(in_block, outside, strict=True)):
            raise StopError(errno.EPERM, "newuidmap" if what == "users" else "newgidmap")

    def change(self, options: dict[str, Any]) -> None:
        """Change ids as `subprocess` does: the groups, the group, the user."""
        if options.get("extra_groups") is not None:
            self._set_groups([_gid(group) for group in options["extra_groups"]])
        if options.get("group") is not None:
            self.gid = self._checked("setgid", _gid(options["group"]), self.groups_map, self.gid)
        if options.get("user") is not None:
            self.uid = self._checked("setuid", _uid(options["user"]), self.users, self.uid)

    def _checked(self, step: str, number: int, ranges: Ranges, own: int) -> int:
        if not maps.has(ranges, number):
            # "EINVAL: one or more of the target user or group IDs is not valid in this user namespace."
            raise StopError(errno.EINVAL, step)
        if not self.privileged and number != own:
            raise StopError(errno.EPERM, step)
        return number

    def _set_groups(self, wanted: list[int]) -> None:
        # "setgroups(2) ... is permitted only if ... a group ID mapping has been set, and" it is not denied.
        may = self.privileged and self.groups_map and self.setgroups == "allow"
        if not may:
            # Who has none but his own has dropped all.
            if not wanted and self.denies and set(self.world.groups) <= {self.world.gid}:
                return
            raise StopError(errno.EPERM, "extra_groups")
        if not all(maps.has(self.groups_map, group) for group in wanted):
            raise StopError(errno.EINVAL, "extra_groups")
        self.groups = wanted

    def seen(self) -> dict[str, Any]:
        return {
            "uids": [self.uid] * 3,
            "gids": [self.gid] * 3,
            "groups": sorted(self.groups),
            "uid_map": self.users,
            "gid_map": self.groups_map,
            "setgroups": self.setgroups,
            # capabilities(7): execve(2) gives them all to who is root inside, and to nobody else.
            "capable": self.uid == 0,
        }


def _or_nobody(number: int | None) -> int:
    return OVERFLOW if number is None else number


def _uid(user: str | int) -> int:
    return pwd.getpwnam(user).pw_uid if isinstance(user, str) else user


def _gid(group: str | int) -> int:
    return grp.getgrnam(group).gr_gid if isinstance(group, str) else group
