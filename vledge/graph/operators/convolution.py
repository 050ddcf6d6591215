"""Conv over any number of spatial axes. Constant weights are packed once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.graph.registry import Context, prepared_operator
from vledge.nn.correlation import Kernel
from vledge.nn.windows import check_auto_pad, window_of


@prepared_operator("ConvRelu", since=1, domain="vledge")
@prepared_operator("Conv", since=1)
def conv(
    context: Context,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    check_auto_pad(auto_pad)
    relu = context.node.op_type == "ConvRelu"  # which the pass "fusion" makes
    _, known_w, known_b = (*context.constants, None, None)[:3]
    has_bias = len(context.node.inputs) > 2 and context.node.inputs[2] != ""

    def prepared(w: np.ndarray, b: np.ndarray | None) -> Kernel:
        window = window_of(kernel_shape or w.shape[2:], strides, dilations, pads, auto_pad)
        return Kernel(_single(w), None if b is None else _single(b), window, group)

    if known_w is None or (has_bias and known_b is None):

        def run_with_weights(
            x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None
        ) -> np.ndarray:
            return prepared(w, b).convolved(_single(x), relu).astype(x.dtype, copy=False)

        return run_with_weights

    kernel = prepared(known_w, known_b)
    context.release(1)
    context.release(2)
    if known_w.dtype == np.float16:
        return lambda x, *_: kernel.convolved(_single(x), relu).astype(np.float16)
    return lambda x, *_: kernel.convolved(x, relu)


def _single(x: np.ndarray) -> np.ndarray:
    """float16 is convolved in single precision and rounded once."""
    return x.astype(np.float32) if x.dtype == np.float16 else x
