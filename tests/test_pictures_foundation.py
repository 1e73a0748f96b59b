"""What every picture stands on: text that may be anything, looks that stay, forms that survive where they are shown."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

import nslab
from nslab._display import labels
from nslab._display.palette import INK, contrast, look
from nslab._display.svg import Canvas
from nslab._display.table import Table
from nslab._display.text import clean, shorten, width
from nslab._inspect.ids import NamespaceId

NASTY = "<b>&\"'\x00\x1b[31m\udcff\ud800\u202e\ufffe\n\t東京 ]]> -- 🐧"


@pytest.fixture(autouse=True)
def a_new_session() -> Iterator[None]:
    labels.forget()
    yield
    nslab.options.stable = False
    labels.forget()


def test_any_text_becomes_visible_and_valid_xml() -> None:
    canvas = Canvas(NASTY, NASTY)
    canvas.text(0, 20, NASTY)
    canvas.text(0, 40, NASTY, width=60)
    with canvas.group(NASTY):
        canvas.rect(0, 0, 1, 1)
    tree = ET.fromstring(canvas.svg())
    assert clean(NASTY) in "".join(tree.itertext())
    assert "\\x1b" in clean(NASTY)
    assert "\\xff" in clean(NASTY)


def test_long_text_is_shortened_in_the_middle_and_whole_in_the_title() -> None:
    canvas = Canvas("t")
    path = "/var/lib/" + "x" * 200 + "/end"
    assert canvas.text(0, 20, path, width=100) <= 100
    assert path in [node.text for node in ET.fromstring(canvas.svg()).iter("{http://www.w3.org/2000/svg}title")]
    assert width(shorten("東京" * 20, 11)) <= 11


def test_rows_of_a_table_have_one_width() -> None:
    table = Table(["a", "b"], [["東京", "x"], [NASTY, "y" * 100]])
    assert len({width(line) for line in table.text().splitlines()}) == 1


def test_a_namespace_keeps_its_look() -> None:
    ids = [NamespaceId("uts", 1000 + number, 4, None) for number in range(50)]
    looks = [look(item) for item in ids]
    assert looks == [look(item) for item in ids]
    assert len({(item.mark, item.label) for item in looks}) == 50
    assert all(contrast(INK, item.fill) >= 4.5 and contrast(item.stroke, "#ffffff") >= 3 for item in looks)
    assert look(nslab.namespaces(os.getpid())["uts"]).host


def test_stable_labels(tmp_path: Path) -> None:
    nslab.options.stable = True
    assert look(NamespaceId("uts", 77, 4, None)).text == "uts:new①"
    assert look(nslab.namespaces(os.getpid())["uts"]).text == "uts:host"
    assert labels.name("pid 4711") == labels.name("pid 4711") == labels.pid(4711) == "pid①"
    assert labels.duration(5) == "·"


def test_options_refuse_what_they_do_not_have() -> None:
    with pytest.raises(AttributeError):
        nslab.options.stabel = True  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="stable must be a bool"):
        nslab.options.stable = 1  # type: ignore[assignment]
