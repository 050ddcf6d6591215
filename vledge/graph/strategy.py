"""Recurrent nodes by a strategy of `vledge.lengths`, as ``session.run(…, strategy=…)`` asks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vledge.graph.recurrent_nodes import recurrent_nodes
from vledge.lengths.model_strategy import ModelStrategy
from vledge.lengths.running import check_options
from vledge.lengths.semantics import Semantics
from vledge.lengths.strategies import AUTO, STRATEGIES
from vledge.model.definition import Graph
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import GivenState, split

__all__ = ["run_by_strategy", "with_strategy"]

Run = Callable[..., list[np.ndarray]]


def with_strategy(run: Run, graph: Graph, strategy: str, options: Mapping[str, object]) -> Run:
    """A plan's function, with the recurrent nodes that are given sequence_lens run by a strategy.

    Raises ValueError for an unknown strategy or a graph without such a node, TypeError for options
    that are not the strategy's.
    """
    check_options(strategy, options)
    nodes = list(recurrent_nodes(graph))
    if not any(any(node.inputs[4:5]) for node in nodes):
        why = "it has no RNN, GRU or LSTM node"
        if nodes:
            why = f"none of its {len(nodes)} recurrent nodes is given sequence_lens"
        raise ValueError(f"strategy={strategy!r} has nothing to run in this model: {why}")
    return functools.partial(ModelStrategy(strategy, options).call, run)


def run_by_strategy(
    asked: ModelStrategy,
    stack: Stack | None,
    x: np.ndarray,
    lengths: np.ndarray | None,
    states: Sequence[np.ndarray | None],
    empty_state: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
    """x [T, B, I], and h and c [D, B, H] or None -> output [T, B, D*H], h_n, c_n.

    None for a node that runs as it would without a strategy: it has no lengths, or no stack has
    its equations and "padded", which is its only way, is not against what is asked.
    """
    if lengths is None and not asked.wherever_possible:
        return None
    if stack is None:
        if asked.wherever_possible or asked.strategy in (AUTO, "padded"):
            return None
        raise ValueError(
            f"strategy={asked.strategy!r} runs LSTM, GRU and RNN as vledge.nn has them; this node "
            "is quantized, or has clip, peepholes or input_forget, and "
            'runs by "padded" or "auto" only'
        )
    if asked.wherever_possible and stack.backwards and STRATEGIES[asked.strategy].forward_only:
        return None
    steps, sequences = x.shape[:2]
    if lengths is None:
        lengths = np.full(sequences, steps, np.int64)
    given = states[: len(stack.cell.states)]
    hx: GivenState = None
    if any(state is not None for state in given):
        hx = tuple(given) if len(given) > 1 else given[0]
    output, final = asked.run(stack, x, hx, lengths=lengths, semantics=Semantics(empty=empty_state))
    assert isinstance(output, np.ndarray)  # in the form of x
    return output, *split(final)
