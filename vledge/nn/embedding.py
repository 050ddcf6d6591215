"""Embedding and EmbeddingBag: rows of a table by index."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from vledge.array_like import ArrayLike, array_of, each_sequence
from vledge.nn.dtype import DType, float_dtype, require_cpu
from vledge.nn.module import Module
from vledge.small_matrix import SmallMatrix, Weight
from vledge.weights.plain import layer_weights

__all__ = ["Embedding", "EmbeddingBag"]


def _looked_up(module: Module, input: ArrayLike, num_embeddings: int) -> np.ndarray:
    """The indices as an array, all within the table (negative ones too are errors, as in torch)."""
    input = array_of(input, "input")
    if input.dtype.kind not in "iu":
        raise TypeError(
            f"{type(module).__name__}: expected integer indices, got dtype {input.dtype}"
        )
    if input.size and (input.min() < 0 or input.max() >= num_embeddings):
        bad = input[(input < 0) | (input >= num_embeddings)].flat[0]
        raise IndexError(f"index {bad} is out of range in a table of {num_embeddings} rows")
    return input


class Embedding(Module):
    """Rows of ``weight [num_embeddings, embedding_dim]``.

    ``padding_idx`` changes training only: its row is read like any other. ``max_norm`` is refused,
    for it changes the weights as they are read. Source: torch.nn.Embedding.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        if max_norm is not None:
            raise ValueError("Embedding: max_norm is not supported; apply it to the weights once")
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Padding_idx must be within num_embeddings, {num_embeddings}; got "
                    f"{padding_idx}"
                )
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.declare("weight", (num_embeddings, embedding_dim), float_dtype(dtype), small=True)

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, np.ndarray], prefix: str = "", *, padding_idx: int | None = None
    ) -> Embedding:
        """Build the layer from ``weight`` under ``prefix``."""
        weights = layer_weights(weights, prefix, "Embedding", 2)
        weight = weights["weight"]
        dtype = np.float64 if weight.dtype == np.float64 else np.float32
        layer = cls(weight.shape[0], weight.shape[1], padding_idx, dtype=dtype)
        layer.load_state_dict({"weight": weight})
        return layer

    @each_sequence
    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [*]`` of integers -> ``[*, embedding_dim]``; a list of arrays, each."""
        weight: Weight = self._array("weight")
        rows = _looked_up(self, input, self.num_embeddings)
        return weight.taken(rows) if isinstance(weight, SmallMatrix) else weight[rows]

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class EmbeddingBag(Module):
    """Sum, mean or maximum of the rows of each bag of indices. Source: torch.nn.EmbeddingBag."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        if max_norm is not None:
            raise ValueError(
                "EmbeddingBag: max_norm is not supported; apply it to the weights once"
            )
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"mode has to be one of sum, mean or max, got {mode!r}")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.mode = mode
        self.include_last_offset = include_last_offset
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.declare("weight", (num_embeddings, embedding_dim), float_dtype(dtype))

    def forward(
        self,
        input: ArrayLike,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
    ) -> np.ndarray:
        """The reduced rows of each bag, ``[B, embedding_dim]``; an empty bag is 0.

        ``input [B, N]`` holds a bag a row; ``input [total]`` with ``offsets [B]`` has them end to
        end. Mode sum takes ``per_sample_weights`` of the input's shape.
        """
        weight = self._array("weight")
        input = _looked_up(self, input, self.num_embeddings)
        if per_sample_weights is not None and self.mode != "sum":
            raise NotImplementedError("per_sample_weights goes with mode='sum' only")
        if input.ndim == 2:
            if offsets is not None:
                raise ValueError("if input is 2D, then offsets has to be None")
            bounds = np.arange(input.shape[0] + 1) * input.shape[1]
        else:
            if input.ndim != 1 or offsets is None:
                raise ValueError("input has to be 2D, or 1D with offsets")
            bounds = array_of(offsets, "offsets")
            if not self.include_last_offset:
                bounds = np.append(bounds, input.size)
            if bounds[0] != 0 or np.any(np.diff(bounds) < 0) or bounds[-1] > input.size:
                raise ValueError(
                    "offsets must begin with 0, not decrease, and stay within the input"
                )
        rows = weight[input.reshape(-1)]
        if per_sample_weights is not None:
            scales = array_of(per_sample_weights, "per_sample_weights")
            rows = rows * scales.astype(weight.dtype, copy=False).reshape(-1, 1)
        counted = np.ones(input.size, bool)
        if self.padding_idx is not None:
            counted = input.reshape(-1) != self.padding_idx
        reduce: Any = {"sum": np.sum, "mean": np.mean, "max": np.max}[self.mode]
        output = np.zeros((len(bounds) - 1, self.embedding_dim), weight.dtype)
        for bag, (start, stop) in enumerate(pairwise(bounds)):
            chosen = rows[start:stop][counted[start:stop]]
            if len(chosen):
                output[bag] = reduce(chosen, axis=0)
        return output

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}"
