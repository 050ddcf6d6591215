"""Resize and Upsample: the handler of ``ext/program/resize.c``, for nearest, linear and cubic."""

from __future__ import annotations

from typing import Final

from vledge.graph.native.lowering import Lowered, Site, lowering

_MODES: Final = ("nearest", "linear", "cubic")
_COORDINATES: Final = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
)
_NEAREST: Final = ("ceil", "floor", "round_prefer_ceil", "round_prefer_floor")
_BY_SCALE: Final = len(_NEAREST)  # as before operator set 11
_NO_INPUT: Final = -1


@lowering("Resize", "Upsample")
def resize(site: Site) -> Lowered | None:
    mode = site.attribute("mode", "nearest")
    if mode not in _MODES:
        return None
    if site.opset < 11:
        if not site.has(1):  # scales are an attribute
            return None
        return Lowered(
            "resize",
            [_MODES.index(mode), _COORDINATES.index("asymmetric"), _BY_SCALE, 0, 1, _NO_INPUT],
            [0.0],
        )
    coordinates = site.attribute("coordinate_transformation_mode", "half_pixel")
    stretched = site.attribute("keep_aspect_ratio_policy", "stretch") == "stretch"
    if coordinates not in _COORDINATES or site.attribute("antialias", 0) or not stretched:
        return None
    nearest = site.attribute("nearest_mode", "round_prefer_floor")
    ints = [_MODES.index(mode), _COORDINATES.index(coordinates), _NEAREST.index(nearest)]
    ints += [int(bool(site.attribute("exclude_outside", 0))), 2, 3]
    cubic = site.attribute("cubic_coeff_a", -0.75)
    return Lowered("resize", [*ints, *site.attribute("axes", ())], [cubic])
