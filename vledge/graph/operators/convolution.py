"""Conv over one to three spatial axes. Constant weights are packed once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.convolution.correlation import Kernel, winograd_allowed
from vledge.convolution.windows import check_auto_pad, window_of
from vledge.graph.registry import Context, prepared_operator


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
    winograd = not context.options.get("exact", False) and winograd_allowed()

    def prepared(w: np.ndarray, b: np.ndarray | None, known: bool) -> Kernel:
        window = window_of(kernel_shape or w.shape[2:], strides, dilations, pads, auto_pad)
        bias = None if b is None else single(b)
        return Kernel(single(w), bias, window, group, winograd=known and winograd, leaves_out=known)

    if known_w is None or (has_bias and known_b is None):

        def run_with_weights(
            x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None
        ) -> np.ndarray:
            kernel = prepared(w, b, False)
            return kernel.convolved(single(x), relu).astype(x.dtype, copy=False)

        return run_with_weights

    kernel = prepared(known_w, known_b, True)
    context.release(1)
    context.release(2)
    return KnownConv(kernel, relu, known_w.dtype)


class KnownConv:
    """A convolution with packed weights, which the native program takes from here."""

    def __init__(self, kernel: Kernel, relu: bool, dtype: np.dtype) -> None:
        self.kernel, self.relu, self.dtype = kernel, relu, dtype

    def __call__(self, x: np.ndarray, *_: np.ndarray | None) -> np.ndarray:
        return self.kernel.convolved(single(x), self.relu).astype(self.dtype, copy=False)


def single(x: np.ndarray) -> np.ndarray:
    """float16 is convolved in single precision and rounded once."""
    return x.astype(np.float32) if x.dtype == np.float16 else x
