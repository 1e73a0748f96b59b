"""`Picture`: one drawing in every form that a notebook, a terminal and a file can show."""

from __future__ import annotations

import base64
import os
from collections.abc import Collection
from pathlib import Path

from .palette import INK, PAPER
from .text import clean, escape, shorten


class Picture:
    """A drawing with its text; a notebook shows it by itself, ``print`` its text, `save` writes it to a file."""

    def __init__(
        self, title: str, svg: str, text: str, *, mermaid: str | None = None, table: str | None = None
    ) -> None:
        #: What it shows, in a line.
        self.title = shorten(clean(title), 160)
        #: The drawing, a file of its own.
        self.svg = svg
        #: The same for a terminal.
        self.text = "\n".join(map(clean, text.split("\n")))
        #: The same as Mermaid, where it is a graph, or None.
        self.mermaid = mermaid
        self._table = table

    @property
    def html(self) -> str:
        """The drawing and its text as HTML that JupyterLab shows even in a notebook that is not trusted.

        Its sanitizer drops ``<svg>``, ``<style>`` and scripts, but leaves images, tables and inline styles.
        """
        image = base64.b64encode(self.svg.encode()).decode()
        style = f"margin:0;padding:8px;white-space:pre;overflow-x:auto;background-color:{PAPER};color:{INK}"
        body = self._table or f'<pre style="{style}">{_escaped_lines(self.text)}</pre>'
        return (
            '<figure style="margin:0;overflow-x:auto">'
            f'<img style="max-width:none" alt="{escape(self.title)}" src="data:image/svg+xml;base64,{image}">'
            f"<details><summary>as text</summary>{body}</details></figure>"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to ``path`` in the form that its suffix names: ``.svg``, ``.html``, ``.txt`` or ``.mmd`` (Mermaid).

        Raises `ValueError` for another suffix, and for ``.mmd`` where the picture is no graph.
        """
        suffix = Path(path).suffix
        forms = {".svg": self.svg, ".html": self._page(), ".txt": self.text + "\n", ".mmd": self.mermaid}
        if suffix not in forms:
            raise ValueError(f"a picture is saved as .svg, .html, .txt or .mmd, not {suffix or 'without a suffix'!r}")
        content = forms[suffix]
        if content is None:
            raise ValueError("this picture is no graph, it has no Mermaid form: save it as .svg, .html or .txt")
        Path(path).write_text(content, encoding="utf-8")

    def _page(self) -> str:
        title = escape(self.title)
        return f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n{self.html}\n</html>\n'

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Picture: {self.title}>"

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/html": self.html, "image/svg+xml": self.svg, "text/plain": self.text}
        if self.mermaid is not None:
            bundle["text/vnd.mermaid"] = self.mermaid
        return {
            kind: data
            for kind, data in bundle.items()
            if (not include or kind in include) and (not exclude or kind not in exclude)
        }


def _escaped_lines(text: str) -> str:
    return "\n".join(map(escape, text.split("\n")))
