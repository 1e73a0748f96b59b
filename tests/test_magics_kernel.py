"""``%%ns`` in a real Jupyter kernel: streaming, attribution, interrupt, restart, death."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from notebook import IN_A_CONTAINER, Notebook, Output, notebook, processes, until_seen

pytestmark = pytest.mark.unprivileged


@pytest.fixture
def kernel() -> Iterator[Notebook]:
    with notebook() as made:
        yield made


def within(seconds: float, condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_loading_says_what_is_possible() -> None:
    with notebook(extension=False) as kernel:
        greeting = kernel.text("%load_ext nslab").splitlines()
        assert "uts ✓" in greeting[0]
        assert len(greeting) == (1 if ROOT else 2)


def step_by_step(kernel: Notebook, code: str, place: Path) -> Output:
    """Run it, and let each `until_seen` go on once its output has come."""
    seen = []
    for kind, text in kernel.outputs(kernel.send(code)):
        seen.append((kind, text))
        for line in text.split():
            (place / line).touch()
    return seen


def test_lines_arrive_one_by_one_under_their_cell(kernel: Notebook, tmp_path: Path) -> None:
    script = f"for i in 1 2 3; do echo $i; {until_seen('$i', tmp_path)}; done; echo end >&2"
    assert step_by_step(kernel, f"%%ns uts\n{script}", tmp_path) == [
        ("stdout", "1\n"),
        ("stdout", "2\n"),
        ("stdout", "3\n"),
        ("stderr", "end\n"),
    ]


def test_prints_and_both_streams_keep_their_order(kernel: Notebook, tmp_path: Path) -> None:
    script = f"echo a; {until_seen('a', tmp_path)}; echo b >&2; {until_seen('b', tmp_path)}; echo c"
    code = f'print("before")\nget_ipython().run_cell_magic("ns", "uts", {script!r})\nprint("after")'
    assert "".join(text for _, text in step_by_step(kernel, code, tmp_path)) == "before\na\nb\nc\nafter\n"


def test_capture_works(kernel: Notebook) -> None:
    assert kernel.run("%%capture got\n%%ns uts\necho out; echo err >&2") == []
    assert kernel.text("print(repr((got.stdout, got.stderr)))") == "('out\\n', 'err\\n')\n"


def test_ten_megabytes_lose_nothing(kernel: Notebook) -> None:
    output = kernel.run("%%ns uts\nhead -c 10000000 /dev/zero | tr '\\0' x; echo end >&2")
    assert sum(len(text) for kind, text in output if kind == "stdout") == 10_000_000
    assert output[-1] == ("stderr", "end\n")


def test_many_small_writes_lose_nothing(kernel: Notebook) -> None:
    """ZeroMQ drops messages when too many wait: a message for each write would be too many."""
    output = kernel.run("%%ns uts\nfor ((i = 0; i < 20000; i++)); do echo $i; done")
    assert "".join(text for _, text in output) == "".join(f"{i}\n" for i in range(20_000))
    assert len(output) < 1000


def let_on(line: str, place: Path) -> str:
    return f"import pathlib, time; pathlib.Path({str(place / line)!r}).touch(); time.sleep(2); print('mine')"


def test_background_output_never_lands_under_another_cell(kernel: Notebook, tmp_path: Path) -> None:
    script = f"{until_seen('go', tmp_path)}; echo late; echo error >&2; sleep 60"
    assert kernel.run(f"%%ns uts --bg --proc p\n{script}") == []
    assert kernel.text(let_on("go", tmp_path)) == "mine\n"
    shown: Output = []
    while len(shown) < 2:
        shown += kernel.run("%ns show")
    assert sorted(shown) == [("stderr", "error\n"), ("stdout", "late\n")]
    assert kernel.run("%ns show") == []
    assert kernel.text("p.poll() is None and print('runs')") == "runs\n"
    assert "ended: process" in kernel.text("%ns kill")


def test_output_of_a_daemon_never_lands_under_another_cell(kernel: Notebook, tmp_path: Path) -> None:
    assert "still running: " in kernel.text(f"%%ns uts\n({until_seen('go', tmp_path)}; echo late; sleep 60) &")
    assert kernel.text(let_on("go", tmp_path)) == "mine\n"
    while not (shown := kernel.text("%ns show")):
        pass
    assert shown == "late\n"


@pytest.mark.parametrize(
    ("flags", "script", "said"),
    [
        ("uts", "sleep {}", "SIGINT ended it"),
        ("uts pid", "sleep {}", "it is PID 1 of its pid namespace and has no handler for SIGINT and SIGTERM"),
        ("uts", "trap '' INT TERM; setsid sleep {} & sleep {}; sleep {}", "SIGKILL ended it, and 2 more processes"),
        ("uts pid", "trap '' INT TERM; setsid sleep {} & sleep {}; sleep {}", "and 2 more processes"),
    ],
)
def test_an_interrupt_ends_all_and_says_why(kernel: Notebook, lasting: str, flags: str, script: str, said: str) -> None:
    if said.startswith("SIGINT"):
        kernel.run("from nslab._magics import interrupt; interrupt._MOMENT = 10")
    message = kernel.send(f"%%ns {flags}\n{script.replace('{}', lasting)}\n")
    assert within(20, lambda: len(processes(f"sleep\0{lasting}")) == script.count("&") + 1)
    start = time.monotonic()
    kernel.interrupt()
    output = list(kernel.outputs(message))
    assert time.monotonic() - start < 30
    assert processes(lasting) == []
    assert [kind for kind, _ in output] == ["error"]
    assert said in output[0][1]
    assert "\n" not in output[0][1]
    assert kernel.text("print(1)") == "1\n"


def test_an_interrupt_leaves_a_shell_alive(kernel: Notebook, lasting: str) -> None:
    kernel.run("from nslab import _shell; _shell._MOMENT = 10")
    assert kernel.run("%%ns uts pid --shell box\nx=5") == []
    message = kernel.send(f"%%ns --shell box\nsleep {lasting}; echo not reached")
    assert within(20, lambda: processes(f"sleep\0{lasting}"))
    kernel.interrupt()
    *newline, last = kernel.outputs(message)
    assert newline in ([], [("stdout", "\n")])
    assert last == ("error", "KeyboardInterrupt: interrupted: Ctrl-C ended it; the shell lives")
    assert kernel.text("%%ns --shell box\necho $x") == "5\n"


def leave_things_running(kernel: Notebook, lasting: str) -> None:
    kernel.text(f"%%ns uts\nsetsid sleep {lasting} >/dev/null 2>&1 & echo")
    kernel.run(f"%%ns uts --bg\nsleep {lasting}; true")
    kernel.run(f"%%ns uts pid --bg\nsleep {lasting} & sleep {lasting}; true")
    kernel.run(f"%%ns uts --shell box\nsleep {lasting} & setsid sleep {lasting} &")
    assert within(20, lambda: len(processes(f"sleep\0{lasting}")) == 6)


def test_a_restart_leaves_no_process(kernel: Notebook, lasting: str) -> None:
    leave_things_running(kernel, lasting)
    word = f"{kernel.pid}-"
    assert len(processes(word)) == 1
    kernel.restart()
    assert within(30, lambda: not processes(lasting) + processes(word))


def test_a_kernel_that_is_killed_leaves_no_process(kernel: Notebook, lasting: str) -> None:
    leave_things_running(kernel, lasting)
    message = kernel.send(f"%%ns uts\nsleep {lasting}; true")
    assert message
    assert within(20, lambda: len(processes(f"sleep\0{lasting}")) == 7)
    word = f"{kernel.pid}-"
    assert len(processes(word)) == 1
    os.kill(kernel.pid, signal.SIGKILL)
    assert within(30, lambda: not processes(lasting) + processes(word))


def test_errors_have_no_traceback(kernel: Notebook) -> None:
    for cell in ("%%ns utss\ntrue", "%%ns uts --foo\ntrue", "%%ns uts\nexit 3", "%%ns\n ", "%ns nothing"):
        ((kind, text),) = [output for output in kernel.run(cell) if output[1].strip()]
        assert kind in ("error", "stderr"), cell
        assert "Traceback" not in text, cell
        assert kernel.status == "error"
    assert kernel.text("print(1)") == "1\n"


def test_pictures_have_every_form(kernel: Notebook) -> None:
    kernel.run("%%ns uts pid mnt net ipc\ntrue")
    for word in ("card", "mounts", "users", "net", "ipc", "clocks", "tree"):
        assert [kind for kind, _ in kernel.run(f"%ns {word}")] == ["display"], word


def test_a_kernel_that_may_not_make_namespaces_says_so() -> None:
    with notebook(extension=False) as kernel:
        kernel.text(IN_A_CONTAINER)
        greeting = kernel.text("%load_ext nslab")
        assert "uts ✗" in greeting
        assert "No Linux namespace can be made here" in greeting
        ((kind, text),) = kernel.run("%%ns uts\ntrue")
        assert kind == "error"
        assert "\n" not in text
        assert "`%ns doctor`" in text
        assert "seccomp" in kernel.text("%ns doctor")
