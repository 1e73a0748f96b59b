"""Two hosts tell each other their names over a link, as LLDP (IEEE 802.1AB) does: who hears whom?"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

ETHERTYPE = 0x88CC
NEAREST_BRIDGE = bytes.fromhex("0180c200000e")
SYSTEM_NAME = 5

Links = Callable[..., None]


@pytest.fixture
def link(namespaces: Any) -> Links:
    """Return what connects two hosts by a veth pair, ``eth0`` on one side and ``eth0`` on the other unless named."""

    def connect(a: Any, b: Any, names: tuple[str, str] = ("eth0", "eth0")) -> None:
        a.run(
            ["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1], "netns", str(b.pid)], check=True
        )
        for host, name in zip((a, b), names, strict=True):
            host.run(["ip", "link", "set", name, "up"], check=True)

    return connect


def announce(device: str) -> None:
    """Send the host's name, as a daemon would every 30 seconds."""
    name = socket.gethostname().encode()
    payload = struct.pack("!H", SYSTEM_NAME << 9 | len(name)) + name + bytes(2)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, ETHERTYPE))
        source = sender.getsockname()[4]
        sender.send(NEAREST_BRIDGE + source + struct.pack("!H", ETHERTYPE) + payload)


def listen(device: str) -> None:
    """Print the names that were heard when standard input has ended and half a second has been silent."""
    heard = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as receiver:
        receiver.bind((device, ETHERTYPE))
        print("ready", flush=True)
        sys.stdin.read()
        # What was sent before is in the queue by now, or a bridge still works on it.
        receiver.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                frame, (*_, kind, _, _) = receiver.recvfrom(2048)
                if kind != socket.PACKET_OUTGOING:
                    header = struct.unpack_from("!H", frame, 14)[0]
                    heard.add(frame[16 : 16 + (header & 0x1FF)].decode())
    print(json.dumps(sorted(heard)))


def python(function: str, *args: object) -> list[str]:
    return [sys.executable, __file__, function, *map(str, args)]


def neighbours(listener: Any, *senders: tuple[Any, str], device: str = "eth0") -> list[str]:
    with listener.spawn(python("listen", device), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for host, its_device in senders:
            host.run(python("announce", its_device), check=True)
        found: list[str] = json.loads(process.communicate()[0])
    return found


def test_one_neighbour(namespaces: Any, link: Links) -> None:
    a, b = (namespaces("net uts", hostname=name) for name in ("a", "b"))
    link(a, b)
    assert neighbours(a, (b, "eth0")) == ["b"]
    assert neighbours(b, (a, "eth0")) == ["a"]


def test_no_link(namespaces: Any) -> None:
    a = namespaces("net uts", hostname="a", loopback=True)
    b = namespaces("net uts", hostname="b", loopback=True)
    assert neighbours(a, (b, "lo"), device="lo") == []


def test_a_bridge_of_the_nearest_kind_does_not_forward(namespaces: Any, link: Links) -> None:
    a, middle, b = (namespaces("net uts", hostname=name) for name in ("a", "middle", "b"))
    link(a, middle, ("eth0", "left"))
    link(middle, b, ("right", "eth0"))
    assert neighbours(b, (a, "eth0")) == []
    assert neighbours(b, (middle, "right")) == ["middle"]


@pytest.mark.parametrize("name", ["x", "a-name-of-some-length.example.org", "n" * 64])
def test_names_of_any_length(namespaces: Any, link: Links, name: str) -> None:
    a, b = namespaces("net uts", hostname="a"), namespaces("net uts", hostname=name)
    link(a, b)
    assert neighbours(a, (b, "eth0")) == [name]


if __name__ == "__main__":
    if sys.argv[1] == "announce":
        announce(sys.argv[2])
    else:
        listen(sys.argv[2])
