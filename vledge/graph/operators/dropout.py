"""Dropout, which does nothing at inference, and drops in training mode if a model asks for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.errors import UnsupportedError
from vledge.graph.registry import Context, operator, prepared_operator


@prepared_operator("Dropout", since=6, until=6)
def dropout_by_attribute(
    context: Context, *, ratio: float = 0.5, is_test: int = 0
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    if not is_test:
        raise UnsupportedError("is_test=0 is not supported")
    return lambda x: (x, np.zeros_like(x))


@operator("Dropout", since=7, until=9)
def dropout_7(x: np.ndarray, *, ratio: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The mask means nothing before operator set 12; it is all 0, as onnxruntime has it."""
    return x, np.zeros_like(x)


@operator("Dropout", since=10, until=11)
def dropout_10(x: np.ndarray, *, ratio: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    return x, np.zeros(x.shape, np.bool_)


@operator("Dropout", since=12, foldable=False)
def dropout(
    x: np.ndarray,
    ratio: np.ndarray | None = None,
    training_mode: np.ndarray | None = None,
    *,
    seed: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """In training mode by NumPy's generator of 1999, as onnx's own evaluator does it."""
    share = 0.5 if ratio is None else float(ratio)
    if training_mode is None or not training_mode or share == 0:
        return x, np.ones(x.shape, np.bool_)
    kept = np.random.RandomState(seed).uniform(0, 1, x.shape) >= share
    return np.where(kept, x * x.dtype.type(1 / (1 - share)), x.dtype.type(0)), kept
