"""What holds for every picture, and the expected texts in ``tests/pictures``.

After a wanted change, write the expected texts anew and read the diff: ``NSLAB_REWRITE=1 pytest tests -k pictures``.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import nslab
from nslab._display import labels
from nslab._display.palette import contrast
from nslab._display.svg import MARGIN
from nslab._inspect.ids import NamespaceId, current
from nslab.pictures import Picture

EXPECTED = Path(__file__).with_name("pictures")
SVG = "{http://www.w3.org/2000/svg}"
#: A hostname, a path, a command can be any bytes.
NASTY = "<b>&\"'\x00\x1b[31m\udcff\ud800\u202e\ufffe\n\t東京 ]]> -- 🐧 é%;#`|\\"


@contextlib.contextmanager
def new_session(stable: bool = False) -> Iterator[None]:
    """Count labels from ① on, as a fresh Python does."""
    before = nslab.options.stable
    labels.forget()
    nslab.options.stable = stable
    try:
        yield
    finally:
        nslab.options.stable = before
        labels.forget()


def host(kind: str) -> NamespaceId:
    """Return the namespace that this process is in."""
    return current()[kind]


def other(kind: str, number: int = 1) -> NamespaceId:
    """Return a namespace that no one is in."""
    return NamespaceId(kind, number, 4, None)


def expected(picture: Picture, name: str) -> None:
    """Compare the picture, drawn in stable mode, with ``tests/pictures/NAME.txt`` and, of a graph, ``NAME.mmd``."""
    for suffix, text in ((".txt", picture.text), (".mmd", picture.mermaid)):
        path = EXPECTED / (name + suffix)
        if text is None:
            continue
        if os.environ.get("NSLAB_REWRITE"):
            path.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == path.read_text(encoding="utf-8"), path


def check(picture: Picture) -> None:
    """Assert what holds for every picture."""
    _check_svg(picture.svg)
    _check_html(picture.html, picture.svg)
    # Nothing that a terminal would obey.
    for text in (picture.title, picture.text, picture.mermaid or ""):
        assert all(char.isprintable() or char == "\n" for char in text)
        text.encode()
    assert picture.title and "\n" not in picture.title
    assert str(picture) == picture.text
    bundle = picture._repr_mimebundle_()
    assert {"text/html", "image/svg+xml", "text/plain"} <= bundle.keys()
    assert ("text/vnd.mermaid" in bundle) == (picture.mermaid is not None)


def _check_svg(svg: str) -> None:
    root = ET.fromstring(svg.encode())
    wide, high = float(root.attrib["width"]), float(root.attrib["height"])
    assert root.tag == SVG + "svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]
    assert root.attrib["aria-label"] == root.findtext(SVG + "title")
    # Several on one page must not get into each other's way, and an image may not load or run anything.
    assert {node.tag.removeprefix(SVG) for node in root.iter()} <= {
        *("svg", "title", "desc", "g", "rect", "line", "circle", "path", "polygon", "text")
    }
    assert not any({"id", "class", "style", "href"} & node.attrib.keys() for node in root.iter())
    card = root.find(SVG + "rect")
    assert card is not None
    assert (float(card.attrib["width"]), float(card.attrib["height"]), card.attrib["fill"]) == (wide, high, "#ffffff")
    drawing = root.find(SVG + "g")
    assert drawing is not None
    boxes: list[tuple[float, float, float, float, str]] = []
    for node in drawing.iter():
        if node.tag == SVG + "rect":
            x, y, width, height = (float(node.attrib[key]) for key in ("x", "y", "width", "height"))
            assert x >= -MARGIN and y >= -MARGIN and x + width <= wide - MARGIN and y + height <= high - MARGIN
            if node.attrib["fill"] != "none":
                boxes.append((x, y, x + width, y + height, node.attrib["fill"]))
        elif node.tag == SVG + "text":
            _check_text(node, boxes, wide - MARGIN, high - MARGIN)


def _wide(text: str) -> float:
    """Return the width of a text in units of its size: letters as in DejaVu Sans Mono and Menlo, else a square."""
    return sum(0.602 if char.isascii() or (char.isalpha() and char < "\u1100") else _square(char) for char in text)


def _square(char: str) -> float:
    return 0 if unicodedata.combining(char) else 0.602 if unicodedata.category(char)[0] == "P" else 1


def _check_text(
    node: ET.Element, boxes: list[tuple[float, float, float, float, str]], right: float, low: float
) -> None:
    """The text is inside the picture, and can be read on the uppermost box below it."""
    shown = "".join([node.text or "", *(child.tail or "" for child in node)])
    x, y, size = (float(node.attrib[key]) for key in ("x", "y", "font-size"))
    wide = _wide(shown) * size
    left = x - {"start": 0, "middle": wide / 2, "end": wide}[node.attrib.get("text-anchor", "start")]
    assert left >= -MARGIN and left + wide <= right + 1 and 0 <= y <= low, shown
    assert size >= 9
    middle = (left + wide / 2, y - size / 3)
    below = [fill for x1, y1, x2, y2, fill in boxes if x1 <= middle[0] <= x2 and y1 <= middle[1] <= y2]
    assert contrast(node.attrib["fill"], below[-1] if below else "#ffffff") >= 4.5, (shown, node.attrib["fill"], below)


# jupyterlab/jupyterlab@00bc2446, packages/apputils/src/sanitizer.ts: of what it lets pass, what a picture may need.
_ALLOWED = """
b br caption code dd details div dl dt em figcaption figure h3 h4 hr i img kbd li mark meter ol p pre samp
section small span strong sub summary sup table tbody td tfoot th thead tr tt u ul var
"""
TAGS = set(_ALLOWED.split())
ATTRIBUTES = {"dir", "lang", "style", "title"}
OF_TAG = {
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "td": {"colspan", "rowspan", "align", "valign"},
    "th": {"colspan", "rowspan", "align", "valign", "scope"},
    "meter": {"high", "low", "max", "min", "value"},
}
_LENGTH = r"(0|[0-9.]+(px|em|rem|pt|%))"
_COLOUR = r"(#[0-9a-f]+|transparent|white|black)"
STYLES = {
    "background-color": _COLOUR,
    "border": rf"(({_LENGTH}|none|dashed|dotted|solid|double|{_COLOUR})\s*){{1,3}}",
    "border-bottom": rf"(({_LENGTH}|none|dashed|dotted|solid|double|{_COLOUR})\s*){{1,3}}",
    "border-collapse": "collapse|separate",
    "color": _COLOUR,
    "font-family": "serif|sans-serif|monospace",
    "font-size": rf"small|medium|large|smaller|larger|{_LENGTH}",
    "font-style": "normal|italic",
    "font-weight": "normal|bold|[1-9]00",
    "margin": rf"(({_LENGTH}|auto)\s*){{1,4}}",
    "max-width": rf"{_LENGTH}|none|auto",
    "overflow-x": "visible|hidden|scroll|auto",
    "padding": rf"({_LENGTH}\s*){{1,4}}",
    "text-align": "left|right|center|justify",
    "vertical-align": "baseline|top|middle|bottom",
    "white-space": "normal|pre|nowrap|pre-wrap|pre-line",
    "width": rf"{_LENGTH}|auto",
}
_EMPTY = {"br", "hr", "img"}


class _Sanitizer(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        if tag not in _EMPTY:
            self.open.append(tag)
        for name, value in attrs:
            assert name in ATTRIBUTES | OF_TAG.get(tag, set()), (tag, name)
            if name == "style":
                self.check_style(value or "")
        if tag == "img":
            given = dict(attrs)
            assert given["alt"]
            self.images.append(given["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    @staticmethod
    def check_style(style: str) -> None:
        properties = dict(item.split(":", 1) for item in style.strip("; ").split(";"))
        for name, value in properties.items():
            assert re.fullmatch(STYLES[name.strip()], value.strip(), re.IGNORECASE), (name, value)
        # On a dark page the page's own background is dark.
        assert "color" not in properties or "background-color" in properties


def _check_html(html: str, svg: str) -> None:
    parser = _Sanitizer()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    prefix = "data:image/svg+xml;base64,"
    assert [base64.b64decode(image.removeprefix(prefix)).decode() for image in parser.images] == [svg]
