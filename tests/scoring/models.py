"""Whole ONNX models of a GRU: with and without lengths, of fixed sizes, with a state."""

import numpy as np

from tests.peers import peer

__all__ = ["save_model"]

onnx = peer("onnx")
helper = onnx.helper
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
FEATURES, HIDDEN = 3, 8


def save_model(
    path, lengths=True, classes=2, batch="N", steps="T", state=False, halves=False, backwards=False
):
    """``logits [N, classes]`` of the last state and ``frames_out [N, T, 8]``; the path."""
    rng = np.random.default_rng(0)
    directions = 2 if backwards else 1
    arrays = {
        "w": rng.normal(0, 0.3, (directions, 3 * HIDDEN, FEATURES)),
        "r": rng.normal(0, 0.3, (directions, 3 * HIDDEN, HIDDEN)),
        "out": rng.normal(0, 0.5, (HIDDEN, classes)),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    arrays["first"] = np.array(0, np.int64)
    nodes = []
    source = "x"
    if halves:
        nodes += [
            helper.make_node("Transpose", ["x"], ["x_c"], perm=[0, 2, 1]),
            helper.make_node("AveragePool", ["x_c"], ["half"], kernel_shape=[2], strides=[2]),
            helper.make_node("Transpose", ["half"], ["x_h"], perm=[0, 2, 1]),
        ]
        source = "x_h"
    inputs = [helper.make_tensor_value_info("x", FLOAT, [batch, steps, FEATURES])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", INT64, [batch]))
        nodes.append(helper.make_node("Cast", ["lengths"], ["lens"], to=onnx.TensorProto.INT32))
    if state:
        inputs.append(helper.make_tensor_value_info("h0", FLOAT, [directions, batch, HIDDEN]))
    given = ["x_t", "w", "r", "", "lens" if lengths else "", "h0" if state else ""]
    direction = {"direction": "bidirectional"} if backwards else {}
    nodes += [
        helper.make_node("Transpose", [source], ["x_t"], perm=[1, 0, 2]),
        helper.make_node("GRU", given, ["h", "h_n"], "gru", hidden_size=HIDDEN, **direction),
        helper.make_node("Gather", ["h_n", "first"], ["last"], axis=0),
        helper.make_node("MatMul", ["last", "out"], ["logits"]),
        helper.make_node("Gather", ["h", "first"], ["h_f"], axis=1),
        helper.make_node("Transpose", ["h_f"], ["frames_out"], perm=[1, 0, 2]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", FLOAT, [batch, classes]),
        helper.make_tensor_value_info("frames_out", FLOAT, [batch, None, HIDDEN]),
    ]
    constants = [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path
