"""What torch's modules can be told besides: dtypes, devices, modes. Most of it changes nothing.

vledge runs trained models, in float32 or float64, on the CPU. A call that asks for what is so
already does nothing, one that asks for something else raises or warns.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import numpy as np

from vledge.nn.dtype import conversion, require_cpu

__all__ = ["TorchHabits"]

M = TypeVar("M", bound="TorchHabits")


class TorchHabits:
    """The part of torch.nn.Module that moves and switches; `_converted` is the one thing to do."""

    training = False

    def _converted(self: M, dtype: np.dtype) -> M:
        """The module itself, its floating-point weights in another dtype."""
        raise NotImplementedError

    def to(self: M, *args: object, **kwargs: Any) -> M:
        """Convert the floating-point weights, those loaded and those to come.

        Called as in torch: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(array)`` for
        its dtype, or with these names as keywords. Dtypes are NumPy's or torch's float32 or
        float64. The one device is the CPU, where everything is: ``to("cpu")`` changes nothing.
        ``non_blocking``, ``copy`` and ``memory_format`` are accepted and do nothing.

        Raises ValueError for another dtype or device.
        """
        dtype = conversion(*args, **kwargs)
        return self if dtype is None else self._converted(dtype)

    def float(self: M) -> M:
        """Convert to float32."""
        return self.to(np.float32)

    def double(self: M) -> M:
        """Convert to float64."""
        return self.to(np.float64)

    def type(self: M, dst_type: object) -> M:
        """As ``to(dtype)``."""
        return self.to(dtype=dst_type)

    def half(self: M) -> M:
        """Convert to float32, with a warning: there are no layers of 16 bits here.

        Inputs must then be float32, too. Results are at least as exact as torch's in half.
        """
        return self._instead_of("half()", "float16")

    def bfloat16(self: M) -> M:
        """As :meth:`half`."""
        return self._instead_of("bfloat16()", "bfloat16")

    def _instead_of(self: M, call: str, dtype: str) -> M:
        warnings.warn(
            f"{call}: vledge runs in float32 or float64, not in {dtype}; the weights are float32 "
            "now, and inputs must be",
            stacklevel=3,
        )
        return self.float()

    def cpu(self: M) -> M:
        """Nothing to do: everything is on the CPU."""
        return self

    def cuda(self: M, device: object = None) -> M:
        """Raises ValueError: vledge runs on the CPU only."""
        require_cpu("cuda" if device is None else f"cuda:{device}")
        return self

    def share_memory(self: M) -> M:
        """Nothing to do: threads share a model as it is."""
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Nothing to do: no gradients are ever made, and results do not depend on it."""
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing to do: there are no gradients."""

    def compile(self, *args: object, **kwargs: object) -> None:
        """Nothing to do: what torch would compile runs compiled."""

    def eval(self: M) -> M:
        """Nothing to do: modules always run as in torch's evaluation mode."""
        return self

    def train(self: M, mode: bool = True) -> M:
        """Only ``train(False)`` is possible, which is ``eval()``.

        Raises
        ------
        ValueError
            vledge runs trained models and trains none.
        """
        if mode:
            raise ValueError("vledge runs trained models only; train with PyTorch")
        return self
