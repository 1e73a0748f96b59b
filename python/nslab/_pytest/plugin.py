"""The door: options, mark, hooks, fixtures. Every pytest of the environment loads it, so the rest waits for a use."""

from __future__ import annotations

import sys
import threading

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import nslab

    from .child import Child
    from .hosts import Hosts
    from .inside import Inside

MARK = (
    "namespaces(*flags, timeout=None, leaks=None, **options): run the test in a child of its own in these new Linux "
    "namespaces; the options are those of nslab.spawn, timeout is in seconds, leaks='ignore' allows to leave things."
)

#: Set in the child: what a marked test runs in.
INSIDE = pytest.StashKey["Inside"]()

#: Children that have told all, and now give up their memory.
ENDING: list[Child] = []
#: The threads that were there before any fixture was.
THREADS: set[threading.Thread] = set()
#: Set where the whole run was to be inside: why it cannot.
REFUSED = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nslab", "Linux namespaces")
    group.addoption(
        "--nslab",
        metavar="FLAGS",
        help='run everything inside new namespaces, such as "user mnt net pid"',
    )
    group.addoption("--no-nslab", action="store_true", help="do not, whatever the configuration says")
    group.addoption(
        "--nslab-missing",
        choices=["skip", "fail"],
        help="what becomes of a test whose namespaces are not permitted here (default: skip)",
    )
    group.addoption(
        "--nslab-shell-on-fail", action="store_true", help="open a shell in the namespaces of a marked test that fails"
    )
    parser.addini("nslab", "the namespaces of --nslab", default="")
    parser.addini("nslab_missing", "skip or fail, see --nslab-missing", default="")
    parser.addini("nslab_leaks", "fail or ignore: what a marked test leaves behind", default="fail")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    # A wrapper, to be before the one that begins to capture.
    given = early_config.known_args_namespace
    flags = "" if given.no_nslab else given.nslab or early_config.getini("nslab")
    if flags:
        from . import whole_run

        whole_run.enter(early_config, flags)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)
    config.pluginmanager.register(Fork(), "nslab-fork")
    if config.getoption("nslab_shell_on_fail") or config.getini("nslab_leaks") not in ("fail", "ignore"):
        from . import options

        options.check(config)


def pytest_report_header(config: pytest.Config) -> str:
    from . import options

    return options.header()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    for item in report.result if report.passed else ():
        if isinstance(item, pytest.Item) and item.get_closest_marker("namespaces"):
            from . import mark

            if wrong := mark.complaint(item):
                report.outcome, report.longrepr, report.result = "failed", wrong, []
                break
    return report


class Fork:
    """Decides where a test runs; in the child, hands over what happens there."""

    #: In the child of a marked test, what it runs in.
    inside: Inside | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a marked test in a child, and replay there what came of it here; in the child, let pytest go on."""
        if item.get_closest_marker("namespaces") is None:
            finish_ended()
            return None
        from . import outside

        return outside.protocol(item, nextitem)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show the hosts of a test that has failed."""
        report = yield
        if report.failed and (made := sys.modules.get("nslab._pytest.hosts")) and made.MADE in item.stash:
            report.sections += item.stash[made.MADE].sections()
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send it to pytest."""
        if self.inside is not None:
            self.inside.report(report)

    def pytest_enter_pdb(self) -> None:
        """Stop the clock of the timeout."""
        if self.inside is not None:
            self.inside.debugging(True)

    def pytest_leave_pdb(self) -> None:
        """Start it anew."""
        if self.inside is not None:
            self.inside.debugging(False)

    def pytest_exception_interact(self, node: pytest.Item) -> None:
        """Open a shell, if that was asked for."""
        if self.inside is not None and node.config.getoption("nslab_shell_on_fail"):
            from . import shell

            self.inside.debugging(True)
            shell.open_here(node)
            self.inside.debugging(False)

    def pytest_collection_finish(self) -> None:
        """Note which threads are not those of a fixture."""
        THREADS.update(threading.enumerate())

    def pytest_sessionfinish(self) -> None:
        """Leave nobody behind."""
        finish_ended()


def finish_ended() -> None:
    """Wait for children that have told all, but may not have ended yet."""
    for child in ENDING.copy():
        child.finish(wait=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    # Outside of every other wrapper, as in the child none of them should see more than its own end.
    error: BaseException | None = None
    try:
        return (yield)
    except BaseException as raised:
        error = raised
        raise
    finally:
        if (inside := item.stash.get(INSIDE, None)) is not None:
            inside.end(error)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if REFUSED in item.config.stash:
        pytest.skip(item.config.stash[REFUSED])
    if item.get_closest_marker("namespaces") is not None and INSIDE not in item.stash:
        from . import mark

        mark.refuse(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    if item.get_closest_marker("namespaces") is not None and INSIDE not in item.stash:
        pytest.fail("another plugin runs the tests, so this one would run outside of its namespaces", pytrace=False)


@pytest.fixture
def namespaces(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Make hosts: ``namespaces("net uts", hostname="a")`` is an `nslab.Host`; all of them end with the test."""
    from .hosts import Hosts

    with Hosts(request.node) as made:
        yield made


@pytest.fixture
def netns(namespaces: Hosts) -> nslab.Host:
    """Return a host with a network namespace of its own, in which ``lo`` is down, as the kernel makes it."""
    return namespaces("net")


@pytest.fixture
def nslab_host(namespaces: Hosts) -> nslab.Host:
    """Return a host like a machine: processes, mounts, links, IPC and a name (``host``) of its own, ``lo`` up."""
    return namespaces("ipc mnt net pid uts", hostname="host", mount_proc=True, loopback=True)
