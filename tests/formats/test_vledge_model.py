"""vledge's own model file: what goes in comes out, needs no protobuf, and lies are found."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.test_recurrent import UNSORTED, make_inputs, make_model
from vledge.formats import holds_graph, safetensors_file, vledge_model
from vledge.formats.onnx import model as onnx_model
from vledge.model.definition import Graph, Model, Node, Opaque, ValueInfo

X = np.arange(6, dtype=np.float32).reshape(2, 3)
JAPANESE_VOWELS = Path(__file__).parents[2] / "models" / "japanese_vowels"


def assert_same(a, b):
    """Equal in everything, and of the same types."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif hasattr(a, "__slots__"):
        for name in set(a.__slots__) - {"budget"}:  # no part of the model
            assert_same(getattr(a, name), getattr(b, name))
    else:
        assert repr(a) == repr(b)  # NaN, too


def everything():
    """A model with one of each thing that a graph can hold."""
    empty = np.empty(2, object)
    empty[:] = ["ä", ""]
    inner = Graph(
        [Node("Neg", ["x"], ["inner"])], [], [ValueInfo("inner", "", None)], {"w": X[0]}, "then"
    )
    attributes = {
        "f": 1.0, "i": -(1 << 40), "s": 'text "quoted"', "fs": [0.5, float("inf")], "is": [],
        "ss": ["a"], "t": np.array(3, np.int64), "ts": [X, X], "nan": float("nan"),
        "g": inner, "words": empty,
    }  # fmt: skip
    graph = Graph(
        [Node("Odd", ["x", "", "w"], ["y", ""], attributes, "näme\n", "example")],
        [ValueInfo("x", "float", ("batch", 3, None)), ValueInfo("n", "int64", ())],
        [ValueInfo("y", "", None)],
        {
            "w": X, "__metadata__": X, "weird\nname": X, "n" * 3000: X[0], "": np.zeros((0, 3)),
            "half": X.astype(np.float16), "flag": X > 2, "n": np.array(5, np.int64),
        },
        "main",
    )  # fmt: skip
    return Model(graph, {"": 17, "example": 1}, 9, "maker", "1.2", "d", 3, "doc", {"k": "v"})


@pytest.mark.parametrize("in_memory", [False, True])
def test_everything_comes_back(tmp_path, in_memory):
    path = tmp_path / "model.safetensors"
    vledge_model.write(path, everything())
    assert holds_graph(path)
    assert_same(vledge_model.read(path.read_bytes() if in_memory else path), everything())
    weights = vledge.load_weights(path)
    np.testing.assert_array_equal(weights["w"], X)


def test_a_model_without_tensors(tmp_path):
    path = tmp_path / "model.safetensors"
    model = onnx_model.read(model_bytes([node("Neg", ["x"], ["y"])], {"x": X}, ["y"]))
    vledge_model.write(path, model)
    assert_same(vledge_model.read(path), model)


@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
def test_results_are_bit_for_bit_those_of_the_onnx_file(tmp_path, op_type):
    inputs = make_inputs(op_type, "bidirectional", states=True, lengths=UNSORTED)
    model, feed = make_model(op_type, inputs, {"direction": "bidirectional"})
    path = tmp_path / "model.safetensors"
    vledge_model.write(path, onnx_model.read(model))
    expected = vledge.InferenceSession(model).run(None, feed)
    for source in (path, path.read_bytes()):
        actual = vledge.InferenceSession(source).run(None, feed)
        for ours, theirs in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


WITHOUT_PROTOBUF = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("onnx", "google", "torch", "onnxruntime"):
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Blocked())
import numpy as np, vledge
from vledge.shipped import japanese_vowels

test = japanese_vowels.load_test_set()
session = vledge.InferenceSession(sys.argv[1])
feed = {"x": vledge.pad_sequence(test.series, batch_first=True),
        "lengths": np.array([len(s) for s in test.series])}
(logits,) = session.run(None, feed)
np.testing.assert_allclose(logits, test.logits, rtol=0, atol=1e-5)
assert not {"onnx", "google"} & {name.split(".")[0] for name in sys.modules}
try:
    vledge.InferenceSession(sys.argv[2])
except vledge.MissingDependencyError as error:
    print(error)
"""


def test_runs_where_neither_onnx_nor_protobuf_is(tmp_path):
    onnx_file, converted = JAPANESE_VOWELS / "model.onnx", tmp_path / "model.safetensors"
    command = [sys.executable, "-m", "vledge", "convert", str(onnx_file), str(converted)]
    subprocess.run(command, check=True, capture_output=True)
    command = [sys.executable, "-c", WITHOUT_PROTOBUF, str(converted), str(onnx_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install 'vledge[onnx]'" in done.stdout


def test_what_a_file_cannot_hold(tmp_path):
    model = everything()
    model.graph.initializers["z"] = np.zeros(2, np.complex64)
    with pytest.raises(vledge.UnsupportedError, match="'z' is complex64"):
        vledge_model.write(tmp_path / "model.safetensors", model)
    model = everything()
    model.graph.nodes[0].attributes["o"] = Opaque("type_proto")
    with pytest.raises(vledge.UnsupportedError, match="attribute o is a type_proto"):
        vledge_model.write(tmp_path / "model.safetensors", model)
    model = everything()
    model.doc_string = "x" * 51_000_000
    with pytest.raises(vledge.UnsupportedError, match="of which a file can have"):
        vledge_model.write(tmp_path / "model.safetensors", model)
    assert list(tmp_path.iterdir()) == []


def rewritten(tmp_path, change):
    """The file of a small model whose description a test has changed."""
    model = onnx_model.read(
        model_bytes([node("Add", ["x", "w"], ["y"], name="sum")], {"x": X}, ["y"], {"w": X})
    )
    path = tmp_path / "model.safetensors"
    vledge_model.write(path, model)
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    description = json.loads(header["__metadata__"][vledge_model.KEY])
    changed = change(description)
    text = json.dumps(description if changed is None else changed)
    safetensors_file.write(path, {"w": X}, {vledge_model.KEY: text})
    return path


def at(*keys, value):
    def change(description):
        for key in keys[:-1]:
            description = description[key]
        description[keys[-1]] = value

    return change


def deep(description):
    inner = {"nodes": [], "inputs": [], "outputs": [], "initializers": {}, "name": ""}
    for _ in range(40):
        node = {"op_type": "If", "inputs": [], "outputs": [], "attributes": {"g": {"graph": inner}}}
        inner = {**inner, "nodes": [node]}
    description["graph"] = inner


LIES = {
    "version": (at("version", value=2), "version 2; this vledge reads 1"),
    "not an object": (lambda _: [1], r"the model is \[1\], expected an object"),
    "no graph": (at("graph", value=None), "a graph is None, expected an object"),
    "nodes": (at("graph", "nodes", value={}), "nodes is {}, expected a list"),
    "op_type": (at("graph", "nodes", 0, "op_type", value=3), "op_type is 3, expected a string"),
    "an input": (at("graph", "nodes", 0, "inputs", value=["x", 1]), "an input is 1"),
    "an unknown input": (at("graph", "nodes", 0, "inputs", value=["x", "q"]), "its input 'q'"),
    "an attribute": (at("graph", "nodes", 0, "attributes", value={"a": None}), "attribute a is N"),
    "a boolean": (at("graph", "nodes", 0, "attributes", value={"a": True}), "attribute a is True"),
    "lists": (at("graph", "nodes", 0, "attributes", value={"a": [[1]]}), "list in a list"),
    "a number": (at("graph", "nodes", 0, "attributes", value={"a": {"float": "1"}}), "is {'float"),
    "a tensor": (at("graph", "initializers", "w", value={"tensor": "v"}), "the tensor 'v', which"),
    "strings": (
        at("graph", "initializers", "w", value={"strings": ["a"], "shape": [2]}),
        r"has 1 strings, its shape is \[2\]",
    ),
    "a negative shape": (
        at("graph", "initializers", "w", value={"strings": ["a"], "shape": [-1, -1]}),
        "-1, expected a number from 0",
    ),
    "an opset": (at("opset_imports", "", value="17"), "is '17', expected a number"),
    "a type": (at("graph", "inputs", 0, 1, value="floof"), "unknown type 'floof'"),
    "an axis": (at("graph", "inputs", 0, 2, value=[1.5]), "an axis of 'x' is 1.5"),
    "an input's form": (at("graph", "inputs", 0, value=["x"]), r"an input or output is \['x'\]"),
    "metadata": (at("metadata", value={"k": 1}), "k is 1, expected a string"),
    "depth": (deep, "nested deeper than 32"),
}


@pytest.mark.parametrize("case", LIES)
def test_descriptions_that_lie(tmp_path, case):
    change, match = LIES[case]
    path = rewritten(tmp_path, change)
    with pytest.raises(vledge.FormatError, match=rf"model\.safetensors: .*{match}"):
        vledge.InferenceSession(path)


def test_weights_alone_are_no_model(tmp_path):
    path = tmp_path / "weights.safetensors"
    vledge.save_weights(path, {"w": X})
    assert not holds_graph(path)
    with pytest.raises(vledge.FormatError, match=r"holds weights but no graph.*vledge convert"):
        vledge.InferenceSession(path)


def test_damaged_files(tmp_path):
    path = rewritten(tmp_path, lambda description: None)
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:100], whole[:9], whole + b"x"):
        path.write_bytes(data)
        with pytest.raises(vledge.FormatError, match="safetensors"):
            vledge.InferenceSession(path)
    safetensors_file.write(path, {"w": X}, {vledge_model.KEY: "[" * 100_000})
    with pytest.raises(vledge.FormatError, match="no JSON"):
        vledge.InferenceSession(path)
