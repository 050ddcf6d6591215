"""A recurrent node by a strategy of `vledge.lengths`: what ``session.run(…, strategy=…)`` asks for.

The node's weights, as they are laid out for the kernels, serve a layer of `vledge.nn`, and the
strategies run that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vledge.nn.model_strategy import ModelStrategy
from vledge.nn.recurrent import LSTM, OneState, RecurrentBase

if TYPE_CHECKING:
    from vledge.graph.operators.recurrent import Weights

__all__ = ["layer_of", "run_by_strategy"]


def run_by_strategy(
    asked: ModelStrategy,
    layer: RecurrentBase,
    x: np.ndarray,
    lengths: np.ndarray,
    states: tuple[np.ndarray | None, ...],
    empty_state: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """x [T, B, I], and states [D, B, H] or None -> output [T, B, D*H], h_n, c_n."""
    # Strategies are imported only by who wants one.
    from vledge.lengths.semantics import Semantics
    from vledge.lengths.states import arrays_of, like

    hx: Any = None
    if any(state is not None for state in states):
        zeros = layer.zero_state(len(lengths))
        given = zip(arrays_of(zeros), states, strict=False)
        hx = like(zeros, [zero if state is None else state for zero, state in given])
    output, final = asked.run(layer, x, hx, lengths=lengths, semantics=Semantics(empty=empty_state))
    h_n, *c_n = arrays_of(final)
    return output, h_n, c_n[0] if c_n else None


def layer_of(weights: Weights, kernel: str) -> RecurrentBase:
    """The node as a layer that shares its weights; one that is only reverse, too."""
    sizes = {
        "input_size": weights.input_size,
        "hidden_size": weights.hidden_size,
        "bidirectional": weights.count == 2,
        "dtype": weights.dtype,
    }
    layer: RecurrentBase = LSTM(**sizes) if kernel == "lstm" else OneState(kernel, **sizes)
    layer.share(weights.packed)
    return layer
