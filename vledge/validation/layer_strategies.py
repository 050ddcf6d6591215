"""A model whose recurrent layers are run by a strategy of ``vledge.lengths``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import numpy as np

import vledge.nn
from vledge import lengths as strategies
from vledge.errors import UnsupportedError
from vledge.formats.graph_definition import Model, Node
from vledge.graph.layers import stack_weights
from vledge.graph.passes.program import Program
from vledge.graph.plan import simplified
from vledge.graph.session import InferenceSession
from vledge.lengths.states import arrays_of, like
from vledge.nn.recurrent import RecurrentBase
from vledge.validation.layers import exposed, is_recurrent

__all__ = ["OPTIONS", "layer_session", "obstacles"]

#: What each strategy is given: so little that a few short sequences are taken apart, too.
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "padded": {},
    "packed": {},
    "masked": {},
    "bucketed": {"rows": 2},
    "lanes": {"lanes": 2},
    "streaming": {"window": 5},
}
FORWARD_ONLY: Final = ("lanes", "streaming")
_OPERATOR: Final = "LayerByStrategy"


def obstacles(model: Model) -> dict[str, str]:
    """Why strategies cannot run: strategy → reason, none of those that run a layer of the model."""
    program = simplified(model)
    layers, reasons = [], []
    for node in filter(is_recurrent, program.graph.nodes):
        try:
            layers.append(_layer(program, node))
        except UnsupportedError as error:
            reasons.append(str(error))
    if not layers:
        why = reasons[0] if reasons else "the main graph has no RNN, GRU or LSTM"
        return dict.fromkeys(OPTIONS, why)
    if all(layer.bidirectional for layer in layers):
        return dict.fromkeys(FORWARD_ONLY, "layers of both directions need whole sequences")
    return {}


def layer_session(model: Model, strategy: str, given: Iterable[str]) -> InferenceSession:
    """A session in which `vledge.lengths` runs what layers it can by the strategy.

    Left to the graph's own operators are layers that no `vledge.nn` layer can be, and those of both
    directions under a strategy that runs forwards. ``given`` names the inputs of the runs.
    """
    model = exposed(model)
    program = simplified(model, variable=set(given) & model.graph.initializers.keys())
    runners: list[Callable[..., Any]] = []
    nodes = []
    for node in program.graph.nodes:
        layer = _layer_or_none(program, node, strategy)
        if layer is None:
            nodes.append(node)
            continue
        x, *rest = (node.inputs[i] if i < len(node.inputs) else "" for i in (0, 4, 5, 6))
        attributes = {"place": len(runners)}
        nodes.append(Node(_OPERATOR, [x, *rest], node.outputs, attributes, node.name, "vledge"))
        runners.append(_runner(layer, strategy))

    def run_by(node: Node, opset: int) -> Callable[..., Any]:
        if node.op_type != _OPERATOR:
            raise UnsupportedError(f"{node}: the operator is not supported")
        return runners[node.attributes["place"]]

    graph = replace(program.graph, nodes=nodes, initializers=program.constants)
    return InferenceSession(replace(model, graph=graph), fallback=run_by)


def _layer_or_none(program: Program, node: Node, strategy: str) -> RecurrentBase | None:
    if not is_recurrent(node):
        return None
    try:
        layer = _layer(program, node)
    except UnsupportedError:
        return None
    return None if layer.bidirectional and strategy in FORWARD_ONLY else layer


def _layer(program: Program, node: Node) -> RecurrentBase:
    weights, options = stack_weights(program, node.op_type, [node])
    layer: RecurrentBase = getattr(vledge.nn, node.op_type).from_weights(weights, **options)
    return layer


def _runner(layer: RecurrentBase, strategy: str) -> Callable[..., Any]:
    """A function from X, sequence_lens, initial_h and initial_c to Y, Y_h and an LSTM's Y_c."""
    # ONNX's layout=1 has the batch first in states, too
    order = (1, 0, 2) if layer.batch_first else (0, 1, 2)

    def run(
        x: np.ndarray, sequence_lens: np.ndarray | None, *states: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        steps, sequences = (x.shape[i] for i in ((1, 0) if layer.batch_first else (0, 1)))
        if sequence_lens is None:
            sequence_lens = np.full(sequences, steps)
        zeros = layer.zero_state(sequences)
        hx = None
        if any(state is not None for state in states):
            given = [
                zero if state is None else state.transpose(order).astype(zero.dtype, order="C")
                for zero, state in zip(arrays_of(zeros), states, strict=False)
            ]
            hx = like(zeros, given)
        output, final = strategies.run(
            layer,
            x.astype(arrays_of(zeros)[0].dtype, copy=False),
            hx,
            lengths=sequence_lens,
            strategy=strategy,
            semantics="onnx",
            **OPTIONS[strategy],
        )
        y = output.reshape(*output.shape[:2], 2 if layer.bidirectional else 1, -1)
        y = y if layer.batch_first else y.transpose(0, 2, 1, 3)
        finals = (state.transpose(order) for state in arrays_of(final))
        return tuple(array.astype(x.dtype, copy=False) for array in (y, *finals))

    return run
