"""Fixtures that give hosts to a test which stays outside."""

from __future__ import annotations

from pathlib import Path

import inner_pytest
import pytest
from test_documentation import BLOCKS

pytestmark = pytest.mark.unprivileged

HOSTS = """
import os, subprocess
import pytest

def out(host, *argv):
    return host.run(argv, capture_output=True, text=True, check=True).stdout

def test_netns(netns):
    assert "lo " in out(netns, "ip", "-br", "link") and "DOWN" in out(netns, "ip", "-br", "link")
    assert os.stat("/proc/self/ns/net").st_ino != netns.namespaces["net"].inode

def test_machine(nslab_host):
    assert out(nslab_host, "uname", "-n") == "host\\n"
    assert int(out(nslab_host, "sh", "-c", "ls -d /proc/[0-9]* | wc -l")) <= 5
    assert "UP" in out(nslab_host, "ip", "link", "show", "lo")

def test_two_hosts(namespaces):
    a, b = namespaces("net uts", hostname="a"), namespaces("net uts", hostname="b")
    out(a, *f"ip link add eth0 type veth peer name eth0 netns {b.pid}".split())
    for number, host in enumerate((a, b), 1):
        out(host, *f"ip addr add 10.0.0.{number}/24 dev eth0".split())
        out(host, *"ip link set eth0 up".split())
    assert (out(a, "uname", "-n"), out(b, "uname", "-n")) == ("a\\n", "b\\n")
    with b.spawn(["python3", "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "ready\\n"
        assert out(a, "python3", "-c", CLIENT) == "hello\\n"

SERVER = '''
import socket
with socket.create_server(("10.0.0.2", 80)) as server:
    print("ready", flush=True)
    server.accept()[0].sendall(b"hello")
'''
CLIENT = '''
import socket
with socket.create_connection(("10.0.0.2", 80)) as connection:
    print(connection.recv(5).decode())
'''

ENDED = []
def test_ends_with_the_test(netns):
    ENDED[:] = netns, netns.spawn(["sleep", "1000"])
def test_has_ended():
    assert not ENDED[0].alive and ENDED[1].returncode == -9
    with pytest.raises(ProcessLookupError): ENDED[0].run(["true"])

@pytest.mark.namespaces("uts", hostname="inside")
def test_both(netns):
    assert os.uname().nodename == "inside"
    assert "lo" in out(netns, "ip", "-br", "link")
"""


def test_hosts(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, HOSTS, "-W", "error")
    assert run.summary() == {"passed": 6}
    assert inner_pytest.run(tmp_path, HOSTS, "-n", "2", "--dist", "loadfile").summary() == {"passed": 6}


def test_shown_when_the_test_fails(tmp_path: Path) -> None:
    text = """
def test_fails(namespaces):
    web = namespaces("net uts", hostname="web")
    web.run(["ip", "link", "add", "eth7", "type", "veth", "peer", "name", "eth8"], check=True)
    assert web.name == "web"
"""
    run = inner_pytest.run(tmp_path, text)
    assert "host 1 (net uts): links" in run.output and "eth7 " in run.output


def test_the_readme(tmp_path: Path) -> None:
    block = next(block for block in BLOCKS if "pytest.mark" in block)
    assert inner_pytest.run(tmp_path, block).summary() == {"passed": 2}


def test_options_of_a_host_are_checked(tmp_path: Path) -> None:
    run = inner_pytest.run(
        tmp_path, "def test(namespaces): namespaces('nett')\ndef test_b(namespaces): namespaces('net', cwd='/')"
    )
    assert "unknown namespace 'nett': did you mean 'net'?" in run.output
    assert "cwd is no option of a host" in run.output


@pytest.mark.parametrize("name", ["neighbours", "routers"])
def test_examples(tmp_path: Path, name: str) -> None:
    text = (Path(__file__).parent.parent / "examples" / name / f"test_{name}.py").read_text()
    run = inner_pytest.run(tmp_path, text, "-n", "2", "-W", "error")
    assert run.status == 0 and run.summary()["passed"] >= 5
    run = inner_pytest.run(tmp_path, text, "--nslab=user mnt pid net", "-n", "2")
    assert run.status == 0
