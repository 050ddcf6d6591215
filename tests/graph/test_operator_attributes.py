"""Attributes that no operator runs are refused at load, never in the middle of a run."""

import inspect
import re

import numpy as np
import pytest

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.plan import NEWEST_OPSET
from vledge.graph.prepared import prepare
from vledge.graph.registry import find, known_operators
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Node, Opaque

OPERATORS = [
    pytest.param(entry, id=f"{entry.domain}{'.' * bool(entry.domain)}{op_type}-{entry.since}")
    for (domain, op_type), entries in known_operators().items()
    for entry in entries
    if domain != INTERNAL_DOMAIN  # which no file may name
]
RIGHT = {
    "int": 1,
    "float": 1.0,
    "str": "",
    "list[int]": [1],
    "list[float]": [1.0],
    "list[str]": ["Tanh"],
    "np.ndarray": np.ones((4, 1), np.float32),
    "_Body": Graph([], [], []),
}
FREE_WORDS = {("Constant", "value_string"), ("LabelEncoder", "default_string")}
WRONG = dict.fromkeys(RIGHT, "text") | {"str": 1, "list[str]": [1]}


def load(op_type, attributes, opset=NEWEST_OPSET, domain="", inputs=None, outputs=("y",)):
    if inputs is None:
        entry = find(op_type, domain, opset)
        fewest, most = (3, 3) if entry is None else entry.inputs
        inputs = "abcdefghijkl"[: max(fewest, 3) if most is None else max(fewest, min(3, most))]
    node = Node(op_type, list(inputs), list(outputs), attributes, domain=domain)
    return prepare(node, {"": opset, domain: opset}, {}, options={})


def load_entry(entry, **attributes):
    """The node with these attributes, with something for those that it cannot be without."""
    required = {
        name: RIGHT[entry.kinds[name]]
        for name, default in entry.attributes.items()
        if default is inspect.Parameter.empty
    }
    opset = NEWEST_OPSET if entry.until is None else entry.until
    return load(entry.op_type, required | attributes, opset, entry.domain)


@pytest.mark.parametrize("entry", OPERATORS)
def test_an_unknown_attribute_is_refused(entry):
    with pytest.raises(UnsupportedError, match="attribute frobnicate=1 is not supported"):
        load_entry(entry, frobnicate=1)


@pytest.mark.parametrize("entry", OPERATORS)
def test_a_value_of_another_type_is_refused(entry):
    for name, kind in entry.kinds.items():
        if name == "context" or kind in ("_Body", "None", "Opaque"):
            continue
        with pytest.raises(
            FormatError, match=f"attribute {name} is .*, expected {re.escape(kind)}"
        ):
            load_entry(entry, **{name: WRONG[kind]})
        with pytest.raises(UnsupportedError, match=f"attribute {name} is a type_proto"):
            load_entry(entry, **{name: Opaque("type_proto")})


@pytest.mark.parametrize("entry", OPERATORS)
def test_a_word_that_the_specification_has_not_is_refused(entry):
    for name, kind in entry.kinds.items():
        if kind == "str" and (entry.op_type, name) not in FREE_WORDS:
            with pytest.raises((FormatError, UnsupportedError), match="bogus!"):
                load_entry(entry, **{name: "bogus!"})


@pytest.mark.parametrize(
    ("op_type", "opset", "attributes", "message"),
    [
        ("BatchNormalization", 7, {"spatial": 0}, "spatial=0 is not supported"),
        ("BitCast", 26, {"to": 8}, "to=string"),
        ("Cast", 19, {"to": 17}, "to=float8e4m3fn is not supported"),
        ("Cast", 19, {"to": 99}, "to is 99, which is no element type"),
        ("DepthToSpace", 13, {"blocksize": 0}, "blocksize is 0"),
        ("DequantizeLinear", 23, {"output_dtype": 17}, "output_dtype=float8e4m3fn"),
        ("Dropout", 6, {"is_test": 0}, "is_test=0 is not supported"),
        ("Einsum", 12, {"equation": "ij,jk"}, "expected letters for the axes of 3 inputs"),
        ("EyeLike", 22, {"dtype": 22}, "dtype=int4 is not supported"),
        ("GlobalLpPool", 22, {"p": 0}, "p is 0"),
        ("GroupNormalization", 18, {"num_groups": 0}, "num_groups is 0"),
        ("GroupNormalization", 21, {"num_groups": 2, "stash_type": 10}, "stash_type=float16"),
        ("HannWindow", 17, {"output_datatype": 21}, "output_datatype=uint4"),
        ("LRN", 13, {"size": 0}, "size is 0"),
        ("LSTM", 22, {"layout": 2}, "layout is 2"),
        ("LayerNormalization", 17, {"stash_type": 11}, "stash_type=double is not supported"),
        ("LpNormalization", 22, {"p": 3}, "p is 3, expected 1 or 2"),
        ("LpPool", 22, {"kernel_shape": [2], "p": 0}, "p is 0"),
        ("MaxPool", 12, {"kernel_shape": [2], "storage_order": 2}, "storage_order is 2"),
        ("MaxPool", 12, {"kernel_shape": [0]}, "kernel"),
        ("MaxPool", 12, {"kernel_shape": [2], "strides": [1, 1]}, "strides"),
        ("MaxPool", 12, {"kernel_shape": [2], "pads": [1]}, "pads"),
        ("QuantizeLinear", 21, {"output_dtype": 22}, "output_dtype=int4"),
        ("RMSNormalization", 23, {"stash_type": 16}, "stash_type=bfloat16"),
        ("Range", 28, {"stash_type": 10}, "stash_type=float16"),
        ("Split", 13, {"num_outputs": 3}, "num_outputs is 3, the node has 1 output"),
        ("Split", 11, {"split": [1, 2]}, "split has 2 sizes, the node has 1 output"),
    ],
)
def test_a_number_that_does_not_run_is_refused(op_type, opset, attributes, message):
    with pytest.raises((FormatError, UnsupportedError), match=re.escape(message)):
        load(op_type, attributes, opset)


@pytest.mark.parametrize("opset", [7, 9, 14])
def test_statistics_of_training_are_refused(opset):
    with pytest.raises(UnsupportedError, match="statistics of training"):
        load(
            "BatchNormalization",
            {},
            opset,
            inputs=["x", "s", "b", "m", "v"],
            outputs=["y", "p", "q"],
        )


def test_operators_of_a_later_set_are_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"not supported in operator set 17 \(but in 18 up"):
        load("Mish", {}, 17)
