"""Conv and ConvTranspose with known weights: handlers of ``ext/program/convolution.c``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from vledge.convolution.windows import Window
from vledge.graph.native.chain import Parameters
from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.graph.operators.convolution import KnownConv
from vledge.graph.operators.transposed_convolution import KnownConvTranspose

_AXES: Final = 3
_AUTO_PADS: Final = {"NOTSET": 0, "VALID": 0, "SAME_UPPER": 1, "SAME_LOWER": 2}
# Epilogues: kernels.h's vl_epilogue_kind.
_AS_IT_IS, _BOUND, _LEAKY, _CHAINED = 0, 1, 2, 3
_POOL, _EPILOGUE = 21, 25  # where they stand among the integers
_NO_POOL: Final = (1, 1, 0)
# Elements of a window of a pool that runs in a convolution: what it takes waits in near caches.
_LARGEST_POOL: Final = 64


@lowering("Conv")
def conv(site: Site) -> Lowered | None:
    known = site.prepared.function
    if not isinstance(known, KnownConv) or known.dtype != np.float32:
        return None
    ints = [*window(known.kernel.window), 0, 0, 0, 0, 0, 0, 0, *_NO_POOL, 1]
    floats = [0.0, np.inf] if known.relu else []
    return Lowered(
        "conv",
        [*ints, _BOUND if known.relu else _AS_IT_IS],
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
        *window(known.kernel.window),
        *axes(more or [0] * rank, 0),
        int(wanted is not None),
        *axes(wanted or [1] * rank, 1),
        *_NO_POOL,
        known.folded,
    ]
    return Lowered(
        "conv_transpose", [*ints, _AS_IT_IS], (), [known.kernel.convolution], site.node.inputs[:1]
    )


def chained(convolution: Lowered, chain: Parameters, result: str) -> Lowered | None:
    """The convolution and a chain, whose first operand is its result, as one instruction; None
    where it has an epilogue already or the chain's result is no float32."""
    ints = list(convolution.ints)
    if ints[_EPILOGUE] != _AS_IT_IS or not chain.gives_numbers:
        return None
    kind, *floats = _activation(chain)
    if kind != _CHAINED:
        ints[_EPILOGUE] = int(kind)
        return replace(convolution, ints=ints, floats=floats, outputs=[result])
    return Lowered(
        convolution.handler,
        [*ints[:_EPILOGUE], _CHAINED, *chain.ints],
        chain.floats,
        convolution.objects,
        [*(convolution.inputs or ()), *chain.operands[1:]],
        [result],
    )


def _activation(chain: Parameters) -> tuple[float, ...]:
    """An epilogue and its numbers: bounds or a slope, where the chain is nothing but that, which
    costs less than a chain of one, above all where rows are short; else that it is a chain."""
    alone = len(chain.operands) == 1 and not chain.ints[6] and not chain.ints[7]
    micro = chain.only_operation() if alone else None
    if micro is None:
        return (_CHAINED,)
    kind, numbers = micro
    if kind == "at_least":
        return (_BOUND, numbers[0], np.inf)
    if kind == "at_most":
        return (_BOUND, -np.inf, numbers[0])
    if kind == "clip":
        return (_BOUND, *numbers)
    return (_LEAKY, *numbers) if kind == "leaky" else (_CHAINED,)


def pooled(convolution: Lowered, pool: Site) -> Lowered | None:
    """The convolution, perhaps with a chain, and a pool of windows side by side, as one
    instruction; None for any other pool."""
    kernel = pool.attribute("kernel_shape")
    rank = convolution.ints[0]
    ones = [1] * rank
    plain = (
        convolution.handler == "conv"
        and len(kernel) == rank <= 2
        and math.prod(kernel) <= _LARGEST_POOL
        and list(pool.attribute("strides") or ones) == list(kernel)
        and list(pool.attribute("dilations") or ones) == ones
        and not any(pool.attribute("pads") or [])
        and pool.attribute("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and not pool.attribute("ceil_mode", 0)
        and not any(pool.node.outputs[1:])
    )
    if not plain or not _by_channel(convolution, pool, rank):
        return None
    ints = list(convolution.ints)
    average = int(pool.node.op_type == "AveragePool")
    ints[_POOL : _POOL + len(_NO_POOL)] = [*[1] * (2 - rank), *kernel, average]
    return replace(convolution, ints=ints, outputs=pool.node.outputs[:1])


def _by_channel(convolution: Lowered, site: Site, rank: int) -> bool:
    """Whether a chain's operands are the same for all pixels, which a pool behind it needs."""
    for k, name in enumerate(list(convolution.inputs or ())[1:], 1):
        array = site.constants.get(name)
        if array is None:
            return False
        is_vector = convolution.ints[_EPILOGUE + 7] >> k & 1
        others = [size for axis, size in enumerate(array.shape[::-1]) if axis != rank]
        if not is_vector and any(size != 1 for size in others):
            return False
    return True


def window(own: Window) -> list[int]:
    """Spatial axes, auto_pad, spans, strides, pads before and after."""
    explicit = own.auto_pad == "NOTSET"
    none = (0,) * len(own.kernel)
    return [
        len(own.kernel),
        _AUTO_PADS[own.auto_pad],
        *axes(own.spans, 1),
        *axes(own.strides, 1),
        *axes(own.before if explicit else none, 0),
        *axes(own.after if explicit else none, 0),
    ]


def axes(numbers: Sequence[int], neutral: int) -> list[int]:
    """For three axes: leading ones that are not there have what changes nothing."""
    return [neutral] * (_AXES - len(numbers)) + list(numbers)
