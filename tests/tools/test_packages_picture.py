"""The picture of the packages: as the source is today, and true to it."""

import re
import xml.etree.ElementTree as ElementTree

from tests.test_import import ARROWS
from tools import packages_picture as picture


def test_the_picture_is_up_to_date():
    assert picture.PICTURE.read_text() == picture.picture(), "run python tools/packages_picture.py"


def test_every_arrow_goes_down_and_none_is_lost():
    imported = picture.packages()
    heights = picture.heights(imported)
    assert set(imported) == set(ARROWS) - picture.EVERYBODY_S
    for package, targets in imported.items():
        assert all(heights[target] < heights[package] for target in targets), package
        needed = picture.below(package, imported)
        assert targets <= needed
        assert package not in needed


def test_boxes_lie_apart_and_within():
    root = ElementTree.fromstring(picture.picture())
    boxes = [
        tuple(float(box.get(key)) for key in ("x", "y", "width", "height"))
        for box in root.iter("{http://www.w3.org/2000/svg}rect")
        if box.get("x")  # the background has none
    ]
    assert len(boxes) == len(picture.packages())
    for x, y, width, height in boxes:
        assert x >= 0
        assert x + width <= picture.WIDTH
        assert y + height <= float(root.get("height"))
    for one, other in [(a, b) for a in boxes for b in boxes if a < b and a[1] == b[1]]:
        assert one[0] + one[2] <= other[0], (one, other)
    names = re.findall(r">([\w.]+)</text>", picture.picture())
    assert set(picture.packages()) <= set(names)
