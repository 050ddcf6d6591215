"""The work as an ONNX model, for the runtimes that read ONNX."""

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Outputs

__all__ = ["build", "feeds", "outputs"]

# ONNX's gate order as indices into torch's: LSTM i,o,f,c from i,f,g,o; GRU z,r,h from r,z,n.
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def build(workload: Workload, weights: dict[str, Array]) -> bytes:
    """Inputs x [T, B, I] (T is 1 for a stream), sequence_lens [B] (var), and h_0_l0 … and
    c_0_l0 … [D, B, H] (streaming).

    Outputs y [T, B, D * H], h_n_l0 …, and c_n_l0 … for an LSTM. All shapes are static, which
    lets a runtime plan its memory ahead.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    time_steps = 1 if workload.streaming else workload.time_steps
    batch, directions = workload.batch, workload.directions
    state_shape = [directions, batch, workload.hidden_size]
    nodes, initializers, model_outputs = [], [], []
    model_inputs = [
        helper.make_tensor_value_info(
            "x", TensorProto.FLOAT, [time_steps, batch, workload.input_size]
        )
    ]
    sequence_lens = ""
    if workload.kind == "var":
        sequence_lens = "sequence_lens"
        model_inputs.append(
            helper.make_tensor_value_info(sequence_lens, TensorProto.INT32, [batch])
        )
    states = ("h", "c") if workload.cell == "LSTM" else ("h",)
    shape = np.array([time_steps, batch, directions * workload.hidden_size], np.int64)
    initializers.append(numpy_helper.from_array(shape, "shape"))
    model_outputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, shape.tolist()))
    x = "x"
    for layer in range(workload.num_layers):
        suffixes = [f"_l{layer}", f"_l{layer}_reverse"][:directions]
        for name, parts in (
            ("W", ["weight_ih"]),
            ("R", ["weight_hh"]),
            ("B", ["bias_ih", "bias_hh"]),
        ):
            value = np.stack(
                [
                    np.concatenate([_reorder(workload.cell, weights[p + s]) for p in parts])
                    for s in suffixes
                ]
            )
            initializers.append(numpy_helper.from_array(value, f"{name}_l{layer}"))
        initial = ["", ""]
        if workload.streaming:
            initial = [f"{state}_0_l{layer}" for state in states]
            model_inputs += [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, state_shape)
                for name in initial
            ]
        final = [f"{state}_n_l{layer}" for state in states]
        model_outputs += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, state_shape) for name in final
        ]
        output = "y" if layer == workload.num_layers - 1 else f"y_l{layer}"
        attributes: dict[str, object] = {
            "hidden_size": workload.hidden_size,
            "direction": "bidirectional" if workload.bidirectional else "forward",
        }
        if workload.cell == "GRU":
            attributes["linear_before_reset"] = 1
        operands = [x, f"W_l{layer}", f"R_l{layer}", f"B_l{layer}", sequence_lens, *initial]
        while not operands[-1]:
            operands.pop()
        nodes.append(
            helper.make_node(workload.cell, operands, [f"Y_l{layer}", *final], **attributes)
        )
        y = f"Y_l{layer}"  # [T, D, B, H]
        if directions > 1:
            nodes.append(helper.make_node("Transpose", [y], [y + "_t"], perm=[0, 2, 1, 3]))
            y += "_t"
        nodes.append(helper.make_node("Reshape", [y, "shape"], [output]))
        x = output
    graph = helper.make_graph(nodes, "work", model_inputs, model_outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _reorder(cell: str, value: Array) -> Array:
    gates = np.split(value, len(GATES[cell]))
    return np.concatenate([gates[k] for k in GATES[cell]])


def feeds(workload: Workload, inputs: Inputs) -> dict[str, np.ndarray]:
    """The model's inputs by name; ``x`` is the first step of a stream."""
    result: dict[str, np.ndarray] = {"x": inputs.x}
    if workload.kind == "var":
        result["sequence_lens"] = inputs.lengths.astype(np.int32)
    if workload.streaming:
        result["x"] = inputs.x[:1]
        for layer in range(workload.num_layers):
            rows = slice(layer * workload.directions, (layer + 1) * workload.directions)
            result[f"h_0_l{layer}"] = inputs.h_0[rows]
            if inputs.c_0 is not None:
                result[f"c_0_l{layer}"] = inputs.c_0[rows]
    return result


def outputs(workload: Workload, results: dict[str, np.ndarray]) -> Outputs:
    """The model's outputs by name in the common layout."""
    h_n = np.concatenate([results[f"h_n_l{layer}"] for layer in range(workload.num_layers)])
    c_n = None
    if workload.cell == "LSTM":
        c_n = np.concatenate([results[f"c_n_l{layer}"] for layer in range(workload.num_layers)])
    return Outputs(results["y"], h_n, c_n)
