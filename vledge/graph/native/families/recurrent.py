"""RNN, GRU, LSTM, and cells that a pass recognised: handlers of ``recurrent_nodes.pxi``."""

from __future__ import annotations

from dataclasses import replace

from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.graph.operators.recurrent import RecurrentNode
from vledge.graph.operators.recurrent_cells import RecognizedCell
from vledge.graph.operators.recurrent_loops import SteppedLayer
from vledge.small_matrix import DYNAMIC


@lowering("RNN", "GRU", "LSTM")
def recurrent(site: Site) -> Lowered | None:
    return _layer(site, site.prepared.function, site.without(1, 2, 3, 7)[:7])


@lowering("RNN", "GRU", "LSTM", domain="vledge")
def stepped(site: Site) -> Lowered | None:
    layer = site.prepared.function
    assert isinstance(layer, SteppedLayer)
    made = _layer(site, layer.layer, site.without(1, 2, 3))
    if made is None or not site.has(4):
        return made
    return replace(made, handler="recurrent_masked", ints=[int(layer.hold)])


def _layer(site: Site, node: object, inputs: list[str]) -> Lowered | None:
    if not isinstance(node, RecurrentNode) or node.weights is None:
        return None
    if node.weights.stack is None or node.weights.stack.shape.storage in DYNAMIC:
        return None
    if node.weights.outer_dtype != node.weights.dtype:
        return None
    made = 3 if node.has_cell_state else 2
    named = [*site.node.outputs, *[""] * (made - len(site.node.outputs))]
    # The kernel writes all final states, so each has a value, whether somebody reads it or not.
    base = next(name for name in named if name)
    outputs = [name or (f"{base}~state{k}" if k else "") for k, name in enumerate(named)]
    return Lowered(
        "recurrent",
        ints=[node.layout, int(node.empty_state == "zero")],
        objects=node.weights.stack.directions,
        inputs=inputs,
        outputs=outputs,
    )


@lowering("LSTMCell", "GRUCell", "RNNCell", domain="vledge")
def cell(site: Site) -> Lowered:
    own = site.prepared.function
    assert isinstance(own, RecognizedCell)
    return Lowered("recurrent_cell", objects=[own.direction])
