"""The timeline of one process, and what a process shows of itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import spawn
from pictures_check import NASTY, check, expected, new_session

import nslab
from nslab._display.timeline import _draw
from nslab.pictures import timeline

pytestmark = pytest.mark.unprivileged


@pytest.fixture(autouse=True)
def a_session() -> Iterator[None]:
    with new_session():
        yield


STEPS = (
    nslab.Step("clone", "CLONE_NEWPID|CLONE_NEWUTS", "parent"),
    nslab.Step("sethostname", "lab", "child"),
    nslab.Step("mount_proc", "/proc", "child"),
    nslab.Step("execve", "/bin/true", "child"),
)
CALLS = [
    "parent  clone3({flags=CLONE_NEWPID|CLONE_NEWUTS, exit_signal=SIGCHLD})",
    'child   sethostname("lab", 3)',
    'child   mount("proc", "/proc", "proc", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)',
    'child   execve("/bin/true", ["true"], 42 variables)',
]
BETWEEN = (
    nslab.Step("clone", "0", "parent"),
    nslab.Step("clone", "CLONE_NEWUSER", "intermediate"),
    nslab.Step("uid_map", "0 0 9", "intermediate"),
    nslab.Step("await_maps", "", "child"),
    nslab.Step("execve", "/bin/true", "child"),
)
TIMES = tuple(nslab.StepTime(step.name, 10**15 + 100 * at, 5_000 * at) for at, step in enumerate(STEPS))


def test_the_expected_text() -> None:
    with new_session(stable=True):
        picture = _draw(STEPS, CALLS, TIMES, 4711, 0)
        expected(picture, "timeline")
        check(picture)


def test_an_intermediate_process_has_a_lane_of_its_own() -> None:
    with new_session(stable=True):
        picture = _draw(BETWEEN, [], (), 4711, -9)
        expected(picture, "timeline-intermediate")
        check(picture)


def test_a_real_process() -> None:
    with spawn("uts", ["sh", "-c", "exit 3"], hostname="lab") as process:
        running = timeline(process)
        assert "no exit seen yet" in running.text
    picture = timeline(process)
    check(running)
    check(picture)
    assert "exit 3" in picture.text
    assert 'sethostname("lab", 3)' in picture.text
    for step in process.timeline:
        assert nslab._display.labels.duration(step.duration) in picture.text


def test_two_runs_give_the_same_in_stable_mode() -> None:
    def once() -> tuple[str, str, str | None]:
        with new_session(stable=True), spawn("uts pid user", ["true"], map_root_user=True) as process:
            process.wait()
            picture = timeline(process)
            return picture.text, picture.svg, picture.mermaid

    assert once() == once()


def test_steps_of_two_processes_are_in_the_order_of_their_beginning() -> None:
    starts = (0, 100, 400, 300, 500)
    times = tuple(nslab.StepTime(step.name, 10**15 + start, 7) for step, start in zip(BETWEEN, starts, strict=True))
    lines = _draw(BETWEEN, [], times, 4711, 0).text.splitlines()
    shown = [line.split("7 ns")[1].split()[0] for line in lines if " 7 ns " in line]
    assert shown == ["clone", "clone", "await_maps", "uid_map", "execve"]


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "exit 0"),
        (255, "exit 255"),
        (-9, "killed by SIGKILL"),
        (-64, "killed by"),
        (-99, "signal 99"),
        (None, "no exit"),
    ],
)
def test_how_it_ended(returncode: int | None, words: str) -> None:
    picture = _draw(STEPS, CALLS, TIMES, 4711, returncode)
    check(picture)
    assert words in picture.text
    assert ("wait()" in picture.text) == (returncode is not None)


@pytest.mark.parametrize("steps", [(), STEPS[:1], STEPS[1:], (nslab.Step(NASTY, NASTY, "child"),), STEPS * 40])
def test_odd_plans_are_drawn(steps: tuple[nslab.Step, ...]) -> None:
    check(_draw(steps, [NASTY] * len(steps), TIMES, 4711, None))
    check(_draw(steps, [], (), 4711, 1))


def test_a_process_shows_the_card_of_its_namespaces() -> None:
    with spawn("uts", ["true"]) as process:
        text = process._repr_mimebundle_()["text/plain"]
    assert text.startswith("different: uts") or "user" in text
    assert str(process.namespaces["uts"]) in text
