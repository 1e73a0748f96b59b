"""A plan beside its unshare(1) line and its C source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pictures_check import NASTY, check, new_session

import nslab
from nslab.pictures import twins

pytestmark = pytest.mark.unprivileged


@pytest.fixture(autouse=True)
def a_session() -> Iterator[None]:
    with new_session():
        yield


def lab(**more: Any) -> nslab.Plan:
    return nslab.plan(
        "uts pid mnt user", ["sh", "-c", "ps"], hostname="lab", mount_proc=True, map_root_user=True, **more
    )


def test_the_text_has_all_three_whole() -> None:
    plan = lab()
    picture = twins(plan)
    check(picture)
    for part in (str(plan), plan.unshare_command()):
        assert part.rstrip() in picture.text
    assert [line.rstrip() for line in plan.c_source().splitlines()][-1] in picture.text
    assert "int main(void)" in picture.text


def test_the_drawing_has_the_functions_of_the_program() -> None:
    svg = twins(lab()).svg
    for shown in ("sethostname(&quot;lab&quot;, 3)", "--mount-proc", "static int child(", "int main(void)"):
        assert shown in svg
    assert "#include" not in svg


def test_a_plan_shows_itself() -> None:
    assert lab()._repr_mimebundle_()["text/plain"] == twins(lab()).text
    assert set(lab()._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}


def test_the_environment_does_not_matter_in_stable_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    with new_session(stable=True):
        before = twins(lab())
        monkeypatch.setenv("ONE", "more")
        assert (twins(lab()).svg, twins(lab()).text) == (before.svg, before.text)


@pytest.mark.parametrize(
    "plan",
    [
        nslab.plan(0, ["true"]),
        nslab.plan("user", ["true"], map_users=[(0, 0, 9)]),
        nslab.plan(0, ["echo", "x" * 3000, "a  b\n\tc\x1b[31m\udcff<&>\"' 東京"]),
        nslab.plan("uts", ["true"], hostname="<&>\udcff"),
        nslab.plan(
            "all",
            ["true"],
            env={f"NAME{number}": NASTY.replace("\0", "").replace("\ud800", "") for number in range(200)},
        ),
    ],
)
def test_odd_plans_are_drawn(plan: nslab.Plan) -> None:
    before = time.thread_time()
    picture = twins(plan)
    assert time.thread_time() - before < 1
    check(picture)
