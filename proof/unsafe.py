"""Where the Rust code is `unsafe`, and whether each place says why it may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

# The crate's, and that of the init, which is a program of its own. The compiler denies it everywhere else.
MAY = (Path("src/sys.rs"), Path("init/sys.rs"))
DENIED_IN = {Path("Cargo.toml"): 'unsafe_code = "deny"', Path("init/main.rs"): "#![deny(unsafe_code"}

_NO_CODE = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', re.DOTALL)
_DOES = re.compile(r"\bunsafe (?:\{|impl\b)")


def files() -> Iterator[Path]:
    yield Path("build.rs")
    for directory in ("src", "init"):
        yield from sorted(Path(directory).rglob("*.rs"))


def uses(file: Path) -> list[tuple[int, bool]]:
    """Return the line of each unsafe block and impl, and whether a SAFETY comment stands just before it."""
    text = file.read_text()
    # As long as before, so that the places stay the same.
    code = _NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    lines = text.splitlines()
    found = []
    for match in _DOES.finditer(code):
        line = code.count("\n", 0, match.start())
        found.append((line + 1, any("// SAFETY: " in each for each in lines[max(line - 3, 0) : line])))
    return found


def elsewhere() -> list[str]:
    """Return the files that say `unsafe`, or allow it, and must not; and those that do not deny it."""
    wrong = [str(file) for file in files() if file not in MAY and _says_unsafe(file)]
    return wrong + [f"{file} without {words}" for file, words in DENIED_IN.items() if words not in file.read_text()]


def _says_unsafe(file: Path) -> bool:
    code = _NO_CODE.sub("", file.read_text())
    return bool(re.search(r"\bunsafe\b|allow\(unsafe_code", code))
