"""Makes the notebooks in ``en`` and ``zh`` from ``src``: one source for each lesson, so that no code cell can differ.

A source is a list of parts, each below a line ``%% KIND``:

- ``en`` and ``zh``: the same text twice; they come in pairs
- ``code``, ``exercise``, ``check``: a cell, in both
- ``beside``: the C lines and the Python call that do the same, each in a fence
- ``solution``: code that unfolds; the tests put it into the ``exercise`` before it

With ``--check`` nothing is written: exit 1 if a notebook is not what its source says.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LANGUAGES = ("en", "zh")
KINDS = {*LANGUAGES, "code", "exercise", "check", "beside", "solution"}
WORDS = {
    "C": {"en": "In C", "zh": "C 语言"},
    "Python": {"en": "In Python, with nslab", "zh": "Python，使用 nslab"},
    "solution": {"en": "A solution (try first, then unfold)", "zh": "参考答案（先自己试，再展开）"},
}


@dataclass(frozen=True)
class Part:
    """A piece of a source."""

    kind: str
    text: str


def parse(source: str) -> list[Part]:
    """Return the parts of a source; raises ValueError for one that is not as described above."""
    pieces = re.split(r"^%% (\w+)\n", source, flags=re.MULTILINE)
    parts = [Part(kind, text.strip("\n")) for kind, text in zip(pieces[1::2], pieces[2::2], strict=True)]
    if pieces[0].strip() or not all(part.kind in KINDS and part.text for part in parts):
        raise ValueError("text before the first part, an unknown kind, or an empty part")
    texts = [part.kind for part in parts if part.kind in LANGUAGES]
    if texts != list(LANGUAGES) * (len(texts) // 2):
        raise ValueError("every en is followed by its zh")
    return parts


def notebook(name: str, parts: list[Part], language: str) -> str:
    """Return one lesson in one language, as the text of an .ipynb file."""
    shown = [part for part in parts if part.kind not in LANGUAGES or part.kind == language]
    cells = [_cell(f"{name[:2]}-{number:02}", part, language) for number, part in enumerate(shown, 1)]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _cell(name: str, part: Part, language: str) -> dict[str, Any]:
    texts = {"beside": _beside, "solution": _solution}
    text = texts[part.kind](part.text, language) if part.kind in texts else part.text
    cell: dict[str, Any] = {"id": name, "metadata": {}, "source": text.splitlines(keepends=True)}
    if part.kind in ("exercise", "check"):
        cell["metadata"] = {"tags": [part.kind]}
    if part.kind in (*LANGUAGES, "beside", "solution"):
        return {"cell_type": "markdown", **cell}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **cell}


def _beside(text: str, language: str) -> str:
    """Return a table of one row: an HTML one, for Markdown's has no lines of code in it."""
    fences = re.findall(r"^```(\w+)\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    heads = {"c": WORDS["C"][language], "python": WORDS["Python"][language]}
    head = "".join(f'<th style="text-align:left">{heads[name]}</th>' for name, _ in fences)
    style = "text-align:left;vertical-align:top"
    cells = "".join(f'<td style="{style}"><pre>{html.escape(code)}</pre></td>' for _, code in fences)
    return f"<table>\n<tr>{head}</tr>\n<tr>{cells}</tr>\n</table>".replace("\n\n", "\n&#10;")


def _solution(text: str, language: str) -> str:
    return f"<details>\n<summary>{WORDS['solution'][language]}</summary>\n\n```python\n{text}\n```\n\n</details>"


def build() -> dict[Path, str]:
    """Return every notebook, by its path."""
    made = {}
    for source in sorted((HERE / "src").glob("*.md")):
        parts = parse(source.read_text(encoding="utf-8"))
        for language in LANGUAGES:
            made[HERE / language / f"{source.stem}.ipynb"] = notebook(source.stem, parts, language)
    return made


def main() -> int:
    """Write the notebooks, or look whether they are up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a notebook is not up to date")
    check = parser.parse_args().check
    made = build()
    there = {path for language in LANGUAGES for path in (HERE / language).glob("*.ipynb")}
    stale = [path for path, text in made.items() if path not in there or path.read_text(encoding="utf-8") != text]
    for path in sorted({*stale, *(there - made.keys())}):
        print(path.relative_to(HERE.parent))
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made[path], encoding="utf-8") if path in made else path.unlink()
    return 1 if check and (stale or there - made.keys()) else 0


if __name__ == "__main__":
    sys.exit(main())
