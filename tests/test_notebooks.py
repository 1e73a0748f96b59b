"""The lessons: both languages from one source, every cell passes, every solution satisfies its check."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from notebook import IN_A_CONTAINER, Notebook, notebook

pytestmark = pytest.mark.unprivileged

ROOT = Path(__file__).parent.parent / "notebooks"
LESSONS = sorted(path.stem for path in (ROOT / "src").glob("*.md"))
BOOKS = sorted(path for language in ("en", "zh") for path in (ROOT / language).glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def code(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_there_are_ten_lessons_in_two_languages() -> None:
    assert [name[:2] for name in LESSONS] == [f"{number:02}" for number in range(1, 11)]
    assert [path.stem for path in BOOKS] == LESSONS * 2


def test_the_notebooks_are_what_their_sources_say() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "build.py"), "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run notebooks/build.py"


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_code_is_the_same_in_both_languages(lesson: str) -> None:
    en, zh = ([cell.source for cell in code(ROOT / language / f"{lesson}.ipynb")] for language in ("en", "zh"))
    assert en == zh
    assert len(en) >= 5


def test_the_readme_has_the_same_code_in_both_languages() -> None:
    readmes = [(ROOT.parent / name).read_text() for name in ("README.md", "README.zh.md")]
    en, zh = (re.findall(r"^```\w+\n.*?^```", text, re.MULTILINE | re.DOTALL) for text in readmes)
    assert en == zh
    assert readmes[0].count("\n## ") == readmes[1].count("\n## ")


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_notebook_is_committed_as_jupyter_writes_it(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(path))
    tags = [tag for cell in book.cells for tag in cell.metadata.get("tags", ())]
    assert tags == ["exercise", "check"]
    assert "<details>" in book.cells[-1].source
    assert json.loads(path.read_text())["nbformat"] == 4


def run(kernel: Notebook, source: str) -> str:
    output = kernel.run(source)
    assert kernel.status == "ok", (source, output)
    assert not [text for kind, text in output if kind == "error"], source
    return "".join(text for _, text in output)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_notebook_runs_from_top_to_bottom(path: Path) -> None:
    with notebook(extension=False) as kernel:
        texts = {cell.source: run(kernel, cell.source) for cell in code(path)}
    check = next(cell.source for cell in code(path) if "check" in cell.metadata.get("tags", ()))
    assert "not yet: " in texts[check]
    assert "skipped" not in texts.values()


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solution_satisfies_the_check(lesson: str) -> None:
    path = ROOT / "en" / f"{lesson}.ipynb"
    solution = read(path).cells[-1].source.partition("```python\n")[2].partition("\n```")[0]
    with notebook(extension=False) as kernel:
        for cell in code(path):
            tags = cell.metadata.get("tags", ())
            text = run(kernel, solution if "exercise" in tags else cell.source)
            if "check" in tags:
                assert "✓" in text
                assert "not yet" not in text


@pytest.mark.parametrize("lesson", LESSONS)
def test_what_a_machine_refuses_is_explained(lesson: str) -> None:
    with notebook(extension=False) as kernel:
        kernel.text(IN_A_CONTAINER)
        texts = [run(kernel, cell.source) for cell in code(ROOT / "en" / f"{lesson}.ipynb")]
    assert "No Linux namespace can be made here" in texts[0]
    if lesson.startswith("01"):
        assert "skipped" not in "".join(texts)  # it needs none
    else:
        assert "This machine cannot show it: no " in texts[0]
        assert set(texts[1:]) == {"skipped\n"}
