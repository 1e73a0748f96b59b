"""What holds for the pictures that lay out boxes and lines themselves: no text gets into another's way."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from nslab._display.svg import measure
from nslab.pictures import Picture


def apart(picture: Picture) -> None:
    """Assert that no two texts of the drawing overlap, and that no line of the text is one that a name has broken."""
    assert not any(line.startswith("\\t") for line in picture.text.splitlines())
    boxes = [box for node in ET.fromstring(picture.svg.encode()).iter() if (box := _box(node)) is not None]
    boxes.sort(key=lambda box: box[1])
    for index, (left, top, right, low, text) in enumerate(boxes):
        for other in boxes[index + 1 :]:
            if other[1] >= low - 1:
                break
            assert other[0] >= right - 1 or other[2] <= left + 1 or top >= other[3] - 1, (text, other[4])


def _box(node: ET.Element) -> tuple[float, float, float, float, str] | None:
    if not node.tag.endswith("}text"):
        return None
    shown = "".join([node.text or "", *(child.tail or "" for child in node)])
    x, y, size = (float(node.attrib[key]) for key in ("x", "y", "font-size"))
    # The true advance of the font: `measure` has a reserve.
    wide = measure(shown, size) * 0.98
    left = x - {"start": 0, "middle": wide / 2, "end": wide}[node.attrib.get("text-anchor", "start")]
    return left, y - size * 0.75, left + wide, y + size * 0.22, shown
