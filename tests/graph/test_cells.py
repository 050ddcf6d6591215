"""Cells that exporters take apart: found in any order of their parts, and only where they are."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.test_passes import operators, same_as_onnxruntime

FEATURES, H, B = 5, 8, 3
rng = np.random.default_rng(3)
FEED = {
    "x": rng.standard_normal((B, FEATURES)).astype(np.float32),
    "h": rng.uniform(-1, 1, (B, H)).astype(np.float32),
    "c": rng.uniform(-1, 1, (B, H)).astype(np.float32),
}


def weights(gates):
    shapes = {
        "wx": (gates * H, FEATURES),
        "wh": (gates * H, H),
        "bx": (gates * H,),
        "bh": (gates * H,),
    }
    return {
        name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()
    }


def lstm(order="ifgo", swap=False, split="Split", bias="both", transposed=False, output_c=True):
    """An LSTMCell's nodes; ``order`` is the gates' order in the weights' rows."""
    constants = weights(4)
    transpose = {} if transposed else {"transB": 1}
    if transposed:
        constants |= {name: np.ascontiguousarray(constants[name].T) for name in ("wx", "wh")}
    biases = {"both": (["bx"], ["bh"]), "none": ([], []), "one": (["bx"], []), "after": ([], [])}
    bx, bh = biases[bias]
    nodes = [
        node("Gemm", ["x", "wx", *bx], ["gx"], **transpose),
        node("Gemm", ["h", "wh", *bh], ["gh"], **transpose),
        node("Add", ["gh", "gx"] if swap else ["gx", "gh"], ["sum"]),
    ]
    gates = "sum"
    if bias == "after":
        nodes.append(node("Add", ["sum", "bx"], ["gates"]))
        gates = "gates"
    if split == "Split":
        nodes.append(node("Split", [gates], [f"a{name}" for name in order], axis=1))
    else:
        for index, name in enumerate(order):
            constants[f"s{index}"] = np.array([index * H])
            constants[f"e{index}"] = np.array([(index + 1) * H if index < 3 else 1 << 62])
            constants["axis"] = np.array([1])
            nodes.append(node("Slice", [gates, f"s{index}", f"e{index}", "axis"], [f"a{name}"]))
    nodes += [
        node("Sigmoid", ["ai"], ["i"]),
        node("Sigmoid", ["af"], ["f"]),
        node("Tanh", ["ag"], ["g"]),
        node("Sigmoid", ["ao"], ["o"]),
        node("Mul", ["c", "f"] if swap else ["f", "c"], ["fc"]),
        node("Mul", ["g", "i"] if swap else ["i", "g"], ["ig"]),
        node("Add", ["ig", "fc"] if swap else ["fc", "ig"], ["c_new"]),
        node("Neg", ["c_new"], ["minus_c"]),  # c is used before h is made
        node("Tanh", ["c_new"], ["t"]),
        node("Mul", ["t", "o"] if swap else ["o", "t"], ["h_new"]),
    ]
    outputs = ["h_new", "c_new", "minus_c"] if output_c else ["h_new"]
    return nodes, outputs, constants


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("split", ["Split", "Slice"])
@pytest.mark.parametrize("order", ["ifgo", "iofg", "gfio"])
def test_lstm_in_any_order(order, split, swap):
    nodes, outputs, constants = lstm(order, swap, split)
    model = model_bytes(nodes, FEED, outputs, constants)
    assert operators(model) == ["LSTMCell", "Neg"]
    same_as_onnxruntime(model, FEED)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", ["both", "one", "none", "after"])
def test_lstm_biases_and_transposed_weights(bias, transposed):
    nodes, outputs, constants = lstm(bias=bias, transposed=transposed, output_c=False)
    model = model_bytes(nodes, FEED, outputs, constants)
    assert operators(model) == ["LSTMCell"]
    same_as_onnxruntime(model, FEED)


def gru(form="torch", mixed=False):
    constants = weights(3) | {"one": np.float32(1)}
    nodes = [
        node("Gemm", ["x", "wx", "bx"], ["gx"], transB=1),
        node("Gemm", ["h", "wh", "bh"], ["gh"], transB=1),
        node("Split", ["gx"], ["xr", "xz", "xn"], axis=1),
        node("Split", ["gh"], ["hr", "hz", "hn"], axis=-1),
        node("Add", ["hz", "xr"] if mixed else ["hr", "xr"], ["ar"]),
        node("Add", ["xz", "hr"] if mixed else ["xz", "hz"], ["az"]),
        node("Sigmoid", ["ar"], ["r"]),
        node("Sigmoid", ["az"], ["z"]),
        node("Mul", ["hn", "r"], ["rn"]),
        node("Add", ["xn", "rn"], ["an"]),
        node("Tanh", ["an"], ["n"]),
    ]
    if form == "torch":
        nodes += [
            node("Sub", ["h", "n"], ["d"]),
            node("Mul", ["d", "z"], ["dz"]),
            node("Add", ["dz", "n"], ["h_new"]),
        ]
    else:
        nodes += [
            node("Sub", ["one", "z"], ["u"]),
            node("Mul", ["u", "n"], ["un"]),
            node("Mul", ["z", "h"], ["zh"]),
            node("Add", ["un", "zh"], ["h_new"]),
        ]
    return nodes, ["h_new"], constants


@pytest.mark.parametrize("form", ["torch", "textbook"])
def test_gru(form):
    nodes, outputs, constants = gru(form)
    feed = {"x": FEED["x"], "h": FEED["h"]}
    model = model_bytes(nodes, feed, outputs, constants, opset=12)
    assert operators(model) == ["GRUCell"]
    same_as_onnxruntime(model, feed)


def test_rows_of_x_and_of_h_in_different_orders():
    """A cell like others: each gate has its own rows of either product."""
    nodes, outputs, constants = gru(mixed=True)
    feed = {"x": FEED["x"], "h": FEED["h"]}
    model = model_bytes(nodes, feed, outputs, constants)
    assert operators(model) == ["GRUCell"]
    same_as_onnxruntime(model, feed)


def test_another_state_than_the_gates_had_is_no_cell():
    nodes, outputs, constants = gru()
    nodes[-3] = node("Sub", ["other", "n"], ["d"])
    feed = {"x": FEED["x"], "h": FEED["h"], "other": FEED["c"]}
    model = model_bytes(nodes, feed, outputs, constants)
    assert "GRUCell" not in operators(model)
    same_as_onnxruntime(model, feed)


def test_what_else_uses_a_part_keeps_it():
    nodes, outputs, constants = lstm()
    model = model_bytes(nodes, FEED, [*outputs, "f"], constants)
    assert "LSTMCell" in operators(model)
    assert operators(model).count("Sigmoid") == 1
    same_as_onnxruntime(model, FEED)


def test_one_state_for_every_row():
    """The sums that a cell was taken apart into broadcast; so must the cell."""
    nodes, outputs, constants = lstm()
    feed = {**FEED, "h": FEED["h"][:1], "c": FEED["c"][:1]}
    same_as_onnxruntime(model_bytes(nodes, FEED, outputs, constants), feed)


def test_float64():
    nodes, outputs, constants = lstm(output_c=False)
    wide = {
        name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in constants.items()
    }
    feed = {name: a.astype(np.float64) for name, a in FEED.items()}
    exact = vledge.InferenceSession(model_bytes(nodes, feed, outputs, wide))
    single = vledge.InferenceSession(model_bytes(nodes, FEED, outputs, constants))
    (h,) = exact.run(None, feed)
    assert h.dtype == np.float64
    np.testing.assert_allclose(single.run(None, FEED)[0], h, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [60, 5000])
def test_sums_of_sums_take_no_longer_than_their_number(count):
    """Each a value added to itself: by recursion over both operands, 2^60 steps."""
    rng = np.random.default_rng(0)
    known = {"w": rng.standard_normal((3, 8)).astype(np.float32), "b": np.zeros(8, np.float32)}
    nodes = [node("Gemm", ["x", "w", "b"], ["s0"])]
    nodes += [node("Add", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(count)]
    nodes += [
        node("Split", [f"s{count}"], ["a", "b1", "c1", "d"], axis=1, num_outputs=4),
        *(node("Sigmoid", [name], [f"{name}s"]) for name in ("a", "b1", "d")),
        node("Tanh", ["c1"], ["g"]),
        node("Mul", ["b1s", "c"], ["fc"]),
        node("Mul", ["as", "g"], ["ig"]),
        node("Add", ["fc", "ig"], ["cn"]),
        node("Tanh", ["cn"], ["t"]),
        node("Mul", ["ds", "t"], ["h"]),
    ]
    feed = {"x": np.zeros((1, 3), np.float32), "c": np.ones((1, 2), np.float32)}
    (h,) = vledge.InferenceSession(model_bytes(nodes, feed, ["h"], known, opset=18)).run(None, feed)
    np.testing.assert_allclose(h, 0.5 * np.tanh(0.5 * feed["c"]), rtol=1e-6)
