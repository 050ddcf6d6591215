"""Small ONNX models, built where a test needs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import vledge
from tests.peers import peer

__all__ = ["model_bytes", "node", "numpy_helper", "proto", "session"]

onnx = peer("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
node = helper.make_node


def proto(
    nodes: Sequence[Any],
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    initializers: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    functions: Sequence[Any] = (),
    domains: Sequence[str] = (),
    versions: Mapping[str, int] | None = None,
    **fields: Any,
) -> Any:
    """A ModelProto. ``inputs`` are arrays, whose dtype and number of axes are declared, or
    (element type, shape). ``domains`` are imported in their first version, others in their own."""
    declared = []
    for name, value in inputs.items():
        if isinstance(value, np.ndarray) and value.dtype == object:
            value = (onnx.TensorProto.STRING, [None] * value.ndim)
        elif isinstance(value, np.ndarray):
            value = (helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        declared.append(helper.make_tensor_value_info(name, *value))
    graph = helper.make_graph(
        list(nodes),
        "graph",
        declared,
        [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(a, name) for name, a in (initializers or {}).items()],
    )
    for info in graph.output:
        info.ClearField("type")
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(d, 1) for d in domains]
        + [helper.make_opsetid(d, v) for d, v in (versions or {}).items()]
        + [helper.make_opsetid("", opset)],
        functions=list(functions),
        ir_version=10,
    )
    for name, value in fields.items():
        setattr(model, name, value)
    return model


def model_bytes(*arguments: Any, **named: Any) -> bytes:
    """The bytes of `proto`'s model."""
    return proto(*arguments, **named).SerializeToString()


def session(*arguments: Any, options: Mapping[str, Any] | None = None, **named: Any) -> Any:
    """A session on `proto`'s model."""
    return vledge.InferenceSession(model_bytes(*arguments, **named), **(options or {}))
