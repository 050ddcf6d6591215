"""What a session keeps, and what a run takes: counted, and no weight kept twice."""

import gc
import weakref

import numpy as np
import pytest

import vledge
from tests.graph.models import helper, model_bytes, node, proto, session
from vledge.formats.onnx import model as onnx_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 256)).astype(np.float32)
W = RNG.normal(size=(256, 512)).astype(np.float32)


def test_packed_weights_and_the_most_that_a_run_took():
    made = session(
        [node("MatMul", ["x", "w"], ["a"]), node("Softmax", ["a"], ["y"])],
        {"x": X},
        ["y"],
        {"w": W},
    )
    before = made.memory()
    assert before.peak == before.held == 0
    assert W.nbytes <= before.packed <= 1.2 * W.nbytes
    assert before.constants == 0  # the product has its own copy
    made.run(None, {"x": X})
    after = made.memory()
    assert 4 * 512 * 4 <= after.peak <= after.held
    made.run(None, {"x": np.repeat(X, 50, 0)})
    larger = made.memory()
    assert larger.peak >= 50 * 4 * 512 * 4
    made.run(None, {"x": X})
    assert made.memory().peak == larger.peak


def test_what_was_given_back_last_serves_next():
    """Layers of ever fewer numbers go through no more memory than the largest two need."""
    nodes, constants = [node("Softmax", ["x"], ["y16"])], {"first": np.array([0])}
    for rows in (8, 4, 2):
        constants[f"to{rows}"] = np.array([rows])
        nodes += [
            node("Slice", [f"y{2 * rows}", "first", f"to{rows}", "first"], [f"x{rows}"]),
            node("Softmax", [f"x{rows}"], [f"y{rows}"]),
        ]
    x = RNG.normal(size=(16, 8_192)).astype(np.float32)
    made = session([*nodes, node("ReduceMean", ["y2"], ["z"])], {"x": x}, ["z"], constants)
    for _ in range(3):
        made.run(None, {"x": x})
    assert made.memory().held < 1.6 * x.nbytes  # 1.9 with blocks of its own for each size


def test_an_output_keeps_no_much_larger_block():
    """Which it was made in."""
    x = RNG.normal(size=(8, 65_536)).astype(np.float32)
    made = session(
        [
            node("Softmax", ["x"], ["a"]),
            node("Slice", ["a", "first", "last", "axis"], ["b"]),
            node("Softmax", ["b"], ["c"]),
            node("Concat", ["c", "c"], ["y"], axis=1),
        ],
        {"x": x},
        ["y"],
        {"first": np.array([0]), "last": np.array([8_192]), "axis": np.array([1])},
    )
    for _ in range(3):
        (y,) = made.run(None, {"x": x})
        assert y.nbytes * 4 == x.nbytes
    assert made.memory().held >= x.nbytes  # the block that `a` had, and `y` perhaps then


def test_constants_that_runs_read_count():
    table = RNG.normal(size=(1000, 8)).astype(np.float32)
    made = session(
        [node("Gather", ["t", "x"], ["y"])], {"x": np.array([3, 1])}, ["y"], {"t": table}
    )
    assert table.nbytes <= made.memory().constants <= table.nbytes + 64
    assert made.memory().packed == 0


def test_a_plan_for_other_initializers_counts():
    """A run that replaces a default has a plan of its own, which stays."""
    model = proto([node("MatMul", ["x", "w"], ["y"])], {"x": X}, ["y"], {"w": W})
    model.graph.input.append(helper.make_tensor_value_info("w", 1, W.shape))
    made = vledge.InferenceSession(model.SerializeToString())
    usual = made.memory()
    made.run(None, {"x": X, "w": W + 1})
    assert made.memory().held > usual.held
    assert made.memory().peak > usual.peak == 0


CASES = {
    "MatMul": ([node("MatMul", ["x", "w"], ["y"])], X),
    "Gemm": ([node("Gemm", ["x", "w"], ["y"])], X),
    "Conv": ([node("Conv", ["x", "w"], ["y"])], RNG.normal(size=(1, 256, 6)).astype(np.float32)),
    "MatMulInteger": ([node("MatMulInteger", ["x", "w"], ["y"])], np.ones((4, 256), np.uint8)),
}


@pytest.mark.parametrize("switch", ["0", "1"])
@pytest.mark.parametrize("name", CASES)
def test_weights_are_not_kept_twice(name, switch, monkeypatch):
    """What an operator has packed is let go of, whoever runs it; and runs still give the same.

    Bytes stay for the operator beside their packed form: it makes its own form when it is called.
    """
    monkeypatch.setenv("VLEDGE_PROGRAM", switch)
    nodes, x = CASES[name]
    w = W
    if name == "Conv":
        w = W.reshape(256, 256, 2)
    if name == "MatMulInteger":
        w = (W * 20).astype(np.int8)
    model = onnx_model.read(model_bytes(nodes, {"x": x}, ["y"], {"w": w}))
    kept = np.array(w)
    watched = weakref.ref(kept)
    model.graph.initializers["w"] = kept
    made = vledge.InferenceSession(model)
    expected = session(nodes, {"x": x, "w": w}, ["y"]).run(None, {"x": x, "w": w})[0]
    model.graph.initializers = {}
    del kept
    gc.collect()
    assert watched() is None or name == "MatMulInteger"
    assert made.memory().packed >= 0.9 * w.nbytes
    np.testing.assert_allclose(made.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-4)
