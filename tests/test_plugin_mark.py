"""The mark ``namespaces``: a test in a child of its own reads, in every respect, as it would outside."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import inner_pytest
import pytest

import nslab
from nslab._pytest import mark

pytestmark = pytest.mark.unprivileged

# Everything that a report can show; with {mark} once as it is, and once with the mark.
REPORTS = """
import logging, sys, warnings
import pytest

class TestAll:
    pytestmark = [{mark}]

    @pytest.fixture
    def made(self):
        print("fixture set up")
        yield [1, 2, 3]
        print("fixture torn down")

    def test_introspection(self, made):
        print("to stdout"); print("to stderr", file=sys.stderr); logging.getLogger("x").warning("to the log")
        expected = [1, 2, 4]
        assert made == expected, "a message"

    def test_chain(self):
        try:
            {{}}["missing"]
        except KeyError as error:
            raise RuntimeError("second") from error

    def test_deep(self):
        def one(number):
            return two(number - 1)
        def two(number):
            assert number > 5
        one(3)

    def test_group(self):
        raise ExceptionGroup("several", [ValueError("first"), TypeError("second")])

    def test_teardown_fails(self, request):
        request.addfinalizer(lambda: 1 / 0)

    def test_setup_fails(self, nonexistent): ...

    def test_warns(self):
        warnings.warn("careful", UserWarning)

    def test_skipped(self): pytest.skip("not now")

    @pytest.mark.skip(reason="never")
    def test_never(self): ...

    @pytest.mark.skipif(sys.platform == "linux", reason="on Linux")
    def test_skipped_if(self): ...

    @pytest.mark.xfail(reason="known")
    def test_xfail(self): assert False

    @pytest.mark.xfail(reason="not so", strict=True)
    def test_xpass(self): ...

    @pytest.mark.xfail(run=False, reason="would crash")
    def test_not_run(self): ...

    @pytest.mark.parametrize("left, right", [(1, 1), (1, 2), ("a", b"\\xff")])
    def test_parametrized(self, left, right):
        assert left == right

    def test_subtests(self, subtests):
        for number in range(3):
            with subtests.test("part", number=number, name="x"):
                assert number != 1

    def test_properties(self, record_property):
        record_property("key", "value")

    def test_captures(self, capsys, caplog, monkeypatch, recwarn, tmp_path):
        print("captured")
        assert capsys.readouterr().out == "other"
"""


def normal(output: str) -> list[str]:
    """Without what differs from one run to the next, and without what the plugin adds at the end of a failure."""
    lines, ours = [], False
    for line in output.splitlines():
        if re.match(r"[-=_]{3}|_ _ _", line):
            ours = line.strip("- ") in ("namespaces", "links", "mounts")
        if not ours and not line.startswith(("rootdir:", "nslab:")):
            # A longer time leaves less of the line around it.
            line = re.sub(r"=+ (.* in )\d+\.\d+s.* =+", r"= \1… =", line)
            lines.append(re.sub(r"0x[0-9a-f]+|\d+\.\d+s|pytestmark = .*|@pytest.mark.(plain|namespaces.*)", "…", line))
    return lines


@pytest.mark.parametrize("args", [["-rA", "-vv"], ["--tb=short", "-W", "error"], ["-x", "--tb=long"]])
def test_reads_as_outside(tmp_path: Path, args: list[str]) -> None:
    text = REPORTS if pytest.version_tuple >= (9,) else re.sub(r"    def test_subtests.*?\n\n", "", REPORTS, flags=re.S)
    mark = 'pytest.mark.namespaces("uts", "net", "pid", hostname="inside")'
    inside = inner_pytest.run(tmp_path, text.format(mark=mark), *args)
    outside = inner_pytest.run(tmp_path, text.format(mark="pytest.mark.plain"), *args)
    assert normal(inside.output) == normal(outside.output)
    assert inside.outcomes() == outside.outcomes()
    assert inside.status == outside.status == 1


INSIDE = """
import os, socket, subprocess, time
import pytest

HERE = dict(uts=os.uname().nodename, pid=os.getpid(), clock=time.monotonic())
pytestmark = pytest.mark.namespaces("uts")

def namespace(kind):
    return os.stat(f"/proc/self/ns/{kind}").st_ino
OUTER = {kind: namespace(kind) for kind in os.listdir("/proc/self/ns")}

@pytest.mark.namespaces("net", "pid", hostname="a", timeout=10)
def test_the_example():
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert (os.getpid(), os.uname().nodename) == (1, "a")

def test_module():
    assert namespace("uts") != OUTER["uts"]
    assert namespace("net") == OUTER["net"]

@pytest.mark.namespaces("net", loopback=True)
class TestClass:
    def test_closest_mark(self):
        assert namespace("uts") == OUTER["uts"] and namespace("net") != OUTER["net"]
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()).close()

    @pytest.mark.namespaces("ipc")
    def test_function(self):
        assert namespace("ipc") != OUTER["ipc"] and namespace("net") == OUTER["net"]

@pytest.mark.namespaces(mount_proc=True)
def test_own_proc():
    assert [name for name in os.listdir("/proc") if name.isdigit()] == ["1"]
    assert subprocess.run(["sh", "-c", "echo $$"], capture_output=True).stdout == b"2\\n"

@pytest.mark.namespaces("time", monotonic=100_000)
def test_clock():
    assert time.monotonic() > HERE["clock"] + 90_000

@pytest.mark.namespaces("user", map_root_user=True)
def test_root():
    assert os.getuid() == os.getgid() == 0
    assert os.access("/proc/self/environ", os.R_OK)

@pytest.mark.namespaces("all", mount_proc=True, map_root_user=True, loopback=True, domainname="d")
def test_all(tmp_path):
    assert all(namespace(kind) != OUTER[kind] for kind in OUTER)
    (tmp_path / "file").write_text("")

@pytest.mark.namespaces("mnt")
def test_directory():
    assert os.getcwd() == os.environ["PWD_BEFORE"]

class TestUnit(__import__("unittest").TestCase):
    def test_unit(self):
        assert namespace("uts") != OUTER["uts"]
"""


def test_inside(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, INSIDE, PWD_BEFORE=str(tmp_path))
    assert run.status == 0 and run.summary() == {"passed": 10}
    inner_pytest.run(tmp_path, INSIDE, "-n", "2", PWD_BEFORE=str(tmp_path))
    assert run.status == 0 and run.summary() == {"passed": 10}


FIXTURES = """
import os
import pytest

LOG = os.environ["LOG"]
def log(*words):
    with open(LOG, "a") as file:
        print(*words, "inside" if os.uname().nodename == "inside" else "outside", file=file)

def logged(scope, **options):
    @pytest.fixture(scope=scope, **options)
    def fixture():
        log("make", scope)
        yield scope
        log("end", scope)
    return fixture

session, module, klass, function = map(logged, ["session", "module", "class", "function"])

@pytest.fixture(scope="module", autouse=True)
def around(session):
    log("make around")
    yield
    log("end around")

def setup_module(): log("setup_module")
def teardown_module(): log("teardown_module")

@pytest.mark.namespaces(hostname="inside")
class TestA:
    @classmethod
    def setup_class(cls): log("setup_class")
    def setup_method(self): log("setup_method")
    def teardown_method(self): log("teardown_method")
    def test_a(self, klass, function): log("test a")
    def test_b(self, klass, function, module): log("test b")

@pytest.mark.namespaces(hostname="inside")
def test_class_fixture_of_a_function(klass): log("test c")

@pytest.mark.namespaces(hostname="inside")
def test_dynamic(request):
    log("test d", request.getfixturevalue("late"))

late = logged("session")

def test_outside(late): log("test e")
"""

SCOPES = """\
make session outside
make around outside
setup_module outside
make class outside
setup_class outside
setup_method inside
make function inside
test a inside
end function inside
teardown_method inside
make module outside
setup_method inside
make function inside
test b inside
end function inside
teardown_method inside
end class outside
make class inside
test c inside
end class inside
make session inside
test d session inside
end session inside
make session outside
test e outside
end module outside
teardown_module outside
end around outside
end session outside
end session outside
"""


def test_fixtures_of_every_scope(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = inner_pytest.run(tmp_path, FIXTURES, LOG=str(log))
    assert run.summary() == {"passed": 5}
    assert sorted(log.read_text().splitlines()) == sorted(SCOPES.splitlines())
    assert log.read_text().splitlines()[5:16] == SCOPES.splitlines()[5:16]


BROKEN_FIXTURES = """
import os, pytest

@pytest.fixture(scope="module")
def broken():
    print("before the error")
    raise RuntimeError("no fixture today")

@pytest.fixture(scope="module")
def skips(): pytest.skip("no fixture here")

@pytest.fixture(scope="module")
def ends_badly():
    yield
    raise RuntimeError("no end today")

{mark}
def test_a(broken): ...
{mark}
def test_b(broken): ...
{mark}
def test_c(skips): ...
{mark}
def test_d(ends_badly): ...
"""


def test_wider_fixtures_that_fail(tmp_path: Path) -> None:
    inside = inner_pytest.run(tmp_path, BROKEN_FIXTURES.format(mark='@pytest.mark.namespaces("uts")'), "-rA")
    outside = inner_pytest.run(tmp_path, BROKEN_FIXTURES.format(mark="@pytest.mark.plain"), "-rA")
    assert inside.outcomes() == outside.outcomes()
    assert normal(inside.output) == normal(outside.output)


INVALID = """
import pytest
def test_good(): ...
@pytest.mark.namespaces({arguments})
def test_bad(): ...
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'nett'", "unknown namespace 'nett': did you mean 'net'?"),
        ("'net', hostnam='a'", "unknown option 'hostnam': did you mean 'hostname'?"),
        ("'net', cwd='/'", "option 'cwd' is for programs: the test itself is what runs in the namespaces"),
        ("'uts', hostname='x' * 65", "hostname is 65 bytes long; the kernel takes at most 64"),
        ("'net', timeout=0", "timeout must be more than 0 seconds, not 0"),
        ("'net', timeout='long'", "timeout must be a number of seconds, not str"),
        ("'net', leaks='maybe'", "leaks must be 'fail' or 'ignore', not 'maybe'"),
        ("'net', kill_child=True", "option 'kill_child' is for programs"),
        ("'pid', init=True", "option 'init' is for programs"),
        ("", "it names no namespace: give at least one of cgroup, ipc, mnt, net, pid, time, user, uts"),
    ],
)
def test_invalid_mark_is_a_collection_error(tmp_path: Path, arguments: str, message: str) -> None:
    run = inner_pytest.run(tmp_path, INVALID.format(arguments=arguments))
    assert run.status == 2
    assert f"test_inner.py::test_bad: @pytest.mark.namespaces: {message}" in " ".join(run.output.split())
    assert "ERROR collecting test_inner.py" in run.output


def test_strict_and_without_the_plugin(tmp_path: Path) -> None:
    text = "import os, pytest\n@pytest.mark.namespaces('uts')\ndef test(): assert os.uname()\n"
    assert inner_pytest.run(tmp_path, text, "--strict-markers", "--strict-config", "-W", "error").status == 0
    run = inner_pytest.run(tmp_path, text, "-p", "no:nslab", "--strict-markers")
    assert run.status == 2 and "'namespaces' not found in `markers`" in run.output


def test_header_says_what_is_possible(tmp_path: Path) -> None:
    run = inner_pytest.run(tmp_path, "def test(): ...")
    assert "nslab: cgroup ✓ ipc ✓ mnt ✓ net ✓ pid ✓ time ✓ user ✓ uts ✓" in run.output


def test_every_option_brings_its_namespaces(tmp_path: Path) -> None:
    """The table of what an option implies is the core's own rule."""
    values = {"map_users": [(0, 0, 1)], "map_groups": [(0, 0, 1)], "setgroups": "deny", "propagation": "slave"}
    for option, flags in mark.IMPLIED.items():
        value = values.get(option, 1 if option in ("monotonic", "boottime") else "name" if "name" in option else True)
        nslab.plan(flags, ["true"], **{option: value})
        with pytest.raises(ValueError, match=f"{option} needs the"):
            nslab.plan("", ["true"], **{option: value})


WHOLE = """
import ctypes, os, signal, subprocess, threading
import pytest

libc = ctypes.CDLL(None, use_errno=True)
pytestmark = pytest.mark.namespaces("user", "pid", "mnt", "time", map_root_user=True, mount_proc=True)

@pytest.fixture(scope="module", autouse=True)
def thread_outside():
    with_lock, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (with_lock.set(), done.wait()))
    thread.start(), with_lock.wait()
    yield
    done.set(), thread.join()

def test_ids():
    assert os.getpid() == threading.get_native_id() == threading.main_thread().native_id == 1
    assert os.listdir("/proc/self/task") == ["1"]

@pytest.mark.parametrize("round", range(5))
def test_signals_and_threads(round):
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append("signal"))
    # By the id that libc keeps of this thread.
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    thread = threading.Thread(target=lambda: (got.append("thread"), subprocess.run(["true"], check=True)))
    thread.start(), thread.join()
    assert got == ["signal", "thread"]

def test_lock_of_libc():
    # A recursive mutex, owned by the id that libc keeps: dlsym(3) takes it, and dlopen(3) within itself.
    ctypes.CDLL("libm.so.6").cos

def test_processor():
    for processor in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {processor})
        assert libc.sched_getcpu() == processor

def test_alternate_stack():
    stack = (ctypes.c_size_t * 3)()
    assert libc.sigaltstack(None, stack) == 0 and stack[0] and stack[2]

@pytest.mark.parametrize("kind", ["mnt", "time"])
def test_nobody_shares_with_it(kind):
    # The kernel refuses setns(2) to who shares his memory or his directory.
    fd = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
    assert libc.setns(fd, 0) == 0, os.strerror(ctypes.get_errno())
    os.close(fd)

def test_fork():
    if (pid := os.fork()) == 0:
        os._exit(3)
    assert os.waitpid(pid, 0) == (pid, 3 << 8)
"""


@pytest.mark.parametrize("args", [[], ["-n", "2"]])
def test_first_process_is_whole(tmp_path: Path, args: list[str]) -> None:
    run = inner_pytest.run(tmp_path, WHOLE, *args)
    assert set(run.outcomes().values()) == {"passed"} and run.status == 0


def test_memory_of_a_long_run_stays(tmp_path: Path) -> None:
    text = """
    import hashlib, pytest
    data = [bytes([number % 256]) * 3000 for number in range(9000)]
    DIGEST = hashlib.sha1(b"".join(data)).hexdigest()
    @pytest.mark.namespaces("uts")
    @pytest.mark.parametrize("number", range(40))
    def test(number):
        data[number] = data[number]
        assert hashlib.sha1(b"".join(data)).hexdigest() == DIGEST
    """
    assert inner_pytest.run(tmp_path, textwrap.dedent(text)).summary() == {"passed": 40}
