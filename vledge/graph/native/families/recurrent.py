"""RNN, GRU, LSTM, and cells that a pass recognised: handlers of ``ext/recurrent_node.pyx``."""

from __future__ import annotations

from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.graph.operators.recurrent import RecurrentNode


@lowering("RNN", "GRU", "LSTM")
def recurrent(site: Site) -> Lowered | None:
    node = site.prepared.function
    if not isinstance(node, RecurrentNode) or node.weights is None or not node.weights.packed:
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
        objects=node.weights.packed,
        inputs=site.without(1, 2, 3, 7)[:7],
        outputs=outputs,
    )


@lowering("LSTMCell", "GRUCell", "RNNCell", domain="vledge")
def cell(site: Site) -> Lowered:
    return Lowered("recurrent_cell", objects=[site.prepared.function.direction])
