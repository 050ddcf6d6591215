"""Recurrent nodes by a strategy of `vledge.lengths`: what ``session.run(…, strategy=…)`` asks for.

A node's weights, as they are laid out for the kernels, serve a layer of `vledge.nn`, and the
strategies run that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vledge.model.definition import Graph
from vledge.nn.model_strategy import ModelStrategy
from vledge.nn.recurrent import LSTM, OneState, RecurrentBase

if TYPE_CHECKING:
    from vledge.graph.operators.recurrent import Weights

__all__ = ["layer_of", "run_by_strategy", "with_strategy"]

Run = Callable[..., list[np.ndarray]]


def with_strategy(run: Run, graph: Graph, strategy: str, options: dict[str, Any]) -> Run:
    """A plan's function, with the recurrent nodes that are given sequence_lens run by a strategy.

    Raises ValueError for an unknown strategy or a graph without such a node, TypeError for options
    that are not the strategy's.
    """
    # Strategies, and what looks into graphs, are imported only by who wants them.
    from vledge.graph.layers import recurrent_nodes
    from vledge.lengths.strategies import check_options

    check_options(strategy, options)
    nodes = list(recurrent_nodes(graph))
    if not any(any(node.inputs[4:5]) for node in nodes):
        found = "it has no RNN, GRU or LSTM node"
        if nodes:
            found = f"none of its {len(nodes)} recurrent nodes is given sequence_lens"
        raise ValueError(f"strategy={strategy!r} has nothing to run in this model: {found}")
    return functools.partial(ModelStrategy(strategy, options).call, run)


def run_by_strategy(
    asked: ModelStrategy,
    weights: Weights,
    x: np.ndarray,
    lengths: np.ndarray | None,
    states: Sequence[np.ndarray | None],
    empty_state: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
    """x [T, B, I], and states [D, B, H] or None -> output [T, B, D*H], h_n, c_n.

    None for a node that runs as it would without a strategy: it has no lengths, or no layer has
    its equations and "padded", which is its only way, is not against what is asked.
    """
    # Strategies are imported only by who wants one.
    from vledge.lengths.semantics import Semantics
    from vledge.lengths.states import arrays_of, like
    from vledge.lengths.strategies import FORWARD_ONLY

    if lengths is None and not asked.wherever_possible:
        return None
    if not weights.packed:
        if asked.wherever_possible or asked.strategy in ("auto", "padded"):
            return None
        raise ValueError(
            f"strategy={asked.strategy!r} runs LSTM, GRU and RNN as vledge.nn has them; this node "
            "is quantized, or has clip, peepholes or input_forget, and "
            'runs by "padded" or "auto" only'
        )
    layer = weights.layer
    if layer.backwards and asked.wherever_possible and asked.strategy in FORWARD_ONLY:
        return None
    steps, sequences = x.shape[:2]
    if lengths is None:
        lengths = np.full(sequences, steps, np.int64)
    hx: Any = None
    if any(state is not None for state in states):
        zeros = layer.zero_state(sequences)
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
