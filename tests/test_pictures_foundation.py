"""What every picture stands on: text that may be anything, looks that stay, forms that survive where they are shown."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures_check import NASTY, SVG, check, host, new_session, other

import nslab
import nslab._display
from nslab._display import labels
from nslab._display.palette import INK, contrast, look
from nslab._display.svg import Canvas, fitting, measure
from nslab._display.table import Cell, Table, namespace_cell
from nslab._display.text import clean, mermaid, shorten, width
from nslab._inspect.mounts import Mount
from nslab.pictures import Picture

pytestmark = pytest.mark.unprivileged


@pytest.fixture(autouse=True)
def a_session() -> Iterator[None]:
    with new_session():
        yield


def picture(**more: str) -> Picture:
    canvas = Canvas("two <boxes> & more")
    canvas.rect(0, 0, 80, 20)
    canvas.text(4, 14, "one")
    return Picture(canvas.title, canvas.svg(), "one\ntwo", **more)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(nslab._display.__path__)])
def test_docstrings(name: str) -> None:
    found = importlib.import_module(f"nslab._display.{name}")
    outcome = doctest.testmod(found, extraglobs={"nslab": nslab, "os": os}, optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0


# ------------------------------------------------------------------------------------------------------------- text


def test_any_text_becomes_visible_and_valid_xml() -> None:
    canvas = Canvas(NASTY, NASTY)
    canvas.text(0, 20, NASTY)
    canvas.text(0, 40, NASTY, width=60)
    with canvas.group(NASTY):
        canvas.rect(0, 0, 1, 1)
    tree = ET.fromstring(canvas.svg().encode())
    assert clean(NASTY) in [node.text for node in tree.iter(SVG + "text")]


def test_every_character_is_fit_for_xml_and_a_terminal() -> None:
    for start in range(0, 0x110000, 0x1000):
        text = clean("".join(map(chr, range(start, start + 0x1000))))
        text.encode()
        assert text.isprintable()
        ET.fromstring(f"<a>{text.replace('&', '').replace('<', '')}</a>".encode())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b", "\\x1b"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\u202e", "\\u202e"),
        ("é", "é"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_python_escapes_it(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_what_is_no_text_is_shown_too() -> None:
    assert clean(None) == "None"
    assert clean(b"\xff") == r"b'\xff'"


@pytest.mark.parametrize("limit", range(20))
@pytest.mark.parametrize("text", ["", "/var/lib/containers/storage", "東京" * 9, "a東" * 9, "e\u0301" * 30])
def test_shortened_text_has_at_most_that_width(text: str, limit: int) -> None:
    assert width(shorten(text, limit)) <= limit


@pytest.mark.parametrize("text", ["x" * 300, "東" * 300, "①" * 300, NASTY * 9])
@pytest.mark.parametrize("pixels", [1, 20, 100, 333])
def test_a_text_fits_where_it_is_written(text: str, pixels: int) -> None:
    assert measure(fitting(text, pixels)) <= max(pixels, 13 * 1.05)


def test_a_shortened_text_is_whole_in_its_title() -> None:
    canvas = Canvas("t")
    path = "/var/lib/" + "x" * 200 + "/end"
    assert canvas.text(0, 20, path, width=100) <= 100
    assert path in [node.text for node in ET.fromstring(canvas.svg()).iter(SVG + "title")]


def test_a_label_of_a_mermaid_graph_has_none_of_its_syntax() -> None:
    label = mermaid(NASTY)
    assert not set(label[1:-1]) & set("\"'<>`|\n\\")


# ------------------------------------------------------------------------------------------------------------ tables


def test_rows_of_a_table_have_one_width() -> None:
    table = Table(["a", "b"], [["東京", "x"], [NASTY, "y" * 100], ["", Cell("z", strong=True)]], "lr")
    assert len({width(line) for line in table.text().splitlines()}) == 1


def test_a_table_shows_the_same_in_every_form() -> None:
    rows: list[list[str | Cell]] = [["<one>", Cell("≠ two", strong=True)], [namespace_cell(look(other("uts"))), "four"]]
    table = Table(["first", "second"], rows)
    canvas = Canvas("t")
    wide, high = table.draw(canvas, 0, 0)
    assert (canvas.right, canvas.bottom) == (wide, high)
    drawn = [node.text for node in ET.fromstring(canvas.svg()).iter(SVG + "text")]
    assert drawn == ["first", "second", "<one>", "≠ two", "① uts:[1]", "four"]
    check(Picture("t", canvas.svg(), table.text(), table=table.html()))
    assert all(text in table.text() for text in drawn if text)


def test_a_table_without_rows() -> None:
    table = Table(["first", "second"], [])
    canvas = Canvas("t")
    table.draw(canvas, 0, 0)
    check(Picture("t", canvas.svg(), table.text(), table=table.html()))


# -------------------------------------------------------------------------------------------------------------- looks


def test_a_namespace_keeps_its_look() -> None:
    ids = [other("uts", number) for number in range(50)]
    looks = [look(item) for item in ids]
    assert looks == [look(item) for item in ids]
    assert len({item.mark for item in looks}) == len({item.label for item in looks}) == 50
    assert len({(item.fill, item.dash) for item in looks}) == 21
    for item in [*looks, look(host("uts")), look(None)]:
        assert contrast(INK, item.fill) >= 4.5
        assert contrast(item.stroke, "#ffffff") >= 3


def test_the_callers_own_is_the_host() -> None:
    assert look(host("uts")).host
    assert look(nslab.namespaces(os.getpid())["net"]).mark == "⌂"
    assert not look(other("uts")).host
    assert look(None).mark == "?"


def test_stable_labels_are_the_same_in_every_run() -> None:
    nslab.options.stable = True
    assert look(other("uts", 77)).text == "uts:new①"
    assert look(host("uts")).text == "uts:host"
    assert look(other("uts", 78)).text == "uts:new②"
    assert labels.name("pid 4711") == labels.name("pid 4711") == labels.pid(4711) == "pid①"
    assert (labels.pid(0), labels.pid(1), labels.pid(None)) == ("0", "1", "?")
    assert labels.duration(5) == "·"
    assert labels.stand_in("mac", "02:00:00:00:00:01") == "mac①"


def test_labels_tell_the_truth_otherwise() -> None:
    assert look(other("uts", 77)).text == "① uts:[77]"
    assert labels.name("pid 4711") == "pid 4711"
    assert labels.name("host") == "host"
    assert [labels.duration(number) for number in (5, 5_000, 999_600, 12_345_678, 5 * 10**12)] == [
        *("5 ns", "5 µs", "1000 µs", "12.3 ms", "5000 s")
    ]


def test_options_refuse_what_they_do_not_have() -> None:
    with pytest.raises(AttributeError):
        nslab.options.stabel = True  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="stable must be a bool"):
        nslab.options.stable = 1  # type: ignore[assignment]
    assert "stable=False" in repr(nslab.options)


@pytest.mark.parametrize(("value", "stable"), [("1", "True"), ("0", "False"), ("", "False")])
def test_the_environment_makes_it_stable(value: str, stable: str) -> None:
    code = "import nslab; print(nslab.options.stable)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"NSLAB_STABLE": value}, capture_output=True)
    assert done.stdout.decode().strip() == stable


# ------------------------------------------------------------------------------------------------------------ pictures


def test_a_picture_in_every_form(tmp_path: Path) -> None:
    drawn = picture(mermaid="graph TD")
    check(drawn)
    for suffix in ("svg", "html", "txt", "mmd"):
        drawn.save(tmp_path / f"x.{suffix}")
    assert (tmp_path / "x.svg").read_text() == drawn.svg
    assert (tmp_path / "x.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "x.txt").read_text() == "one\ntwo\n"
    assert (tmp_path / "x.mmd").read_text() == "graph TD"


@pytest.mark.parametrize("name", ["x", "x.png", ".svg"])
def test_a_picture_is_not_saved_as_anything_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"saved as \.svg, \.html, \.txt or \.mmd"):
        picture().save(tmp_path / name)
    with pytest.raises(ValueError, match="no Mermaid form"):
        picture().save(str(tmp_path / "x.mmd"))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_has_what_is_asked_for() -> None:
    drawn = picture()
    assert set(drawn._repr_mimebundle_()) == {"text/html", "image/svg+xml", "text/plain"}
    assert set(drawn._repr_mimebundle_(include={"text/plain", "text/html"}, exclude={"text/html"})) == {"text/plain"}


def test_a_record_without_a_picture_of_its_own_shows_its_fields(tmp_path: Path) -> None:
    record = Mount(1, 0, "0:1", "/", NASTY, ("rw", "nosuid"), "tmpfs", "x" * 200, (), None, 3, None, False)
    drawn = record._repr_mimebundle_()
    assert "rw, nosuid" in drawn["text/plain"]
    record.save(tmp_path / "mount.svg")
    assert ET.parse(tmp_path / "mount.svg").getroot().tag == SVG + "svg"
    assert "⌂" in host("uts")._repr_mimebundle_()["text/plain"]


def test_what_is_drawn_loads_nothing_of_a_third_party() -> None:
    code = "import sys; before = set(sys.modules); import nslab.pictures; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert all(name.split(".")[0] in {"nslab", *sys.stdlib_module_names} for name in loaded)
    assert "nslab._display.picture" in loaded
