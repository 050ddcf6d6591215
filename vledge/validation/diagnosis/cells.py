"""Cells that an exporter took apart, as ONNX's nodes of one step, so that suspects apply to them.

A pass of the graph puts ``vledge.LSTMCell``, ``GRUCell`` and ``RNNCell`` together from their parts.
"""

from __future__ import annotations

import numpy as np

from vledge.model.definition import Attributes, Node
from vledge.validation.running.model_file import in_onnx_order

__all__ = ["cells_as_nodes"]

_CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def cells_as_nodes(
    nodes: list[Node], constants: dict[str, np.ndarray]
) -> tuple[list[Node], dict[str, np.ndarray]]:
    """The nodes with each cell in ONNX's form, and the constants with its weights."""
    made: list[Node] = []
    constants = dict(constants)
    for node in nodes:
        if node.domain == "vledge" and node.op_type in _CELLS:
            made += _one_step(node, constants)
        else:
            made.append(node)
    return made, constants


def _one_step(node: Node, constants: dict[str, np.ndarray]) -> list[Node]:
    kind, own = node.op_type.removesuffix("Cell"), node.outputs[0]
    weights = node.attributes
    w, r = (in_onnx_order(kind, weights[name]) for name in ("weight_ih", "weight_hh"))
    biases = [in_onnx_order(kind, weights[name]) for name in ("bias_ih", "bias_hh")]
    step, state, row = f"{own}.step", f"{own}.state", f"{own}.row"
    constants |= {
        f"{own}.W0": w[None],
        f"{own}.R0": r[None],
        f"{own}.B0": np.concatenate(biases)[None],
        step: np.array([1, -1, w.shape[1]]),
        state: np.array([1, -1, r.shape[1]]),
        row: np.array([-1, r.shape[1]]),
    }
    operands = [f"{own}.in{place}" for place in range(len(node.inputs))]
    before = [
        Node("Reshape", [given, state if place else step], [operand])
        for place, (given, operand) in enumerate(zip(node.inputs, operands, strict=True))
    ]
    finals = [f"{name}.final" for name in node.outputs]
    attributes: Attributes = {}
    if kind == "GRU" and not weights.get("reset_before", 0):
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        attributes["activations"] = [weights["nonlinearity"].capitalize()]
    inputs = [operands[0], f"{own}.W0", f"{own}.R0", f"{own}.B0", "", *operands[1:]]
    run = Node(kind, inputs, [f"{own}.Y", *finals], attributes, node.name)
    after = [
        Node("Reshape", [final, row], [name])
        for final, name in zip(finals, node.outputs, strict=True)
    ]
    return [*before, run, *after]
