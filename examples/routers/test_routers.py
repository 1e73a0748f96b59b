"""Routers in a row: who reaches whom, and what a missing route does.

::

    r1 ──── 10.0.1.0/24 ──── r2 ──── 10.0.2.0/24 ──── r3
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

SERVE = """
import socket, sys
with socket.create_server(("", 7)) as server:
    print("ready", flush=True)
    connection, peer = server.accept()
    connection.sendall(peer[0].encode())
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), timeout=2) as connection:
    print(connection.recv(64).decode())
"""


@dataclass
class Topology:
    """Routers by name, and what connects them."""

    routers: dict[str, Any]

    def link(self, left: str, right: str, net: str) -> None:
        """Connect two routers; the left one gets .1 of the network, the right one .2."""
        self.ip(left, f"link add to-{right} type veth peer name to-{left} netns {self.routers[right].pid}")
        for number, (router, other) in enumerate([(left, right), (right, left)], 1):
            self.ip(router, f"addr add {net}.{number}/24 dev to-{other}")
            self.ip(router, f"link set to-{other} up")

    def ip(self, router: str, command: str) -> str:
        """Run ip(8) on a router."""
        done = self.routers[router].run(["ip", *command.split()], capture_output=True, text=True)
        assert done.returncode == 0, f"{router}: ip {command}: {done.stderr}"
        return str(done.stdout)

    def ask(self, router: str, server: str, address: str) -> str:
        """Return as whom the server sees the router that connects to it."""
        served = self.routers[server].spawn([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True)
        with served as process:
            assert process.stdout.readline() == "ready\n"
            asked = self.routers[router].run([sys.executable, "-c", ASK, address], capture_output=True, text=True)
            if asked.returncode:
                process.kill()
        return asked.stdout.strip() if asked.returncode == 0 else asked.stderr.splitlines()[-1]


@pytest.fixture
def net(namespaces: Any) -> Topology:
    """Three routers that forward, connected in a row, without routes beyond their neighbours."""
    topology = Topology({name: namespaces("net uts mnt", hostname=name, loopback=True) for name in ("r1", "r2", "r3")})
    topology.link("r1", "r2", "10.0.1")
    topology.link("r2", "r3", "10.0.2")
    return topology


def forward(net: Topology, router: str) -> None:
    # /proc/sys/net shows the network namespace of who opens it.
    net.routers[router].run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)


def test_neighbours_reach_each_other(net: Topology) -> None:
    assert net.ask("r1", "r2", "10.0.1.2") == "10.0.1.1"
    assert net.ask("r3", "r2", "10.0.2.1") == "10.0.2.2"


def test_no_route(net: Topology) -> None:
    assert "Network is unreachable" in net.ask("r1", "r3", "10.0.2.2")


def test_through_the_middle(net: Topology) -> None:
    forward(net, "r2")
    net.ip("r1", "route add 10.0.2.0/24 via 10.0.1.2")
    net.ip("r3", "route add 10.0.1.0/24 via 10.0.2.1")
    assert net.ask("r1", "r3", "10.0.2.2") == "10.0.1.1"


def test_the_way_back_is_missing(net: Topology) -> None:
    forward(net, "r2")
    net.ip("r1", "route add 10.0.2.0/24 via 10.0.1.2")
    assert "timed out" in net.ask("r1", "r3", "10.0.2.2")


def test_a_link_goes_down(net: Topology) -> None:
    net.ip("r1", "route add 10.0.2.0/24 via 10.0.1.2")
    net.ip("r1", "link set to-r2 down")
    assert "via 10.0.1.2" not in net.ip("r1", "route")
