"""Nodes that vledge has no operator for, run one by one by onnx's reference evaluator.

Right and slow; used only where the user asks for it. Source: onnx.reference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.errors import UnsupportedError, import_failure
from vledge.graph.values import Value
from vledge.model.definition import Node, Opaque

__all__ = ["reference_function"]


def reference_function(node: Node, opset: int) -> Callable[..., list[Value]]:
    """A function that runs this node; UnsupportedError if onnx's evaluator has none for it."""
    try:
        from onnx import TensorProto, ValueInfoProto, helper, numpy_helper
        from onnx.reference import ReferenceEvaluator
    except ImportError as error:
        raise import_failure(
            error,
            "onnx",
            "fallback='reference' needs the onnx package: pip install 'vledge[onnx]'",
        ) from error
    _check_attributes(node)
    _check_types(node, opset)
    attributes = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    proto = helper.make_node(
        node.op_type,
        [f"i{index}" if name else "" for index, name in enumerate(node.inputs)],
        [f"o{index}" if name else "" for index, name in enumerate(node.outputs)],
        domain=node.domain,
        **attributes,
    )
    names = [name for name in proto.input if name]
    graph = helper.make_graph(
        [proto],
        "node",
        [ValueInfoProto(name=name) for name in names],
        [
            helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
            for name in proto.output
            if name
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, opset)])
    try:
        evaluator = ReferenceEvaluator(model)
    except Exception as error:  # it raises whatever a lookup meets
        raise UnsupportedError(
            f"neither vledge nor onnx's reference evaluator runs it: {error}"
        ) from None

    def run(*arrays: np.ndarray | None) -> list[Value]:
        given = dict(zip(names, (a for a in arrays if a is not None), strict=True))
        results = iter(evaluator.run(None, given))
        return [next(results) if name else None for name in proto.output]

    return run


def _check_attributes(node: Node) -> None:
    for name, value in node.attributes.items():
        if isinstance(value, Opaque):
            raise UnsupportedError(f"attribute {name} is a {value.kind}, which is not supported")


def _check_types(node: Node, opset: int) -> None:
    """UnsupportedError for an operator that takes or makes what is no tensor."""
    from onnx import defs

    try:
        schema = defs.get_schema(node.op_type, opset, node.domain)
    except defs.SchemaError:
        return  # onnx does not know it, and nor does its evaluator
    for parameter in (*schema.inputs, *schema.outputs):
        if not any(kind.startswith("tensor(") for kind in parameter.types):
            kind = min(parameter.types)
            raise UnsupportedError(
                f"{parameter.name} is of a type like {kind}, which is not supported"
            )
