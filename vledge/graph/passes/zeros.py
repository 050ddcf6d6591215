"""Which values are zeros whatever a graph is given: initial states that exporters make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from vledge.model.definition import Graph

__all__ = ["zeros_of"]

_MOVING: Final = frozenset(
    "Cast Concat Expand Gather Identity Reshape Slice Squeeze Tile Transpose Unsqueeze".split()  # noqa: SIM905
)


def zeros_of(graph: Graph, constants: Mapping[str, np.ndarray]) -> set[str]:
    """The names of values, of the graph and of those inside, whose elements are all zero."""
    zeros = {
        name for name, array in constants.items() if array.dtype.kind in "fiu" and not array.any()
    }
    _mark(graph, zeros)
    return zeros


def _mark(graph: Graph, zeros: set[str]) -> None:
    for node in graph.nodes:
        for inner in node.subgraphs():
            _mark(inner, zeros)
        if node.domain:
            continue
        if node.op_type == "ConstantOfShape":
            value = node.attributes.get("value")
            if value is None or not np.any(value):
                zeros.add(node.outputs[0])
        elif node.op_type in _MOVING and node.inputs:
            sources = node.inputs if node.op_type == "Concat" else node.inputs[:1]
            if all(name in zeros for name in sources):
                zeros.update(name for name in node.outputs if name)
