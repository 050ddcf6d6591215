"""Files may not name the domain of the nodes that passes put into a graph.

Their operators trust what the passes have checked; by a file they would be given anything.
"""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge import nn
from vledge._ext.weights import Direction
from vledge.cli import main
from vledge.errors import FormatError
from vledge.formats import vledge_model
from vledge.graph.registry import known_operators
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Model, Node, ValueInfo

INTERNAL = sorted(name for domain, name in known_operators() if domain == INTERNAL_DOMAIN)
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
WEIGHTS = {
    "scalars": dict.fromkeys(NAMES, np.array(1, np.float32)),
    "one axis": dict.fromkeys(NAMES, np.ones(4, np.float32)),
    "three axes": dict.fromkeys(NAMES, np.ones((4, 4, 4), np.float32)),
    "objects": dict.fromkeys(NAMES, np.array([[None]])),
    "good": {n: np.ones((16, 4) if "weight" in n else 16, np.float32) for n in NAMES},
}


def model_with(op_type, attributes, inside=False):
    inputs = [ValueInfo(name, "float", (1, 4)) for name in "xhc"]
    node = Node(op_type, ["x", "h", "c"], ["y", "z"], attributes, domain=INTERNAL_DOMAIN)
    outputs = [ValueInfo("y", "float", None)]
    graph = Graph([node], inputs, outputs)
    if inside:
        body = Graph([node], [], outputs)
        condition = np.array(True)
        choose = Node("If", ["if"], ["w"], {"then_branch": body, "else_branch": body})
        graph = Graph([choose], inputs, [ValueInfo("w", "float", None)], {"if": condition})
    return Model(graph, {"": 18, INTERNAL_DOMAIN: 1}, 10)


def test_there_are_such_operators():
    assert {"LSTMCell", "GRUCell", "ConvRelu"} <= set(INTERNAL)


def refused(path, capsys):
    """Every way in which a file is read."""
    words = r"makes 'y'.*domain 'vledge'.*may not stand in a file"
    for read in (
        vledge.InferenceSession,
        lambda path: vledge.InferenceSession(path.read_bytes()),
        lambda path: vledge.InferenceSession(path, fallback=lambda node, opset: None),
        lambda path: nn.LSTM.from_onnx(path),
        lambda path: nn.GRU.from_onnx(path, "y"),
    ):
        with pytest.raises(FormatError, match=words):
            read(path)
    target = str(path.with_suffix(".out"))
    for command, *more in (
        ["inspect"],
        ["inspect", "--json"],
        ["convert", target],
        ["convert", target, "--force"],
    ):
        assert main([command, str(path), *more]) == 1
        assert "may not stand in a file" in capsys.readouterr().err


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("op_type", [*INTERNAL, "Unheard"])
def test_our_own_format(op_type, inside, tmp_path, capsys):
    for weights in ("scalars", "good"):
        path = tmp_path / "model.vledge"
        vledge_model.write(path, model_with(op_type, WEIGHTS[weights], inside))
        refused(path, capsys)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("op_type", [*INTERNAL, "Unheard"])
def test_onnx(op_type, inside, tmp_path, capsys):
    onnx = peer("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    value = onnx.numpy_helper.from_array(np.array(1, np.float32))
    inputs = [helper.make_tensor_value_info(name, floats, [1, 4]) for name in "xhc"]
    outputs = [helper.make_tensor_value_info("y", floats, None)]
    attributes = dict.fromkeys(NAMES, value)
    nodes = [helper.make_node(op_type, ["x", "h", "c"], ["y", "z"], domain="vledge", **attributes)]
    initializers = []
    if inside:
        body = helper.make_graph(nodes, "body", [], outputs)
        nodes = [helper.make_node("If", ["if"], ["w"], then_branch=body, else_branch=body)]
        initializers = [onnx.numpy_helper.from_array(np.array(True), "if")]
        outputs = [helper.make_tensor_value_info("w", floats, None)]
    for domains in (["", "vledge"], [""]):
        model = helper.make_model(
            helper.make_graph(nodes, "g", inputs, outputs, initializers),
            opset_imports=[helper.make_opsetid(domain, 17) for domain in domains],
        )
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        refused(path, capsys)


def test_a_file_may_import_the_domain_and_name_no_node_of_it():
    """The passes' nodes are of one version, whatever it says."""
    x = np.ones((1, 2, 8), np.float32)
    graph = Graph(
        [Node("Conv", ["x", "w"], ["c"]), Node("Relu", ["c"], ["y"])],
        [ValueInfo("x", "float", (1, 2, 8))],
        [ValueInfo("y", "float", None)],
        {"w": np.ones((3, 2, 2), np.float32)},
    )
    for version in (0, 1, 99):
        session = vledge.InferenceSession(Model(graph, {"": 18, INTERNAL_DOMAIN: version}, 10))
        (y,) = session.run(None, {"x": x})
        np.testing.assert_array_equal(y, np.full((1, 3, 7), 4, np.float32))


@pytest.mark.parametrize("weights", [name for name in WEIGHTS if name != "good"])
def test_sizes_and_axes_are_checked_before_kernels_see_them(weights):
    """Were it to get past the readers, as a Model in memory may: an error, and no crash."""
    for op_type, cell in (("LSTMCell", "lstm"), ("GRUCell", "gru")):
        with pytest.raises(ValueError, match="weight_ih is"):
            vledge.InferenceSession(model_with(op_type, WEIGHTS[weights]))
        with pytest.raises(ValueError, match="weight_ih is"):
            Direction(cell, **WEIGHTS[weights])
