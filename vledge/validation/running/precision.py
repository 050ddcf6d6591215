"""A model in float64: every float32 and float16 number and type of its graph made double.

The values stay those of the file, so that what a run gives is the model without its rounding:
the truth that its results are measured against where the framework has no float64 itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vledge.errors import UnsupportedError
from vledge.model.definition import Attributes, Graph, Model, Node, ValueInfo
from vledge.model.element_types import DTYPES, NUMBERS

__all__ = ["doubled", "doubled_array"]

_WIDENED = ("float", "float16")

# what these make is float32 or quantized by definition, whatever the type of the rest
_SINGLE = ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "DynamicQuantizeLSTM")
_TYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "Bernoulli": "dtype"}


def doubled(model: Model) -> Model:
    """A copy of the model that computes in float64; UnsupportedError where that cannot be."""
    return replace(model, graph=_graph(model.graph))


def _graph(graph: Graph) -> Graph:
    return Graph(
        [_node(node) for node in graph.nodes],
        [_info(info) for info in graph.inputs],
        [_info(info) for info in graph.outputs],
        {name: doubled_array(array) for name, array in graph.initializers.items()},
        graph.name,
    )


def _info(info: ValueInfo) -> ValueInfo:
    return replace(info, type="double" if info.type in _WIDENED else info.type)


def doubled_array(array: np.ndarray) -> np.ndarray:
    """An array as such a model has it."""
    widened = array.dtype in [DTYPES[name] for name in _WIDENED]
    return array.astype(np.float64) if widened else array


def _node(node: Node) -> Node:
    if node.op_type in _SINGLE:
        raise UnsupportedError(f"{node}: it is quantized and has no float64 form")
    attributes: Attributes = {}
    for key, value in node.attributes.items():
        if isinstance(value, Graph):
            value = _graph(value)
        elif isinstance(value, np.ndarray):
            value = doubled_array(value)
        elif node.op_type == "Constant" and key in ("value_float", "value_floats"):
            key, value = "value", np.asarray(value, np.float32).astype(np.float64)
        elif key == _TYPE_ATTRIBUTES.get(node.op_type) and value in [NUMBERS[n] for n in _WIDENED]:
            value = NUMBERS["double"]
        attributes[key] = value
    if node.op_type == "ConstantOfShape" and "value" not in attributes:
        attributes["value"] = np.zeros(1)
    return replace(node, attributes=attributes)
