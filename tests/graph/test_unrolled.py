"""Cells in a row: one layer where they go over slices of one value, cells where they do not."""

import io
import warnings

import numpy as np
import pytest

import vledge
from tests.peers import peer

torch = peer("torch")
from tests.graph.models import model_bytes, node  # noqa: E402
from tests.graph.test_loops import same  # noqa: E402
from tests.graph.test_passes import operators  # noqa: E402

FEATURES, HIDDEN, STEPS, ROWS = 5, 6, 4, 3
RNG = np.random.default_rng(1)


class Unrolled(torch.nn.Module):
    """A cell called in a Python loop, which exporting unrolls."""

    def __init__(self, kind, axis):
        super().__init__()
        torch.manual_seed(0)
        self.cell = getattr(torch.nn, f"{kind}Cell")(FEATURES, HIDDEN)
        self.kind, self.axis = kind, axis

    def forward(self, x, h, c):
        outputs = []
        for step in range(STEPS):
            frame = x[step] if self.axis == 0 else x[:, step]
            if self.kind == "LSTM":
                h, c = self.cell(frame, (h, c))
            else:
                h = self.cell(frame, h)
            outputs.append(h)
        return torch.stack(outputs, self.axis), h, c


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_as_torch_exports_it(kind, axis, dynamo, tmp_path):
    network = Unrolled(kind, axis).eval()
    x = torch.randn(STEPS, ROWS, FEATURES)
    x = x if axis == 0 else x.transpose(0, 1).contiguous()
    arguments = (x, torch.randn(ROWS, HIDDEN), torch.randn(ROWS, HIDDEN))
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(network, arguments, dynamo=True, verbose=False).save(path)
            model = path.read_bytes()
        else:
            stream = io.BytesIO()
            torch.onnx.export(network, arguments, stream, dynamo=False)
            model = stream.getvalue()
    left = operators(model)
    assert left.count(kind) == 1
    assert not {"Gemm", "MatMul", "Concat"} & set(left)
    session = vledge.InferenceSession(model)
    names = [info.name for info in session.get_inputs()]
    feed = {name: a.numpy() for name, a in zip(names, arguments, strict=False)}
    same(model, feed)


def row(kind="GRU", steps=4, slices="gather", weights=None, x=None):
    """GRU cells by Gemm in a row: nodes, constants, the states' names."""
    w = RNG.uniform(-0.5, 0.5, (3 * HIDDEN, FEATURES)).astype(np.float32)
    r = RNG.uniform(-0.5, 0.5, (3 * HIDDEN, HIDDEN)).astype(np.float32)
    constants = {"w": w, "r": r, "one": np.float32(1), "axis": np.array([0])}
    nodes, states, h = [], [], "h"
    for step in range(steps):
        name = f"x{step}"
        if x is not None:
            name = x[step]
        elif slices == "gather":
            constants[f"i{step}"] = np.array(step)
            nodes.append(node("Gather", ["X", f"i{step}"], [name], axis=0))
        else:
            constants[f"s{step}"], constants[f"e{step}"] = np.array([step]), np.array([step + 1])
            nodes.append(node("Slice", ["X", f"s{step}", f"e{step}", "axis"], [f"part{step}"]))
            nodes.append(node("Squeeze", [f"part{step}", "axis"], [name]))
        own = "w"
        if weights == "different" and step == 2:
            own = "w2"
            constants["w2"] = w + np.float32(0.1)
        s = str(step)
        nodes += [
            node("Gemm", [name, own], [f"gx{s}"], transB=1),
            node("Gemm", [h, "r"], [f"gh{s}"], transB=1),
            node("Split", [f"gx{s}"], [f"xr{s}", f"xz{s}", f"xn{s}"], axis=1),
            node("Split", [f"gh{s}"], [f"hr{s}", f"hz{s}", f"hn{s}"], axis=1),
            node("Add", [f"xr{s}", f"hr{s}"], [f"ar{s}"]),
            node("Add", [f"xz{s}", f"hz{s}"], [f"az{s}"]),
            node("Sigmoid", [f"ar{s}"], [f"r{s}"]),
            node("Sigmoid", [f"az{s}"], [f"z{s}"]),
            node("Mul", [f"r{s}", f"hn{s}"], [f"rn{s}"]),
            node("Add", [f"xn{s}", f"rn{s}"], [f"an{s}"]),
            node("Tanh", [f"an{s}"], [f"n{s}"]),
            node("Sub", [h, f"n{s}"], [f"d{s}"]),
            node("Mul", [f"d{s}", f"z{s}"], [f"dz{s}"]),
            node("Add", [f"dz{s}", f"n{s}"], [f"h{s}"]),
        ]
        h = f"h{s}"
        states.append(h)
    return nodes, constants, states


FEED = {
    "X": RNG.standard_normal((STEPS, ROWS, FEATURES)).astype(np.float32),
    "h": RNG.uniform(-1, 1, (ROWS, HIDDEN)).astype(np.float32),
}


@pytest.mark.parametrize("slices", ["gather", "slice"])
def test_a_row_of_cells_is_a_layer(slices):
    nodes, constants, states = row(slices=slices)
    model = model_bytes(nodes, FEED, states, constants, opset=12 if slices == "gather" else 17)
    assert operators(model).count("GRU") == 1
    assert "GRUCell" not in operators(model)
    same(model, FEED)


def test_steps_in_any_order_and_more_than_once():
    nodes, constants, states = row()
    for step, index in enumerate([2, 0, 2, -1]):
        constants[f"i{step}"] = np.array(index)
    model = model_bytes(nodes, FEED, states, constants)
    assert operators(model).count("GRU") == 1
    same(model, FEED)


def test_other_weights_begin_another_row():
    nodes, constants, states = row(steps=4, weights="different")
    model = model_bytes(nodes, FEED, states, constants)
    left = operators(model)
    assert left.count("GRU") == 1
    assert left.count("GRUCell") == 2
    same(model, FEED)


def test_an_input_that_earlier_steps_made_is_no_layer():
    """A decoder: each step's x is made of the state before."""
    nodes, constants, states = row(x=["x0", "f1", "f2", "f3"])
    constants["out"] = RNG.uniform(-1, 1, (HIDDEN, FEATURES)).astype(np.float32)
    fed = []
    for each in nodes:
        fed.append(each)
        if each.output[0] in ("h0", "h1", "h2"):
            step = int(each.output[0][1])
            fed.append(node("MatMul", [f"h{step}", "out"], [f"f{step + 1}"]))
    feed = {"x0": FEED["X"][0], "h": FEED["h"]}
    model = model_bytes(fed, feed, states, constants)
    left = operators(model)
    assert "GRU" not in left
    assert left.count("GRUCell") == 4
    same(model, feed)


def test_slices_of_what_the_row_makes_are_no_layer():
    """x of the third step is a slice of a value that has the first state in it."""
    nodes, constants, states = row(steps=3)
    place = next(k for k, each in enumerate(nodes) if each.output[0] == "x2")
    nodes[place] = node("Gather", ["X2", "i2"], ["x2"], axis=0)
    constants["out"] = RNG.uniform(-1, 1, (HIDDEN, FEATURES)).astype(np.float32)
    nodes.insert(place, node("MatMul", ["h0", "out"], ["f"]))
    nodes.insert(place + 1, node("Add", ["X", "f"], ["X2"]))
    model = model_bytes(nodes, FEED, states, constants)
    assert operators(model).count("GRUCell") == 1
    same(model, FEED)
