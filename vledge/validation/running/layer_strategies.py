"""A model whose recurrent layers are run by a strategy of ``vledge.lengths``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from vledge.graph.layers import summaries
from vledge.graph.plan import simplified
from vledge.graph.session import InferenceSession
from vledge.lengths.model_strategy import ModelStrategy
from vledge.lengths.strategies import STRATEGIES
from vledge.model.definition import Model
from vledge.recurrent.cells import OPERATORS

__all__ = ["OPTIONS", "obstacles", "run_layers_by"]

#: What each strategy is given: so little that a few short sequences are taken apart, too.
OPTIONS: Final[dict[str, Mapping[str, int]]] = {
    name: strategy.small for name, strategy in STRATEGIES.items()
}


def obstacles(model: Model) -> dict[str, str]:
    """Why strategies cannot run: strategy → reason, none of those that run a layer of the model."""
    nodes = [node for node in summaries(simplified(model)) if node.kind in OPERATORS]
    layers = [node for node in nodes if node.path == "kernel"]
    if not layers:
        why = "the model has no RNN, GRU or LSTM"
        if nodes:
            why = (
                f"no layer of vledge.nn has the clip, peepholes, input_forget or activations of "
                f"{nodes[0].kind} {nodes[0].name!r}"
            )
        return dict.fromkeys(OPTIONS, why)
    if all(node.direction != "forward" for node in layers):
        forward_only = (name for name, strategy in STRATEGIES.items() if strategy.forward_only)
        return dict.fromkeys(forward_only, "a backward direction needs whole sequences")
    return {}


def run_layers_by(
    strategy: str,
    session: InferenceSession,
    names: Sequence[str] | None,
    given: Mapping[str, np.ndarray],
) -> list[np.ndarray]:
    """``session.run(names, given)`` with every layer that can, given lengths or not, run so."""
    asked = ModelStrategy(strategy, OPTIONS[strategy], wherever_possible=True)
    results: list[np.ndarray] = asked.call(session.run, names, given)
    return results
