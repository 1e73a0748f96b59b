"""The pytest side of a marked test: wider fixtures, the child, and what came of it, replayed as if it had run here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.logging import catching_logs
from _pytest.runner import CallInfo
from _pytest.skipping import evaluate_skip_marks, evaluate_xfail_marks

import nslab

from . import child, mark, sections, start
from .inside import suite_properties
from .plugin import finish_ended


def protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a marked test in a child of its own; return None where pytest has to go on itself: in that child."""
    if not mark.is_permitted(item) or _ends_before_its_fixtures(item):
        # It will be skipped, or fail, in its setup.
        return None
    ihook = item.ihook
    ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    began = time.perf_counter()
    _set_up_wider_fixtures(item)
    took = time.perf_counter() - began
    test: child.Child | None = None
    try:
        test = start.start(item, mark.of(item))
    except OSError as error:
        reports = [_failure(item, "setup", f"{type(error).__name__}: {error}" + _hint(error))]
    else:
        if test is None:
            return None
        reports = _wait(item, test)
    if reports and reports[0].when == "setup":
        reports[0].duration += took
        reports[0].start -= took
    _replay(item, nextitem, reports)
    if test is not None and test.raised is not None:
        raise test.raised
    ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _ends_before_its_fixtures(item: pytest.Item) -> bool:
    """Return whether pytest will skip it before it makes any fixture."""
    try:
        xfail = evaluate_xfail_marks(item)
        not_run = xfail is not None and not xfail.run and not item.config.option.runxfail
        return not_run or evaluate_skip_marks(item) is not None
    except (Exception, pytest.fail.Exception):
        return True  # a condition that cannot be evaluated is an error of its setup


def _hint(error: OSError) -> str:
    return f"\nhint: {error.hint}" if isinstance(error, nslab.SpawnError) and error.hint else ""


# ---------------------------------------------------------------------------------------------------- wider fixtures


def _set_up_wider_fixtures(item: pytest.Item) -> None:
    """Make here what tests share: in the child it would be made, and torn down, once for every test."""
    __tracebackhide__ = True
    request: Any = getattr(item, "_request", None)
    if request is None and hasattr(item, "_initrequest"):
        item._initrequest()
        request = item._request  # type: ignore[attr-defined]
    wanted = list(_wider(item)) if request else []
    if not wanted and item.parent in item.session._setupstate.stack:
        return
    # What fails is remembered by pytest, and raised again where the test asks for it: in the child.
    with _recorded(item, "setup"), contextlib.suppress(Exception, pytest.skip.Exception, pytest.fail.Exception):
        if item.parent is not None:
            item.session._setupstate.setup(item.parent)  # type: ignore[arg-type]
        if wanted:
            _request_wider(item, request, wanted)


def _request_wider(item: pytest.Item, request: Any, names: list[str]) -> None:
    __tracebackhide__ = True
    stack = item.session._setupstate.stack
    stack[item] = ([], None)  # pytest wants to see the test set up, which it will be in the child
    try:
        for name in names:
            value = request.getfixturevalue(name)
            if name == "tmp_path_factory":
                value.getbasetemp()  # made when first asked for, and numbered by what is there
    finally:
        del stack[item]


def _wider(item: Any) -> Iterator[str]:
    """Yield the fixtures that this test shares with others, and that are not made yet."""
    definitions = item._fixtureinfo.name2fixturedefs
    # A class fixture of a function that is in no class belongs to the function.
    own = {"function"} if getattr(item, "cls", None) else {"function", "class"}
    parameters = item.callspec.params if hasattr(item, "callspec") else ()
    for name in item.fixturenames:
        if name in definitions and definitions[name][-1].scope not in own:
            is_made = definitions[name][-1].cached_result is not None and name not in parameters
            if not is_made:
                yield name


def _tear_down_wider_fixtures(item: pytest.Item, nextitem: pytest.Item | None) -> pytest.TestReport | None:
    """End what the next test does not share; return the report of a failure."""
    if item.session.shouldfail or item.session.shouldstop:
        nextitem = None
    state = item.session._setupstate
    needed = nextitem.listchain() if nextitem else []
    if list(state.stack) == needed[: len(state.stack)]:
        return None
    finish_ended()

    def tear_down() -> None:
        __tracebackhide__ = True
        with _recorded(item, "teardown"):
            state.teardown_exact(nextitem)

    call = CallInfo.from_call(tear_down, "teardown", reraise=(pytest.exit.Exception, KeyboardInterrupt))
    return _report(item, call)


@contextlib.contextmanager
def _recorded(item: pytest.Item, when: str) -> Iterator[None]:
    """Put what is written and logged into the report's sections, as pytest does around its hooks."""
    plugins = item.config.pluginmanager
    capture, logs = plugins.getplugin("capturemanager"), plugins.getplugin("logging-plugin")
    with contextlib.ExitStack() as stack:
        if logs:
            handler = stack.enter_context(catching_logs(logs.report_handler, level=logs.log_level))
            handler.reset()
            stack.callback(lambda: item.add_report_section(when, "log", handler.stream.getvalue().strip()))
        if capture and capture._global_capturing:
            stack.enter_context(capture.item_capture(when, item))
        yield


# -------------------------------------------------------------------------------------------------------- the child


def _wait(item: pytest.Item, test: child.Child) -> list[pytest.TestReport]:
    """Wait for the child to end and return the reports, one more where it ended in the middle."""
    with test:
        failure = None
        try:
            test.wait()
        except pytest.fail.Exception as alarm:
            # Whoever has set an alarm for the test: the child has it too, but did not react.
            failure = str(alarm)
        reports = [_received(item, kind, content) for kind, content in test.reports]
        _take_over(item, test)
        if test.raised is None and not test.ended:
            reports.append(_broken_off(item, test, reports, failure or test.why()))
        elif test.left:
            _fail_for_leaks(item, reports, test.left)
    return reports


def _received(item: pytest.Item, kind: str, content: Any) -> pytest.TestReport:
    if kind == "lost":
        return _failure(item, *content)
    data, longrepr = content
    config = item.config
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=dict(data))
    if longrepr is not None:
        report.longrepr = longrepr
    if isinstance(subtest := data.get("_subtest.context"), dict):
        # pytest makes text of the arguments on both sides, which puts strings into quotes twice.
        object.__setattr__(report.context, "kwargs", subtest["kwargs"])
    return report


def _take_over(item: pytest.Item, test: child.Child) -> None:
    """Take over what pytest knows of a test besides its reports."""
    for warning in test.warnings:
        item.ihook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": warning, "nodeid": item.nodeid, "when": "runtest", "location": None}
        )
    suite_properties(item.config).extend(test.suite_properties)
    if test.failed_subtests:
        from _pytest.subtests import failed_subtests_key

        item.config.stash[failed_subtests_key].update(test.failed_subtests)


def _broken_off(item: pytest.Item, test: child.Child, reports: list[pytest.TestReport], why: str) -> pytest.TestReport:
    """Return the report of a child that ended before its test had."""
    done = {report.when for report in reports}
    when = next((when for when in ("setup", "call") if when not in done), "teardown")
    if when == "call" and reports[-1].outcome != "passed" and reports[-1].when == "setup":
        when = "teardown"
    capture = item.config.pluginmanager.getplugin("capturemanager")
    if capture and capture._global_capturing:
        # The file is the child's too, and nobody has read it since.
        out, err = capture.read_global_capture()
        item.add_report_section(when, "stdout", out)
        item.add_report_section(when, "stderr", err)
    text = f"{why} during its {when}"
    if faults := test.faults():
        text += f"\n\n{faults}"
    if killed := test.clean_up():
        text += f"\n\nIt has left behind, and these were killed: {', '.join(killed)}"
    report = _failure(item, when, text)
    report.duration = time.monotonic() - test.began - sum(each.duration for each in reports)
    report.start -= report.duration
    xfail = evaluate_xfail_marks(item)
    if xfail and when == "call" and xfail.raises is None and not item.config.option.runxfail:
        report.outcome, report.wasxfail = "skipped", xfail.reason
    report.sections += sections.of(test.holder.pid if test.holder else None, mark.of(item).flags, test.threads)
    return report


def _fail_for_leaks(item: pytest.Item, reports: list[pytest.TestReport], left: list[str]) -> None:
    for report in reports:
        if report.when == "call" and report.passed and not hasattr(report, "context"):
            failed = _failure(item, "call", "the test leaves behind " + ", ".join(left))
            report.outcome, report.longrepr = "failed", failed.longrepr


def _replay(item: pytest.Item, nextitem: pytest.Item | None, reports: list[pytest.TestReport]) -> None:
    """Give the reports to everybody who waits for them, the teardown of what is here included."""

    def log(report: pytest.TestReport) -> None:
        item.ihook.pytest_runtest_logreport(report=report)

    last = [report for report in reports if report.when == "teardown"]
    for report in reports:
        if report not in last:
            log(report)
    wider = _tear_down_wider_fixtures(item, nextitem)
    if wider is not None and last and wider.passed:
        last[-1].duration += wider.duration
        wider = None
    elif not last and wider is None:
        wider = _report(item, CallInfo.from_call(lambda: None, "teardown"))
    if wider is not None and last and last[-1].passed:
        wider.sections[:0] = [section for section in last[-1].sections if section not in wider.sections]
        last.pop()
    for report in [*last, *([wider] if wider else [])]:
        log(report)
    if hasattr(item, "_request"):
        # As pytest's own protocol ends, for the sake of memory.
        item._request = False
        item.funcargs = None  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------------- reports


def _failure(item: pytest.Item, when: str, text: str) -> pytest.TestReport:
    """Return the report of a failure that has no traceback here."""

    def fail() -> None:
        pytest.fail(text, pytrace=False)

    return _report(item, CallInfo.from_call(fail, when))  # type: ignore[arg-type]


def _report(item: pytest.Item, call: Any) -> pytest.TestReport:
    # Not by the hook: what other plugins do there relies on what they have noted in the child.
    return pytest.TestReport.from_item_and_call(item, call)
