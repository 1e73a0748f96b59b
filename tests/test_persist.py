"""`persist`: namespaces kept by files, without any process."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, assert_unchanged, snapshot
from nested import MS_REC, MS_SHARED, as_nobody, inside, mount

import nslab

pytestmark = pytest.mark.skipif(not ROOT, reason="needs root: mounting in the caller's own mount namespace")

# In a mount namespace of their own: the host's mounts are not for tests.


def name_in(directory: Path | str, *kinds: str) -> str:
    files = [Path(directory) / kind for kind in kinds]
    return str(nslab.run(0, ["uname", "-n"], join=files, capture_output=True, text=True).stdout.strip())


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def kept_by_files(place: str) -> None:
    before = snapshot()
    with nslab.Host("uts net ipc cgroup time user", map_root_user=True, hostname="kept") as host:
        nslab.persist(host, place)
        ids = dict(host.namespaces)
    # The host has ended, and with it every process.
    assert sorted(os.listdir(place)) == ["cgroup", "ipc", "net", "time", "user", "uts"]
    assert name_in(place, "user", "uts") == "kept"
    for kind in os.listdir(place):
        assert os.stat(f"{place}/{kind}").st_ino == ids[kind].inode
    enter = ["nsenter", f"--user={place}/user", f"--uts={place}/uts", "uname", "-n"]
    assert subprocess.run(enter, capture_output=True, text=True).stdout == "kept\n"
    nslab.unpersist(place)
    assert not os.path.exists(place)
    del host  # It has a pidfd as long as it is there.
    assert_unchanged(before)


def test_files_keep_them(tmp_path: Path) -> None:
    inside("mnt", kept_by_files, str(tmp_path / "kept"))


def with_a_mount_namespace(place: str) -> None:
    # On some kernels the CPU decides which of two mount namespaces counts as the older one.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]}; import test_persist; test_persist.{{}}({place!r})"
    )
    import sys

    nslab.run("mnt", [sys.executable, "-c", code.format("bound")], check=True)


def bound(place: str) -> None:
    with nslab.Host("mnt uts", hostname="kept", persist=place) as host:
        host.run(["mount", "-t", "tmpfs", "inside", "/mnt"], check=True)
    seen = nslab.run(0, ["findmnt", "-n", "-o", "SOURCE", "/mnt"], join=f"{place}/mnt", capture_output=True, text=True)
    assert seen.stdout == "inside\n"
    assert "inside" not in mounts()
    # Not in itself: the namespace would keep itself alive.
    before = mounts()
    with pytest.raises(nslab.SpawnError) as caught:
        nslab.persist(nslab.namespaces(os.getpid()), place + "2", "mnt")
    assert (caught.value.step, caught.value.errno) == ("bind", errno.EINVAL)
    assert "never in itself" in (caught.value.hint or "")
    assert mounts() == before
    assert not os.path.exists(place + "2")
    nslab.unpersist(place)


def test_a_mount_namespace_too(tmp_path: Path) -> None:
    inside("mnt", with_a_mount_namespace, str(tmp_path / "kept"))


def where_mounts_are_shared(place: str) -> None:
    """As systemd has it: what is mounted would travel, also into the namespace that is bound."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    mount("none", "/", flags=MS_REC | MS_SHARED)
    with nslab.spawn("uts", ["sleep", "600"], hostname="kept") as process:
        nslab.persist(process, place)
        process.kill()
    assert name_in(place, "uts") == "kept"
    nslab.unpersist(place)


def test_in_a_shared_mount(tmp_path: Path) -> None:
    inside("mnt", where_mounts_are_shared, str(tmp_path / "kept"))


def by_choice(place: str) -> list[str]:
    os.mkdir(place)
    with nslab.spawn("uts net pid", ["sleep", "600"]) as process:
        nslab.persist(process, place, "uts")
        found = os.listdir(place)
        nslab.unpersist(place)
        try:
            nslab.persist(process, place)
        except ValueError as error:
            found.append(str(error))
        process.kill()
    return found


def test_some_of_them_and_never_a_pid_namespace(tmp_path: Path) -> None:
    found = inside("mnt", by_choice, str(tmp_path / "kept"))
    assert found[0] == "uts"
    assert "ends with its init" in found[1]


def in_the_way(place: str) -> None:
    os.mkdir(place)
    Path(place, "precious").write_text("data")
    before = snapshot()
    with nslab.Host("uts") as host, pytest.raises(FileExistsError):
        nslab.persist(host, place)
    with pytest.raises(FileExistsError):
        nslab.Host("uts", persist=place)
    with pytest.raises(ValueError, match=r"no directory of nslab\.persist"):
        nslab.unpersist(place)
    with pytest.raises(FileNotFoundError):
        nslab.persist(nslab.namespaces(os.getpid()), place + "/no/such", "uts")
    assert Path(place, "precious").read_text() == "data"
    del host
    assert_unchanged(before)


def test_what_is_there_stays(tmp_path: Path) -> None:
    inside("mnt", in_the_way, str(tmp_path / "kept"))


def test_nothing_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no namespace that is not the caller's own"):
        nslab.persist(nslab.namespaces(os.getpid()), tmp_path)


def refused_to_nobody() -> tuple[Any, ...]:
    before = snapshot()
    with nslab.Host("user uts", map_root_user=True) as host:
        for place in ("/tmp/nslab-persist-new", "/tmp/nslab-persist-old"):
            if place.endswith("old"):
                os.mkdir(place)
            with pytest.raises(PermissionError) as caught:
                nslab.persist(host, place)
    assert not os.path.exists("/tmp/nslab-persist-new")
    os.rmdir("/tmp/nslab-persist-old")
    error = caught.value
    assert isinstance(error, nslab.SpawnError)
    error.__traceback__ = None
    del host, caught
    assert_unchanged(before)
    return error.step, error.errno


def test_without_the_right_to_mount() -> None:
    assert as_nobody(refused_to_nobody) == ("bind", errno.EPERM)
