"""A grade as people and grading systems read it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from .judge import Grade, Verdict

# PrairieLearn takes results up to 1 MB, and others have limits of their own: of all outputs, in characters.
_ROOM = 400_000
_WIDTH = 92
_MARKS = {"passed": "✓", "failed": "✗", "skipped": "–", "error": "!"}
_WORDS = {"skipped": "skipped: ", "error": "not judged: "}
# What a terminal would obey.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What XML 1.0 cannot hold.
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(grade: Grade) -> str:
    """Return a line for each check, and below those that have not passed the reason."""
    widest = max(len(check.name) for check in grade.checks)
    lines = []
    for check in grade.checks:
        points = f"{check.points:g}/{check.max_points:g}"
        lines.append(f"{_MARKS[check.status]} {check.name:<{widest}}  {points}")
        for line in _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], reason(check)).splitlines():
            # What pytest says of two values that differ is laid out already.
            wrapped = textwrap.wrap(line, _WIDTH) if len(line) > _WIDTH else [line]
            lines += [f"    {part}" for part in wrapped]
    total = f"{grade.submission}: {grade.points:g} of {grade.max_points:g} points"
    return "\n".join([*lines, "", total]) + "\n"


def reason(check: Verdict) -> str:
    """Return why it has not passed, or nothing."""
    return "" if check.status == "passed" else _WORDS.get(check.status, "") + check.message


def as_json(grade: Grade) -> str:
    """Return all that is known, in our own words."""
    checks = [
        {
            "id": check.id,
            "name": check.name,
            "description": check.description,
            "status": check.status,
            "points": check.points,
            "max_points": check.max_points,
            "message": check.message,
            "output": output,
            "seconds": round(check.seconds, 3),
        }
        for check, output in _outputs(grade)
    ]
    numbers = {"score": grade.score, "points": grade.points, "max_points": grade.max_points}
    return _dumped({"version": 1, "submission": grade.submission, **numbers, "checks": checks})


def prairielearn(grade: Grade) -> str:
    """Return ``/grade/results/results.json``, see PrairieLearn's documentation of external grading."""
    tests = [
        {
            "name": check.name,
            "description": check.description,
            "points": check.points,
            "max_points": check.max_points,
            "message": reason(check),
            "output": output,
        }
        for check, output in _outputs(grade)
    ]
    return _dumped({"gradable": True, "score": grade.score, "message": _total(grade), "tests": tests})


def ungradable(sentence: str) -> str:
    """Return PrairieLearn's results for a submission that cannot be judged: no attempt is counted."""
    return _dumped({"gradable": False, "format_errors": [sentence]})


def gradescope(grade: Grade) -> str:
    """Return ``/autograder/results/results.json``, see Gradescope's autograder specifications."""
    tests = [
        {
            "name": check.name,
            "score": check.points,
            "max_score": check.max_points,
            "status": "passed" if check.status == "passed" else "failed",
            "output": "\n".join(part for part in (reason(check), output) if part),
            "output_format": "text",
            "visibility": "visible",
        }
        for check, output in _outputs(grade)
    ]
    seconds = round(sum(check.seconds for check in grade.checks), 3)
    return _dumped({"score": grade.points, "execution_time": seconds, "output": _total(grade), "tests": tests})


def junit(grade: Grade) -> str:
    """Return JUnit's XML; the points are properties of the cases."""
    counts = {status: sum(check.status == status for check in grade.checks) for status in _MARKS}
    numbers = {"tests": len(grade.checks), "failures": counts["failed"], "errors": counts["error"]}
    attributes = {name: str(number) for name, number in {**numbers, "skipped": counts["skipped"]}.items()}
    seconds = f"{sum(check.seconds for check in grade.checks):.3f}"
    suites = ElementTree.Element("testsuites")
    attributes |= {"name": _xml(grade.submission), "time": seconds}
    suite = ElementTree.SubElement(suites, "testsuite", attributes)
    for check, output in _outputs(grade):
        module = check.id.partition("::")[0].removesuffix(".py").replace("/", ".")
        names = {"classname": _xml(module), "name": _xml(check.name), "time": f"{check.seconds:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", names)
        properties = ElementTree.SubElement(case, "properties")
        for name, points in (("points", check.points), ("max_points", check.max_points)):
            ElementTree.SubElement(properties, "property", name=name, value=f"{points:g}")
        if check.status != "passed":
            tag = {"failed": "failure"}.get(check.status, check.status)
            first, _, rest = _xml(check.message).partition("\n")
            ElementTree.SubElement(case, tag, message=first).text = rest or None
        if output:
            ElementTree.SubElement(case, "system-out").text = _xml(output)
    ElementTree.indent(suites)
    written: bytes = ElementTree.tostring(suites, encoding="us-ascii", xml_declaration=True)
    return written.decode() + "\n"


FORMATS: dict[str, Callable[[Grade], str]] = {
    "text": text,
    "json": as_json,
    "junit": junit,
    "prairielearn": prairielearn,
    "gradescope": gradescope,
}


def _outputs(grade: Grade) -> list[tuple[Verdict, str]]:
    """Return each check with its output, shortened so that all together have room."""
    room = _ROOM // max(len(grade.checks), 1)
    return [(check, check.output[:room].rstrip()) for check in grade.checks]


def _total(grade: Grade) -> str:
    return f"{grade.points:g} of {grade.max_points:g} points"


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, indent=2) + "\n"


def _xml(words: str) -> str:
    return _NO_XML.sub("�", words)
