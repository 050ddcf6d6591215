"""Recurrent layers as ONNX models: for runtimes that read ONNX, to be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.errors import MissingDependencyError
from vledge.model.definition import Attributes
from vledge.recurrent.cells import KINDS, in_order

if TYPE_CHECKING:
    import onnx

__all__ = ["layer_model"]

_OPSET: Final = 14
_IR_VERSION: Final = 8

Size = int | str  #: of an axis; a name where it is open


def layer_model(
    kind: str,
    weights: Mapping[str, np.ndarray],
    steps: Size,
    batch: Size,
    *,
    lengths: bool = False,
    states: bool = False,
    joined: bool = True,
    outputs: Sequence[str] | None = None,
    activations: Sequence[str] | None = None,
) -> bytes:
    """The bytes of a model of stacked LSTM, GRU or RNN nodes.

    Parameters
    ----------
    kind : "LSTM", "GRU" or "RNN"
    weights : mapping of str to float32 ndarray
        By torch's names, ``weight_ih_l0`` and so on, which also say how many layers and directions
        there are; without biases, the nodes have none.
    steps, batch : int or str
        Sizes of x's axes, or names where they are open. What is static lets a runtime plan ahead.
    lengths : bool
        An input ``sequence_lens`` [B], int32.
    states : bool
        Inputs ``h_0_l0``, … and, for an LSTM, ``c_0_l0``, … [D, B, H].
    joined : bool
        Whether the output's directions stand side by side, as in torch; else it is the last node's
        own, [T, D, B, H], without another node behind it.
    outputs : sequence of str, optional
        Those wanted, of ``y``, ``h_n_l0``, …, ``c_n_l0``, …; all by default.
    activations : sequence of str, optional
        Each direction's, by ONNX's names.

    Returns
    -------
    bytes
        Input x [T, B, I]; outputs y [T, B, D * H], ``h_n_l0``, … and ``c_n_l0``, … [D, B, H].

    Source: ONNX's operators LSTM, GRU and RNN.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise MissingDependencyError(
            "an ONNX model needs the onnx package: pip install onnx"
        ) from None

    def info(name: str, *shape: Size) -> onnx.ValueInfoProto:
        kind = TensorProto.INT32 if name == "sequence_lens" else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, shape)

    layers = sum(name.startswith("weight_ih_l") for name in weights)
    directions = 2 if "weight_ih_l0_reverse" in weights else 1
    layers //= directions
    size = weights["weight_hh_l0"].shape[1]
    attributes: Attributes = {
        "hidden_size": size,
        "direction": "bidirectional" if directions == 2 else "forward",
    }
    if kind == "GRU":
        attributes["linear_before_reset"] = 1  # as torch's
    if activations is not None:
        attributes["activations"] = [*activations] * directions
    letters = KINDS[kind].states
    inputs = [info("x", steps, batch, weights["weight_ih_l0"].shape[1])]
    inputs += [info("sequence_lens", batch)] if lengths else []
    last = (steps, batch, directions * size) if joined else (steps, directions, batch, size)
    made = {"y": info("y", *last)}
    nodes, initializers, x = [], {}, "x"
    for layer in range(layers):
        suffixes = [f"_l{layer}", f"_l{layer}_reverse"][:directions]
        operands = [x]
        for name, parts in _OPERANDS.items():
            if parts[0] + suffixes[0] in weights:
                initializers[f"{name}_l{layer}"] = _stacked(kind, weights, parts, suffixes)
                operands.append(f"{name}_l{layer}")
            else:
                operands.append("")
        operands.append("sequence_lens" if lengths else "")
        initial = [f"{letter}_0_l{layer}" for letter in letters] if states else []
        inputs += [info(name, directions, batch, size) for name in initial]
        final = [f"{letter}_n_l{layer}" for letter in letters]
        made |= {name: info(name, directions, batch, size) for name in final}
        operands += initial
        while not operands[-1]:
            operands.pop()
        wanted = [name if outputs is None or name in outputs else "" for name in final]
        top = layer == layers - 1
        y = f"Y_l{layer}" if joined or not top else "y"
        if top and outputs is not None and "y" not in outputs:
            y = ""
        nodes.append(helper.make_node(kind, operands, [y, *wanted], **attributes))
        if y.startswith("Y_"):
            x = "y" if top else f"y_l{layer}"
            nodes += _side_by_side(helper, y, x, directions)
    if any(node.op_type == "Squeeze" for node in nodes):
        initializers["axis"] = np.array([1], np.int64)
    if any(node.op_type == "Reshape" for node in nodes):
        initializers["shape"] = np.array([0, 0, directions * size], np.int64)
    graph = helper.make_graph(
        nodes,
        "layers",
        inputs,
        [made[name] for name in (made if outputs is None else outputs)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


_OPERANDS: Final = {"W": ["weight_ih"], "R": ["weight_hh"], "B": ["bias_ih", "bias_hh"]}


def _stacked(
    kind: str, weights: Mapping[str, np.ndarray], parts: Sequence[str], suffixes: Sequence[str]
) -> np.ndarray:
    """An operand: of each direction the parts, one behind the other, in ONNX's order of gates."""
    each = (
        np.concatenate([in_order(kind, weights[part + s], "PyTorch", "ONNX") for part in parts])
        for s in suffixes
    )
    return np.stack(list(each))


def _side_by_side(helper: ModuleType, y: str, output: str, directions: int) -> list[onnx.NodeProto]:
    """[T, D, B, H] -> [T, B, D * H]."""
    if directions == 1:
        return [helper.make_node("Squeeze", [y, "axis"], [output])]
    return [
        helper.make_node("Transpose", [y], [f"{y}_t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"{y}_t", "shape"], [output]),
    ]
