"""The lessons in JupyterLab, in a real browser; `make browser` runs this, and keeps pictures in target/browser."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest
from laboratory import LESSONS, PATIENCE, Book, Laboratory, laboratory
from playwright.sync_api import Browser, Page, expect, sync_playwright

PICTURES = Path(__file__).parents[2] / "target" / "browser"
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("laboratory")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Chromium's own sandbox is made of namespaces, and refuses root.
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=root)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, lab: Laboratory) -> Iterator[Page]:
    lab.theme("Light")
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    yield page
    page.close()
    lab.end_kernels()


def keep(book: Book, name: str) -> None:
    """Keep a picture of the whole notebook."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    cells = book.panel.locator(".jp-WindowedPanel-inner")
    book.page.set_viewport_size({"width": 1280, "height": int(cells.evaluate("inner => inner.scrollHeight")) + 200})
    book.panel.locator(".jp-Cell").first.scroll_into_view_if_needed()
    book.page.wait_for_timeout(500)  # for the pictures to be drawn at the new place
    book.panel.screenshot(path=PICTURES / f"{name}.png")


def pictures(book: Book) -> list[int]:
    """Return the widths of the pictures that are shown; 0 is one that the browser could not draw."""
    script = "images => images.map(image => image.complete ? image.naturalWidth : 0)"
    widths: list[int] = book.panel.locator(".jp-OutputArea img").evaluate_all(script)
    return widths


def no_errors(book: Book) -> None:
    expect(book.panel.locator('[data-mime-type="application/vnd.jupyter.error"]')).to_have_count(0)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_lesson_02(lab: Laboratory, page: Page, theme: str) -> None:
    lab.theme(theme)
    book = Book(page, lab, "en/02-uts.ipynb")
    book.run_all()
    no_errors(book)
    expect(book.output("hostname container")).to_contain_text("after: container".replace(": ", ":  "))
    expect(book.output("the notebook's host name")).to_contain_text(f"still {os.uname().nodename}")
    expect(book.output("--hostname container")).to_have_text("container\n")
    expect(book.output("with check.attempt")).to_contain_text("not yet: expected pid")
    assert len(pictures(book)) == 1
    assert min(pictures(book)) > 300
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(theme == "Light").lower())
    keep(book, f"02-{theme.lower()}")


@pytest.mark.parametrize(("language", "theme"), [("en", "Light"), ("en", "Dark"), ("zh", "Light")])
def test_lesson_05(lab: Laboratory, page: Page, language: str, theme: str) -> None:
    lab.theme(theme)
    book = Book(page, lab, f"{language}/05-mount.ipynb")
    book.run_all()
    no_errors(book)
    expect(book.output("--propagation shared --shell lab")).to_contain_text("shared")
    expect(book.output("--propagation unchanged")).to_contain_text("This was process 1.")
    expect(book.output("--shell lab --no-raise-error")).to_have_text("Error, do this: mount -t proc proc /proc\n")
    expect(book.output("umount /proc")).to_contain_text("bash")
    expect(book.output("--proc cured")).to_contain_text("This was process 1.")
    expect(book.output("check.no_mount_leak(really_before)")).to_have_text("✓ no mount has leaked\n" * 2)
    expect(book.output("leak = before.diff").locator("img")).to_have_attribute("alt", re.compile("Mounts of pid"))
    assert len(pictures(book)) == 3
    assert min(pictures(book)) > 300
    keep(book, f"05-{language}-{theme.lower()}")


def test_the_solution_unfolds(lab: Laboratory, page: Page) -> None:
    book = Book(page, lab, "en/02-uts.ipynb")
    solution = book.panel.locator("details").last
    expect(solution.locator("pre")).to_be_hidden()
    solution.locator("summary").click()
    expect(solution.locator("pre")).to_contain_text("%%ns uts --hostname my-lab --proc mine")


def eventually(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def running(word: str) -> list[str]:
    """Return the processes that have it in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if word.encode() in words:
            found.append(path.parent.name)
    return found


def test_interrupt_and_restart(lab: Laboratory, page: Page) -> None:
    book = Book(page, lab, "en/04-pid.ipynb")
    book.run("%load_ext nslab")
    book.wait_until_idle()
    lasting = f"71.{time.monotonic_ns() % 1_000_000}"

    output = book.run(f"%%ns pid\nsleep {lasting}")
    assert eventually(lambda: running(f"sleep\0{lasting}"), 20)
    start = time.monotonic()
    book.press("interrupt-kernel")
    expect(output).to_contain_text("it is PID 1 of its pid namespace and has no handler for SIGINT and SIGTERM")
    assert time.monotonic() - start < 1.5
    assert not running(lasting)
    expect(output).not_to_contain_text("Traceback")
    keep(book, "04-interrupt")

    book.run(f"%%ns uts --bg\nsleep {lasting} & setsid sleep {lasting} & sleep {lasting}; true")
    assert eventually(lambda: len(running(f"sleep\0{lasting}")) == 3, 20)
    (kernel,) = lab.kernels()
    warden = f"\0{kernel}-"
    assert len(running(warden)) == 1
    book.press("restart-kernel")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    book.wait_until_idle()
    assert eventually(lambda: not running(lasting), 5)
    assert eventually(lambda: not running(warden), 5)


def executed(name: str) -> nbformat.NotebookNode:
    book = nbformat.read(LESSONS / "en" / f"{name}.ipynb", as_version=4)
    # Playwright has an event loop in this thread.
    client = nbclient.NotebookClient(book, timeout=60, kernel_name="python3")
    pool = asyncio.new_event_loop()
    worker = threading.Thread(target=lambda: pool.run_until_complete(client.async_execute()))
    worker.start()
    worker.join()
    pool.close()
    return book


def test_every_picture_of_an_untrusted_copy_is_shown(lab: Laboratory, page: Page) -> None:
    expected = 0
    for name in ("01-clone-exec-wait", "05-mount", "07-user"):
        book = executed(name)
        expected = sum(
            "image/svg+xml" in output.get("data", ()) for cell in book.cells for output in cell.get("outputs", ())
        )
        assert expected
        nbformat.write(book, lab.directory / f"copy-of-{name}.ipynb")
        shown = Book(page, lab, f"copy-of-{name}.ipynb")
        expect(shown.panel.locator("svg.jp-Notebook-trusted, .jp-NotebookTrustedStatus")).to_have_count(0)
        expect(shown.panel.locator(".jp-OutputArea img")).to_have_count(expected, timeout=PATIENCE)
        assert min(pictures(shown)) > 300
        # What is not trusted is sanitized: no drawing is part of the page itself.
        expect(shown.panel.locator(".jp-OutputArea-output svg")).to_have_count(0)
        keep(shown, f"untrusted-{name[:2]}")
