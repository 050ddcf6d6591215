"""The picture of the packages: as the source is today, and true to it."""

import re
import xml.etree.ElementTree as ElementTree

from tests.test_import import ARROWS
from tools import packages_picture


def test_the_picture_is_up_to_date():
    assert packages_picture.PICTURE.read_text() == packages_picture.picture(), (
        "run python tools/packages_picture.py"
    )


def test_every_arrow_goes_down_and_none_is_lost():
    imported = packages_picture.packages()
    heights = packages_picture.heights(imported)
    assert set(imported) == set(ARROWS) - packages_picture.EVERYBODY_S
    for package, targets in imported.items():
        assert all(heights[target] < heights[package] for target in targets), package
        needed = packages_picture.below(package, imported)
        assert targets <= needed
        assert package not in needed


def test_boxes_lie_apart_and_within():
    root = ElementTree.fromstring(packages_picture.picture())
    boxes = [
        tuple(float(box.get(key)) for key in ("x", "y", "width", "height"))
        for box in root.iter("{http://www.w3.org/2000/svg}rect")
        if box.get("x")  # the background has none
    ]
    assert len(boxes) == len(packages_picture.packages())
    for x, y, width, height in boxes:
        assert x >= 0
        assert x + width <= packages_picture.WIDTH
        assert y + height <= float(root.get("height"))
    for one, other in [(a, b) for a in boxes for b in boxes if a < b and a[1] == b[1]]:
        assert one[0] + one[2] <= other[0], (one, other)
    names = re.findall(r">([\w.]+)</text>", packages_picture.picture())
    assert set(packages_picture.packages()) <= set(names)
