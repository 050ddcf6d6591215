"""What the passes leave of a graph, and that its results stay the same."""

import numpy as np
import pytest

import vledge
from tests.graph.models import helper, model_bytes, node, onnx, proto
from tests.graph.test_recurrent import FEATURES, HIDDEN, make_inputs
from tests.peers import peer
from vledge.formats.onnx.model import read
from vledge.graph.plan import simplified

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def operators(model):
    """The operators that are left, subgraphs' in parentheses behind their node."""

    def listed(graph):
        names = []
        for each in graph.nodes:
            inner = [listed(body) for body in each.subgraphs()]
            names.append(each.op_type + (str(inner) if inner else ""))
        return names

    return listed(simplified(read(model)).graph)


def same_as_onnxruntime(model, feed, tolerance=1e-6):
    expected = peer("onnxruntime").InferenceSession(model).run(None, feed)
    actual = vledge.InferenceSession(model).run(None, feed)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def constant(name, value):
    return node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(value)))


def test_weights_that_a_graph_puts_together():
    """As torch's exporters leave them without their own folding: Slice, Concat, Unsqueeze."""
    inputs = make_inputs("LSTM")
    w = inputs["W"][0].reshape(4, HIDDEN, FEATURES)
    torch_order = np.concatenate([w[0], w[2], w[3], w[1]])  # i, f, g, o
    bounds = {"s0": 0, "s1": HIDDEN, "s3": 3 * HIDDEN, "s4": 4 * HIDDEN}
    nodes = [constant(name, np.array([value])) for name, value in bounds.items()]
    nodes += [
        constant("axis", np.array([0])),
        node("Slice", ["w", "s0", "s1", "axis"], ["i"]),
        node("Slice", ["w", "s1", "s3", "axis"], ["fg"]),
        node("Slice", ["w", "s3", "s4", "axis"], ["o"]),
        node("Concat", ["i", "o", "fg"], ["all"], axis=0),
        node("Unsqueeze", ["all", "axis"], ["W"]),
        node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=HIDDEN),
    ]
    constants = {"w": torch_order, "R": inputs["R"], "B": inputs["B"]}
    model = model_bytes(nodes, {"X": inputs["X"]}, ["Y"], constants)
    assert operators(model) == ["LSTM"]
    same_as_onnxruntime(model, {"X": inputs["X"]})


def test_what_does_nothing_is_removed():
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Dropout", ["a"], ["b"]),
        node("Cast", ["b"], ["c"], to=onnx.TensorProto.FLOAT),
        node("Add", ["c", "x"], ["d"]),
        node("Cast", ["d"], ["e"], to=onnx.TensorProto.FLOAT),
        node("Tanh", ["x"], ["unused"]),
        node("Neg", ["e"], ["y"]),
    ]
    model = model_bytes(nodes, {"x": X}, ["y"])
    assert operators(model) == ["Add", "Neg"]
    same_as_onnxruntime(model, {"x": X})


def test_what_does_something_stays():
    nodes = [
        node("Cast", ["x"], ["a"], to=onnx.TensorProto.DOUBLE),
        node("Cast", ["a"], ["b"], to=onnx.TensorProto.FLOAT),
        node("Dropout", ["b"], ["c", "mask"]),
        node("Cast", ["mask"], ["m"], to=onnx.TensorProto.FLOAT),
        node("Add", ["c", "m"], ["y"]),
    ]
    model = model_bytes(nodes, {"x": X}, ["y"])
    assert operators(model) == ["Cast", "Cast", "Dropout", "Cast", "Add"]
    same_as_onnxruntime(model, {"x": X})


def branch(nodes, output):
    info = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "branch", [], [info])


def conditional(condition, output="y", **branches):
    return node("If", [condition], [output], **branches)


@pytest.mark.parametrize("taken", [True, False])
def test_a_condition_that_is_constant(taken):
    nodes = [
        constant("zero", np.float32(0)),
        constant("other", np.float32(1 if taken else -1)),
        node("Less", ["zero", "other"], ["condition"]),
        conditional(
            "condition",
            then_branch=branch([node("Tanh", ["x"], ["r"])], "r"),
            else_branch=branch([node("Neg", ["x"], ["s"]), node("Sigmoid", ["s"], ["r"])], "r"),
        ),
    ]
    model = model_bytes(nodes, {"x": X}, ["y"])
    assert operators(model)[0:1] == (["Tanh"] if taken else ["Neg"])
    assert "If" not in str(operators(model))
    same_as_onnxruntime(model, {"x": X})


def test_a_branch_that_is_never_taken_may_be_unrunnable():
    nodes = [
        constant("condition", np.array(True)),
        conditional(
            "condition",
            then_branch=branch([node("Tanh", ["x"], ["r"])], "r"),
            else_branch=branch([node("Frobnicate", ["x"], ["r"])], "r"),
        ),
    ]
    model = model_bytes(nodes, {"x": X}, ["y"])
    np.testing.assert_allclose(
        vledge.InferenceSession(model).run(None, {"x": X})[0], np.tanh(X), rtol=1e-6
    )


@pytest.mark.parametrize("condition", [True, False])
def test_branches_of_the_same_names(condition):
    """Values of one name in both branches, folded and not, and what they capture."""
    then_branch = branch(
        [
            constant("k", np.float32(2)),
            node("Mul", ["k", "k"], ["kk"]),
            node("Mul", ["x", "kk"], ["r"]),
        ],
        "r",
    )
    else_branch = branch(
        [
            constant("k", np.float32(3)),
            node("Identity", ["outer"], ["kk"]),
            node("Mul", ["k", "kk"], ["r"]),
        ],
        "r",
    )
    nodes = [
        node("Neg", ["x"], ["outer"]),
        conditional("c", then_branch=then_branch, else_branch=else_branch),
    ]
    model = model_bytes(nodes, {"x": X, "c": np.array(True)}, ["y"])
    assert operators(model) == ["Neg", "If[['Mul'], ['Mul']]"]
    same_as_onnxruntime(model, {"x": X, "c": np.array(condition)})


def test_nested_conditions_and_a_captured_alias():
    inner = conditional(
        "d",
        output="t",
        then_branch=branch([node("Add", ["alias", "w"], ["r"])], "r"),
        else_branch=branch([node("Sub", ["alias", "w"], ["r"])], "r"),
    )
    nodes = [
        node("Identity", ["x"], ["alias"]),
        conditional(
            "c",
            then_branch=branch([inner], "t"),
            else_branch=branch([node("Neg", ["alias"], ["t"])], "t"),
        ),
    ]
    feed = {"x": X, "c": np.array(True), "d": np.array(False)}
    model = model_bytes(nodes, feed, ["y"], {"w": X[0]})
    for c in (True, False):
        for d in (True, False):
            same_as_onnxruntime(model, {"x": X, "c": np.array(c), "d": np.array(d)})


def test_shapes_of_constants_are_constants():
    nodes = [
        node("Shape", ["w"], ["s"]),
        node("ConstantOfShape", ["s"], ["zeros"]),
        node("Add", ["x", "zeros"], ["y"]),
    ]
    model = model_bytes(nodes, {"x": X}, ["y"], {"w": X})
    assert operators(model) == ["Add"]
    same_as_onnxruntime(model, {"x": X})


def test_what_would_grow_is_not_folded():
    nodes = [
        constant("shape", np.array([1000, 1000])),
        node("ConstantOfShape", ["shape"], ["zeros"]),
        node("Add", ["x", "zeros"], ["y"]),
    ]
    x = np.ones(1000, np.float32)
    assert operators(model_bytes(nodes, {"x": x}, ["y"])) == ["ConstantOfShape", "Add"]


def test_a_large_constant_is_a_weight():
    """Its array is there already: Paddle's exporter writes weights as Constant nodes."""
    w = np.random.default_rng(0).normal(size=(3, 200_000)).astype(np.float32)
    nodes = [constant("w", w), node("MatMul", ["x", "w"], ["y"])]
    model = model_bytes(nodes, {"x": X}, ["y"])
    assert operators(model) == ["MatMul"]
    same_as_onnxruntime(model, {"x": X}, 1e-5)
    assert vledge.InferenceSession(model).memory().constants == 0  # packed, and let go of


def test_random_numbers_are_not_folded():
    nodes = [
        constant("w", X),
        node("RandomNormalLike", ["w"], ["r"]),
        node("Add", ["x", "r"], ["y"]),
    ]
    model = model_bytes(nodes, {"x": X}, ["y"])
    session = vledge.InferenceSession(model, fallback="reference")
    first, second = (session.run(None, {"x": X})[0] for _ in range(2))
    assert (first != second).any()


def test_a_constant_that_cannot_be_made_is_told_at_load():
    nodes = [node("Concat", ["a", "b"], ["c"], name="join", axis=0), node("Add", ["x", "c"], ["y"])]
    weights = {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 4), np.float32)}
    with pytest.raises(vledge.FormatError, match=r"node 'join' \(Concat\)"):
        vledge.InferenceSession(model_bytes(nodes, {"x": X}, ["y"], weights))


def test_constant_and_input_as_outputs():
    nodes = [node("Add", ["a", "a"], ["b"]), node("Identity", ["x"], ["y"])]
    model = proto(nodes, {"x": X}, ["b", "y"], {"a": X})
    b, y = vledge.InferenceSession(model.SerializeToString()).run(None, {"x": X})
    np.testing.assert_array_equal(b, X + X)
    np.testing.assert_array_equal(y, X)
    assert not np.shares_memory(y, X)


def test_batch_first_around_a_recurrent_node_is_not_copied():
    """Transpose, LSTM, Squeeze, Transpose: the result is the kernel's own array."""
    inputs = make_inputs("LSTM")
    nodes = [
        node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
        node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=HIDDEN),
        constant("axis", np.array([1])),
        node("Squeeze", ["Y", "axis"], ["s"]),
        node("Transpose", ["s"], ["y"], perm=[1, 0, 2]),
    ]
    constants = {name: inputs[name] for name in "WRB"}
    x = np.ascontiguousarray(inputs["X"].transpose(1, 0, 2))
    model = model_bytes(nodes, {"x": x}, ["y"], constants)
    same_as_onnxruntime(model, {"x": x})
    (y,) = vledge.InferenceSession(model)._plan.function(x)  # the native one hands out copies
    assert y.flags.c_contiguous
    assert y.base is not None


def test_a_bidirectional_stack_as_torch_exports_it():
    first = make_inputs("GRU", "bidirectional")
    rng = np.random.default_rng(5)
    second = rng.uniform(-0.5, 0.5, (2, 3 * HIDDEN, 2 * HIDDEN)).astype(np.float32)
    nodes = [
        node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
        constant("shape", np.array([0, 0, -1])),
    ]
    before = "X"
    for layer, w in enumerate(("W", "W2")):
        names = [f"Y{layer}", f"T{layer}", f"R{layer}"]
        nodes += [
            node("GRU", [before, w, "R", "B"], [names[0]], hidden_size=HIDDEN,
                 direction="bidirectional", linear_before_reset=1),
            node("Transpose", [names[0]], [names[1]], perm=[0, 2, 1, 3]),
            node("Reshape", [names[1], "shape"], [names[2]]),
        ]  # fmt: skip
        before = names[2]
    nodes.append(node("Transpose", [before], ["y"], perm=[1, 0, 2]))
    constants = {"W": first["W"], "W2": second, "R": first["R"], "B": first["B"]}
    x = np.ascontiguousarray(first["X"].transpose(1, 0, 2))
    same_as_onnxruntime(model_bytes(nodes, {"x": x}, ["y"], constants), {"x": x})
