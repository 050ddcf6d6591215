"""Conv and ConvTranspose with known weights: handlers of ``ext/program/convolution.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from vledge.graph.native.chain import Parameters
from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.graph.operators.convolution import KnownConv
from vledge.graph.operators.transposed_convolution import KnownConvTranspose
from vledge.nn.windows import Window

_AXES: Final = 3
_AUTO_PADS: Final = {"NOTSET": 0, "VALID": 0, "SAME_UPPER": 1, "SAME_LOWER": 2}
# Epilogues: kernels.h's VL_AS_IT_IS, VL_CLIP and VL_CHAINED.
_AS_IT_IS, _CLIP, _CHAINED = 0, 1, 3


@lowering("Conv")
def conv(site: Site) -> Lowered | None:
    known = site.prepared.function
    if not isinstance(known, KnownConv) or known.dtype != np.float32:
        return None
    ints = [*_window(known.kernel.window), 0, 0, 0, 0, 0, 0, 0]
    floats = [0.0, np.inf] if known.relu else []
    return Lowered(
        "conv",
        [*ints, _CLIP if known.relu else _AS_IT_IS],
        floats,
        [known.kernel.convolution],
        site.node.inputs[:1],
    )


lowering("ConvRelu", domain="vledge")(conv)


@lowering("ConvTranspose")
def conv_transpose(site: Site) -> Lowered | None:
    known = site.prepared.function
    if not isinstance(known, KnownConvTranspose) or known.dtype != np.float32:
        return None
    more, wanted = known.output_padding, known.output_shape
    rank = len(known.kernel.window.kernel)
    ints = [
        *_window(known.kernel.window),
        *axes(more or [0] * rank, 0),
        int(wanted is not None),
        *axes(wanted or [1] * rank, 1),
    ]
    return Lowered(
        "conv_transpose", [*ints, _AS_IT_IS], (), [known.kernel.convolution], site.node.inputs[:1]
    )


def chained(convolution: Lowered, chain: Parameters, result: str) -> Lowered | None:
    """The convolution and a chain on its result, which is the chain's first operand, as one instruction;
    None where it has an epilogue already or the chain's result is a mask."""
    ints = list(convolution.ints)
    is_mask = chain.ints[5] >> chain.ints[0] & 1
    if convolution.handler not in ("conv", "conv_transpose") or ints[-1] != _AS_IT_IS or is_mask:
        return None
    return Lowered(
        convolution.handler,
        [*ints[:-1], _CHAINED, *chain.ints],
        chain.floats,
        convolution.objects,
        [*(convolution.inputs or ()), *chain.operands[1:]],
        [result],
    )


def _window(window: Window) -> list[int]:
    """Spatial axes, auto_pad, spans, strides, pads before and after."""
    explicit = window.auto_pad == "NOTSET"
    none = (0,) * len(window.kernel)
    return [
        len(window.kernel),
        _AUTO_PADS[window.auto_pad],
        *axes(window.spans, 1),
        *axes(window.strides, 1),
        *axes(window.before if explicit else none, 0),
        *axes(window.after if explicit else none, 0),
    ]


def axes(numbers: Sequence[int], neutral: int) -> list[int]:
    """For three axes: leading ones that are not there have what changes nothing."""
    return [neutral] * (_AXES - len(numbers)) + list(numbers)
