"""Which nodes of a graph are recurrent layers or cells, the passes' own among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vledge.model.definition import Graph, Node
from vledge.recurrent.cells import OPERATORS

__all__ = ["CELLS", "recurrent_nodes"]

CELLS: Final = "vledge"  # the domain of cells that a pass put together
_OPERATORS: Final = {
    "": OPERATORS,
    "com.microsoft": ("DynamicQuantizeLSTM",),
    CELLS: (*(f"{kind}Cell" for kind in OPERATORS), *OPERATORS),
}


def recurrent_nodes(graph: Graph) -> Iterator[Node]:
    """RNN, GRU, LSTM, quantized ones and cells, outer graphs first."""
    for node in graph.nodes:
        if node.op_type in _OPERATORS.get(node.domain, ()):
            yield node
        for inner in node.subgraphs():
            yield from recurrent_nodes(inner)
