"""Marked tests that crash, hang, leak, or break what they run in: one failed test each, and the run goes on."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import inner_pytest
import pytest
from inner_pytest import Run

pytestmark = pytest.mark.unprivileged

CRASHES = """
import ctypes, glob, os, signal, subprocess, sys, threading, time
import pytest
pytestmark = pytest.mark.namespaces("uts")

def test_segv():
    print("last words")
    ctypes.string_at(0)

def test_kill():
    os.write(1, b"raw words")
    os.kill(os.getpid(), signal.SIGKILL)

def test_kill_all():
    lists = glob.glob(f"/proc/{os.getppid()}/task/*/children")
    siblings = [int(pid) for file in lists for pid in open(file).read().split() if int(pid) != os.getpid()]
    assert siblings
    for pid in [*siblings, os.getpid()]:
        os.kill(pid, signal.SIGKILL)

def test_abort(): os.abort()

@pytest.mark.namespaces("pid")
def test_abort_as_init(): os.abort()

def test_exit(): os._exit(3)

def test_exit_zero(): os._exit(0)

def test_sys_exit(): sys.exit(4)

@pytest.fixture
def crashes_in_setup(): os.abort()
def test_setup(crashes_in_setup): ...

@pytest.fixture
def crashes_in_teardown():
    yield
    os.abort()
def test_teardown(crashes_in_teardown): ...

@pytest.mark.namespaces("pid", timeout=3)
def test_never_ends():
    print("before")
    while True: time.sleep(0.01)

@pytest.mark.namespaces("uts", timeout=3)
def test_never_ends_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    while True: pass

@pytest.mark.namespaces("net", timeout=60)
def test_leaves_a_process_and_dies():
    process = subprocess.Popen(["sleep", "1000.OURS"])
    # In the middle of execve a process has no command line to tell.
    while b"sleep" not in open(f"/proc/{process.pid}/cmdline", "rb").read(): pass
    os.abort()

def test_closes_everything(): os.closerange(0, 1 << 16)

def test_closes_and_reuses():
    os.closerange(3, 1 << 16)
    files = [open("reused", "a") for _ in range(50)]
    os._exit = None

def test_comes_back_from_a_fork():
    if os.fork() == 0:
        return
    os.wait()

@pytest.mark.xfail(reason="known to crash")
def test_expected(): os.abort()

def test_changes_directory():
    os.chdir("/"); os.environ["X"] = "1"; sys.path.clear()

def test_removes_its_directory(tmp_path):
    os.chdir(tmp_path); tmp_path.rmdir()
    assert False

@pytest.mark.namespaces("mnt")
def test_covers_proc():
    subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)

def test_threads_left():
    threading.Thread(target=time.sleep, args=[1000], daemon=True).start()

def test_after(): assert "X" not in os.environ
"""


def ours(text: str) -> str:
    """Return the tests with processes that can be told from those of another run beside this one."""
    return text.replace("OURS", str(os.getpid()))


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("crashes")
    run = inner_pytest.run(directory, ours(CRASHES), "-v", "-o", "junit_logging=all")
    assert run.status == 1
    assert not (directory / "reused").exists() or not (directory / "reused").read_text()
    # The fork of a test has nothing to say.
    assert run.output.count("test_comes_back_from_a_fork") == run.output.count("test_threads_left")
    assert f"\0sleep\x001000.{os.getpid()}".encode() not in b"".join(command_lines())
    return run


def command_lines() -> list[bytes]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(b"\0" + file.read_bytes())
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("name", "outcome", "texts"),
    [
        ("segv", "failure", ["killed by SIGSEGV (signal 11) during its call", "last words", "in test_segv"]),
        ("kill", "failure", ["killed by SIGKILL (signal 9) during its call", "raw words"]),
        ("kill_all", "failure", ["killed by SIGKILL (signal 9) during its call"]),
        ("abort", "failure", ["killed by SIGABRT (signal 6) during its call", "in test_abort"]),
        ("abort_as_init", "failure", ["killed by abort(3), which in a PID 1 ends as SIGSEGV (signal 11)"]),
        ("exit", "failure", ["exited with status 3 during its call"]),
        ("exit_zero", "failure", ["exited with status 0 during its call"]),
        ("sys_exit", "failure", ["SystemExit: 4"]),
        ("setup", "error", ["killed by SIGABRT (signal 6) during its setup"]),
        ("teardown", "error", ["killed by SIGABRT (signal 6) during its teardown"]),
        ("never_ends", "failure", ["did not end within 3 s and was killed", "in test_never_ends", "before"]),
        ("never_ends_deaf", "failure", ["did not end within 3 s and was killed"]),
        ("leaves_a_process_and_dies", "failure", ["killed by SIGABRT", "sleep 1000"]),
        ("closes_everything", "failure", ["closed the descriptor over which its report goes to pytest"]),
        ("closes_and_reuses", "failure", ["closed the descriptor over which its report goes to pytest"]),
        ("comes_back_from_a_fork", "passed", []),
        ("expected", "skipped", ["known to crash"]),
        ("changes_directory", "passed", []),
        ("removes_its_directory", "failure", ["assert False"]),
        ("covers_proc", "passed", []),
        ("threads_left", "passed", []),
        ("after", "passed", []),
    ],
)  # fmt: skip
def test_crash(crashed: Run, name: str, outcome: str, texts: list[str]) -> None:
    case = crashed.cases[f"test_{name}"]
    assert case.outcome == outcome
    for text in texts:
        assert text in case.text


def test_who_was_killed_has_taken_its_time_and_its_pid_namespace(crashed: Run) -> None:
    assert 3 < crashed.cases["test_never_ends"].seconds < 60
    assert "pid     ended with the test  new\n" in crashed.output


LEAKS = """
import os, subprocess, socket
from pathlib import Path
import pytest
pytestmark = pytest.mark.namespaces("net", "mnt")

def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""

def sleeping(seconds):
    # In the middle of execve a process has no command line to tell.
    while not any(command(pid) == f"sleep\\0{seconds}\\0" for pid in os.listdir("/proc") if pid.isdigit()):
        pass

def test_process(): subprocess.Popen(["sleep", "1001.OURS"]), sleeping("1001.OURS")
def test_daemon(): subprocess.run("setsid sleep 1002.OURS & exit", shell=True), sleeping("1002.OURS")
@pytest.mark.namespaces("pid")
def test_process_in_pid(): subprocess.Popen(["sleep", "1003.OURS"]), sleeping("1003.OURS")
def test_link(): subprocess.run(["ip", "link", "add", "leaked", "type", "veth", "peer", "other"], check=True)
def test_mount(): subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True)
def test_descriptor():
    test_descriptor.kept = open("/etc/passwd")
def test_cycle():
    class Cycle: pass
    cycle = Cycle(); cycle.self = cycle; cycle.file = socket.socket()
@pytest.mark.namespaces("mnt", leaks="ignore")
def test_ignored(): subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True)
@pytest.fixture
def mounted():
    subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True)
    yield
    subprocess.run(["umount", "/mnt"], check=True)
def test_cleans_up(mounted, tmp_path, capfd): ...
@pytest.mark.xfail
def test_fails_anyway():
    subprocess.Popen(["sleep", "1004.OURS"]); assert False
"""


def test_leaks_fail_the_test_by_name(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, ours(LEAKS))
    failed = {name: case.text for name, case in run.cases.items() if case.outcome == "failure"}
    found = {
        "process": f"process sleep 1001.{os.getpid()} (pid",
        "daemon": f"process sleep 1002.{os.getpid()} (pid",
        "process_in_pid": f"process sleep 1003.{os.getpid()} (pid",
        "link": "link leaked",
        "mount": "mount /mnt (tmpfs)",
        "descriptor": "-> /etc/passwd",
    }
    assert failed.keys() == {f"test_{name}" for name in found}
    for name, text in found.items():
        assert "the test leaves behind " in failed[f"test_{name}"] and text in failed[f"test_{name}"]
    assert not re.search(rf"sleep\x00100\d\.{os.getpid()}".encode(), b"\n".join(command_lines()))
    run = inner_pytest.run(tmp_path, ours(LEAKS), ini="nslab_leaks = ignore\n")
    assert run.summary() == {"passed": 9, "xfailed": 1}


STOPS = """
import os, signal, time
import pytest
pytestmark = pytest.mark.namespaces("uts")

@pytest.fixture(scope="module", autouse=True)
def outer():
    yield
    print("outer torn down")

@pytest.fixture
def inner():
    yield
    print("inner torn down")

def test_stops(inner): {statement}
def test_not_reached(): ...
"""


@pytest.mark.parametrize(
    ("statement", "status", "texts"),
    [
        ("pytest.exit('enough', returncode=7)", 7, ["_pytest.outcomes.Exit: enough"]),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", 2, ["KeyboardInterrupt"]),
        ("os.kill(os.getppid(), signal.SIGINT); time.sleep(9)", 2, ["KeyboardInterrupt"]),
    ],
)
def test_ends_the_run(tmp_path: Path, statement: str, status: int, texts: list[str]) -> None:
    run = inner_pytest.run(tmp_path, STOPS.format(statement=statement), "-s")
    assert run.status == status
    assert "outer torn down" in run.output and "test_not_reached" not in run.cases
    assert all(text in run.output for text in texts)


def test_dies_with_pytest(tmp_path: Path) -> None:
    text = """
import os, time, pytest
@pytest.mark.namespaces("pid", "uts")
def test(tmp_path):
    print("started", flush=True)
    time.sleep(1005)
"""
    (tmp_path / "test_inner.py").write_text(text)
    (tmp_path / "pytest.ini").write_text(inner_pytest.INI)
    command = inner_pytest.command("-s", f"--basetemp={tmp_path / 'tmp'}")
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=inner_pytest.environment(),
        stdout=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert any("started" in line for line in process.stdout)
        process.kill()
        # At its end all have given up the pipe: nobody of them is left.
        process.stdout.read()


UNPICKLABLE = """
import threading, warnings
import pytest
pytestmark = pytest.mark.namespaces("uts")
def test_property(record_property): record_property("lock", threading.Lock())
def test_exception():
    class Local(Exception): pass
    raise Local(threading.Lock())
def test_warning():
    class Mine(UserWarning): pass
    warnings.warn(Mine("of a class that is only there"))
def test_after(): ...
"""


def test_what_cannot_cross(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, UNPICKLABLE)
    assert run.outcomes() == {
        "test_property": "error",
        "test_exception": "failure",
        "test_warning": "passed",
        "test_after": "passed",
    }
    assert "its report cannot cross to pytest: user_properties: cannot pickle '_thread.lock' object" in run.output
    assert "Local: <unlocked _thread.lock" in run.output
    assert "UserWarning: of a class that is only there" in run.output


THREADS = """
import concurrent.futures, pytest
@pytest.fixture(scope="module")
def pool():
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="of-the-pool") as pool:
        pool.submit(int).result()
        yield pool
@pytest.mark.namespaces("uts", timeout=1)
def test_waits(pool): assert pool.submit(int).result() == 0
def test_outside(pool): assert pool.submit(int).result() == 0
"""


def test_a_fixture_with_a_thread_stays_outside(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, THREADS)
    assert run.outcomes() == {"test_waits": "failure", "test_outside": "passed"}
    assert re.search(r"- threads that stay outside -+\nof-the-pool", run.output)


def test_no_descriptor_left(tmp_path: Path) -> None:
    text = """
import os, pytest, resource
@pytest.fixture(scope="module", autouse=True)
def few():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 1, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
@pytest.mark.namespaces("uts")
def test_a(): ...
def test_b(): ...
"""
    run = inner_pytest.run(tmp_path, text)
    assert run.outcomes() == {"test_a": "error", "test_b": "passed"}
    assert "no free file descriptor" in run.output or "Too many open files" in run.output


def test_stop_at_first_and_last_failed(tmp_path: Path) -> None:
    text = """
import pytest
pytestmark = pytest.mark.namespaces("uts")
def test_a(): ...
def test_b(subtests=None): assert False
def test_c(): ...
"""
    run = inner_pytest.run(tmp_path, text, "-x")
    assert run.summary() == {"failed": 1, "passed": 1}
    run = inner_pytest.run(tmp_path, text, "--lf")
    assert run.summary() == {"failed": 1}


KILLED = """
import os, pathlib, signal, threading, time
import pytest

KILLED = []

def kill_children():
    # At any moment: while the namespaces are made, on the way in, in the test, on the way out.
    for number in range(200):
        for task in pathlib.Path("/proc/self/task").iterdir():
            for pid in (task / "children").read_text().split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                    KILLED.append(pid)
                except ProcessLookupError:
                    pass
        time.sleep(0.0013 * (number % 13))

@pytest.fixture(scope="class")
def killer():
    thread = threading.Thread(target=kill_children)
    thread.start()
    yield
    thread.join()

@pytest.mark.namespaces("net", "pid", "uts", "mnt", mount_proc=True)
def test_before(): ...  # from here on it is known what is possible

@pytest.mark.namespaces("net", "pid", "uts", "mnt", mount_proc=True)
@pytest.mark.parametrize("number", range(40))
class TestKilled:
    def test(self, killer, number): ...

def test_nobody_is_left():
    assert KILLED
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)

@pytest.mark.namespaces("net", "pid")
def test_after(): ...
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, KILLED)
    assert run.outcomes()["test_nobody_is_left"] == run.outcomes()["test_after"] == "passed"
    assert "INTERNALERROR" not in run.output
