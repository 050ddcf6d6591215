"""Linear and Identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vledge._ext.product import Product
from vledge.array_like import ArrayLike, each_sequence
from vledge.nn.dtype import DType, checked_input, float_dtype, require_cpu
from vledge.nn.module import Module
from vledge.nn.packed import PackedModule
from vledge.small_matrix import is_dynamic
from vledge.weights.plain import layer_weights

if TYPE_CHECKING:
    from vledge.recurrent.dynamic import DynamicProduct

__all__ = ["Identity", "Linear"]


class Linear(PackedModule):
    """``y = x W^T + b``; weight ``[out_features, in_features]``. Source: torch.nn.Linear."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        dtype = float_dtype(dtype)
        self.in_features = in_features
        self.out_features = out_features
        self.declare("weight", (out_features, in_features), dtype, small=True)
        if bias:
            self.declare("bias", (out_features,), dtype)
        else:
            self.bias = None

    def _pack(self, arrays: dict[str, Any]) -> Product | DynamicProduct:
        if is_dynamic(arrays["weight"]):
            from vledge.recurrent.dynamic import DynamicProduct

            return DynamicProduct(arrays["weight"], arrays.get("bias"))
        return Product(arrays["weight"], arrays.get("bias"))

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, np.ndarray], prefix: str = "", *, dtype: DType = None
    ) -> Linear:
        """Build the layer from ``weight`` and, if it is there, ``bias`` under ``prefix``."""
        weights = layer_weights(weights, prefix, "Linear", 2)
        weight = weights["weight"]
        bias = "bias" in weights
        if dtype is None:
            dtype = np.float64 if weight.dtype == np.float64 else np.float32
        layer = cls(weight.shape[1], weight.shape[0], bias, dtype=dtype)
        layer.load_state_dict({n: weights[n] for n in layer._declared})
        return layer

    @each_sequence
    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [*, in_features]`` -> ``[*, out_features]``; a list of arrays, each."""
        product = self._loaded()
        input = checked_input(input, product.dtype)
        if input.shape[-1:] != (self.in_features,):
            raise RuntimeError(
                f"Linear: input has shape {input.shape}, expected [*, {self.in_features}]"
            )
        return product(input)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={'bias' in self._declared}"
        )


class Identity(Module):
    """The input itself; arguments are accepted and ignored. Source: torch.nn.Identity."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def forward(self, input: ArrayLike) -> ArrayLike:
        """The input, unchanged."""
        return input
