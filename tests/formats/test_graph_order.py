"""Files whose nodes are in no order in which they can run, as onnxruntime's converter has them."""

import random

import numpy as np
import pytest

import vledge
from tests.graph.models import helper, model_bytes, node, proto
from tests.peers import peer
from vledge.formats import vledge_model
from vledge.formats.onnx import model as onnx_model
from vledge.model.definition import Graph, Node, ValueInfo
from vledge.model.order import put_in_order

onnx = peer("onnx")

X = np.array([-1.5, 0.25, 2], np.float32)
CHAIN = [
    node("Neg", ["x"], ["a"]),
    node("Exp", ["a"], ["b"]),
    node("Add", ["a", "b"], ["c"]),
    node("Mul", ["c", "x"], ["y"]),
]
WANTED = (-X + np.exp(-X)) * X


def run(model, **feed):
    return vledge.InferenceSession(model).run(None, feed)


def in_order():
    (y,) = run(model_bytes(CHAIN, {"x": X}, ["y"]), x=X)
    np.testing.assert_allclose(y, WANTED, rtol=1e-6)
    return y


@pytest.mark.parametrize("seed", range(8))
def test_nodes_in_any_order(seed):
    nodes = random.Random(seed).sample(CHAIN, len(CHAIN))
    model = model_bytes(nodes, {"x": X}, ["y"])
    np.testing.assert_array_equal(run(model, x=X)[0], in_order())
    ort = peer("onnxruntime")
    theirs = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    np.testing.assert_allclose(theirs[0], WANTED, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_in_our_own_file_too(seed, tmp_path):
    model = onnx_model.read(model_bytes(CHAIN, {"x": X}, ["y"]))
    random.Random(seed).shuffle(model.graph.nodes)
    vledge_model.write(tmp_path / "model.safetensors", model)
    np.testing.assert_array_equal(run(tmp_path / "model.safetensors", x=X)[0], in_order())


def branch(nodes, output):
    return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info(output, 0, None)])


@pytest.mark.parametrize("seed", range(8))
def test_branches_are_sorted_and_wait_for_what_they_capture(seed):
    """What a branch uses is made by a node after the If, and the branch itself is in disorder."""
    order = random.Random(seed)
    inner = order.sample([node("Neg", ["c"], ["d"]), node("Exp", ["d"], ["e"])], 2)
    body = branch(inner, "e")
    choice = node("If", ["yes"], ["y"], then_branch=body, else_branch=branch([CHAIN[0]], "a"))
    nodes = order.sample([*CHAIN[:3], choice], 4)
    model = proto(nodes, {"x": X, "yes": np.array(True)}, ["y"])
    (result,) = run(model.SerializeToString(), x=X, yes=np.array(True))
    np.testing.assert_allclose(result, np.exp(-(-X + np.exp(-X))), rtol=1e-6)


def test_a_float16_file_of_onnxruntimes_converter():
    convert = pytest.importorskip("onnxruntime.transformers.float16").convert_float_to_float16
    model = proto(CHAIN, {"x": (onnx.TensorProto.FLOAT, [3])}, ["y"])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3]))
    converted = convert(model, keep_io_types=True)
    (result,) = run(converted.SerializeToString(), x=X)
    np.testing.assert_allclose(result, WANTED, rtol=2e-3)


def plain(*nodes, inputs=("x",), outputs=("y",)):
    return Graph(
        [Node(op, list(i), list(o), {}, name) for op, i, o, name in nodes],
        [ValueInfo(name, "", None) for name in inputs],
        [ValueInfo(name, "", None) for name in outputs],
    )


def test_sorting_is_stable():
    """Nodes that may run already keep their places; one that may not waits, and no longer."""
    graph = plain(
        ("A", ["x"], ["a"], "0"), ("B", ["e"], ["b"], "1"), ("C", ["x"], ["c"], "2"),
        ("E", ["c"], ["e"], "3"), ("D", ["a"], ["d"], "4"), ("Y", ["b"], ["y"], "5"),
    )  # fmt: skip
    put_in_order(graph)
    assert [item.name for item in graph.nodes] == ["0", "2", "3", "1", "4", "5"]


def test_a_graph_that_can_run_is_left_alone():
    """Even one whose branch makes a value of an outer name after it has read the outer one."""
    inner = plain(("Neg", ["a"], ["b"], "0"), ("Exp", ["b"], ["a"], "1"), inputs=(), outputs=("a",))
    graph = plain(("Neg", ["x"], ["a"], "0"), ("If", ["x"], ["y"], "1"))
    graph.nodes[1].attributes["then_branch"] = inner
    put_in_order(graph)
    assert [item.name for item in graph.nodes] == ["0", "1"]
    assert [item.name for item in inner.nodes] == ["0", "1"]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Add", ["x", "y"], ["y"], name="n")], r"node 'n' \(Add\): it needs its own output"),
        (
            [
                node("Neg", ["x"], ["z"], name="fine"),
                node("Add", ["x", "b"], ["a"], name="first"),
                node("Exp", ["a"], ["b"], name="second"),
                node("Neg", ["b"], ["y"], name="after"),
            ],
            r"in a circle: node 'first' \(Add\), node 'second' \(Exp\)$",
        ),
        (
            [node("If", ["yes"], ["y"], name="if", then_branch=branch([node("Neg", ["y"], ["b"])],
             "b"), else_branch=branch([node("Neg", ["x"], ["b"])], "b"))],
            r"node 'if' \(If\): it needs its own output",
        ),
    ],
)  # fmt: skip
def test_circles_are_refused(nodes, message):
    model = model_bytes(nodes, {"x": X, "yes": np.array(True)}, ["y"])
    with pytest.raises(vledge.FormatError, match=message):
        vledge.InferenceSession(model)


def test_a_long_circle_is_not_listed_whole():
    size = 3000
    nodes = [("Neg", [f"v{(i + 1) % size}"], [f"v{i}"], f"n{i}") for i in range(size)]
    with pytest.raises(vledge.FormatError, match=r"'n4' \(Neg\) and 2995 more$"):
        put_in_order(plain(*nodes))


def test_a_long_graph_in_reverse():
    size = 20_000
    nodes = [("Neg", [f"v{i + 1}"], [f"v{i}"], f"n{i}") for i in range(size)]
    graph = plain(*nodes, inputs=(f"v{size}",), outputs=("v0",))
    put_in_order(graph)
    assert graph.nodes[0].name == f"n{size - 1}"
    assert graph.nodes[-1].name == "n0"
