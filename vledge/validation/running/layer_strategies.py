"""A model whose recurrent layers are run by a strategy of ``vledge.lengths``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from vledge.graph.layers import KINDS, summaries
from vledge.graph.plan import simplified
from vledge.graph.session import InferenceSession
from vledge.lengths.strategies import FORWARD_ONLY
from vledge.model.definition import Model
from vledge.nn.model_strategy import ModelStrategy

__all__ = ["OPTIONS", "obstacles", "run_layers_by"]

#: What each strategy is given: so little that a few short sequences are taken apart, too.
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "padded": {},
    "packed": {},
    "masked": {},
    "bucketed": {"rows": 2},
    "lanes": {"lanes": 2},
    "streaming": {"window": 5},
}


def obstacles(model: Model) -> dict[str, str]:
    """Why strategies cannot run: strategy → reason, none of those that run a layer of the model."""
    nodes = [node for node in summaries(simplified(model)) if node.kind in KINDS]
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
        return dict.fromkeys(FORWARD_ONLY, "a backward direction needs whole sequences")
    return {}


def run_layers_by(
    strategy: str, session: InferenceSession, names: Sequence[str] | None, given: Mapping[str, Any]
) -> list[np.ndarray]:
    """``session.run(names, given)`` with every layer that can, given lengths or not, run so."""
    asked = ModelStrategy(strategy, OPTIONS[strategy], wherever_possible=True)
    results: list[np.ndarray] = asked.call(session.run, names, given)
    return results
