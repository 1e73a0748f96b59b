"""Pictures of what was inspected: functions from the records to a `Picture`, which a notebook shows by itself."""

from ._display.card import card
from ._display.cgroup import cgroup
from ._display.clocks import clocks
from ._display.ipc import ipc
from ._display.listing import listing
from ._display.mounts import mounts
from ._display.network import network
from ._display.of import picture_of as of
from ._display.owners import owners
from ._display.picture import Picture
from ._display.pids import pids
from ._display.propagation import propagation
from ._display.sides import sides
from ._display.timeline import timeline
from ._display.twins import twins
from ._display.users import users

__all__ = [
    "Picture",
    "card",
    "cgroup",
    "clocks",
    "ipc",
    "listing",
    "mounts",
    "network",
    "of",
    "owners",
    "pids",
    "propagation",
    "sides",
    "timeline",
    "twins",
    "users",
]
