"""The checks of ``python -m proof`` can fail: what is planted here, they find."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from nested import inside
from proof import held, interrupts, kills, storm, victims, watched
from proof.soak import counted

import nslab

_kept: list[Any] = []


def open_one() -> None:
    _kept.append(os.open("/", os.O_RDONLY))


def grow() -> None:
    _kept.append(bytearray(os.urandom(100_000)))


def start_one() -> None:
    thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
    thread.start()


def leave_a_zombie() -> None:
    _kept.append(subprocess.Popen(["true"]))


def keep_net() -> None:
    _kept.append(nslab.Pool("net", size=1))


LEAKS = {"fds": open_one, "rss_kib": grow, "threads": start_one, "children": leave_a_zombie, "net": keep_net}


def leaked(what: str) -> list[str]:
    held.PATIENCE = 0.0
    # More than twice what may be uncertain: free places of before may take up as many unseen.
    found = counted(lambda _: LEAKS[what](), 2 * held.net_uncertainty() + 20, 4)
    return held.left(found["before"], found["after"])


@pytest.mark.parametrize("what", LEAKS)
def test_what_every_turn_leaves_is_found(what: str) -> None:
    if what == "net" and held.net_namespaces() < 0:
        pytest.skip("this kernel does not show net_namespace in /proc/slabinfo")
    assert any(line.startswith(f"{what}:") for line in inside("mnt", leaked, what))


def quiet() -> list[str]:
    held.PATIENCE = 10.0
    found = counted(lambda _: nslab.run("uts", ["true"]), 40, 40)
    return held.left({**found["before"], "net": 1 << 30}, found["after"])


def test_where_nothing_is_left_nothing_is_found() -> None:
    assert inside("mnt", quiet) == []


def raise_it() -> None:
    raise ValueError("planted")


def hang() -> None:
    threading.Lock().acquire()
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def die() -> None:
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize(
    ("function", "says", "seconds"), [(raise_it, "planted", 30), (hang, "in hang", 8), (die, "SIGKILL", 30)]
)
def test_a_check_that_does_not_return_says_why(function: Any, says: str, seconds: float) -> None:
    with pytest.raises(watched.CheckError, match=says):
        watched.watched(function, seconds=seconds, path=os.pathsep.join([str(Path(__file__).parent), os.getcwd()]))


def loses_a_child() -> dict[str, Any]:
    interrupts._PATIENCE = 0.1
    # What is started by a function that forgets it is what an interrupt would leave.
    interrupts.CALLS["planted"] = lambda: _kept.append(os.posix_spawn("/bin/true", ["true"], {}))
    return interrupts.interrupted("planted", 3, 1)


def test_a_child_that_nobody_reaps_is_found() -> None:
    # Seven to see how long it takes, and three that are interrupted.
    assert len(inside(0, loses_a_child)["left"]) == 7 + 3


def test_a_wrong_answer_and_a_wrong_status_are_found() -> None:
    found = storm._result(held.held(), [("lost", 1, 0), ("wrong", "t1n1", "t1n2"), ("lost", 3, 3)])
    assert (found["times"], found["lost"], found["wrong"]) == (2, ["1 instead of 0"], ["'t1n1' instead of 't1n2'"])


def careless(tell: victims.Tell) -> None:
    """Start what was to die with us, without saying so, in a session of its own."""
    subprocess.Popen(["setsid", "sleep", "600"])
    tell(0)
    time.sleep(60)


def survivors() -> dict[str, Any]:
    kills.PATIENCE = kills.BAR + 0.1
    kills.MOMENTS["careless"] = 0.0
    victims.careless = lambda _, tell: careless(tell)  # type: ignore[attr-defined]
    return kills.of_a_parent("careless", 1, 1)


def test_a_survivor_is_found_and_ended() -> None:
    (survived,) = inside(0, survivors)["survived"]
    assert "sleep 600" in survived


def dead_on_arrival() -> dict[str, Any]:
    def plain(moments: random.Random, tell: victims.Tell) -> None:
        tell(0)
        process = subprocess.Popen(["true"])
        process.wait()
        tell(process.pid)
        time.sleep(60)

    kills.MOMENTS["plain"] = 4.0
    victims.plain = plain
    return kills.of_a_parent("plain", 1, 1)


def test_who_should_live_on_and_does_not_is_found() -> None:
    (dead,) = inside(0, dead_on_arrival)["survived"]
    assert "should live on" in dead


def hidden() -> list[str]:
    before = victims.remnants()
    with nslab.Host("uts", name=f"{victims.prefix(os.getpid())}x"):
        return victims.left(before, 0.0)


def test_a_host_that_is_left_is_found() -> None:
    assert {line.partition(":")[0] for line in inside(0, hidden)} >= {"hosts", "names"}
