"""What is fuzzed of small integers: weights with scales, quantised nodes, and the quantizer."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

import vledge
from tests.fuzz.doors import as_file, scratch
from vledge.errors import FormatError, UnsupportedError
from vledge.quantization import quantize_onnx
from vledge.small_matrix import FORMS

__all__ = [
    "dynamic_layers",
    "dynamic_seeds",
    "quantised_seeds",
    "quantised_session",
    "quantizer",
    "small_layer",
    "small_seeds",
]

FLOAT = 1
DYNAMIC_FILES = Path(__file__).parents[1] / "golden" / "dynamic"
X = np.linspace(-1, 1, 192, dtype=np.float32).reshape(2, 2, 6, 8)


@cache
def small_seeds() -> list[bytes]:
    """A layer of two directions in each storage, and a Linear."""
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (32, 40), "weight_hh_l0": (32, 8), "bias_ih_l0": (32,)}
    shapes |= {f"{name}_reverse": shape for name, shape in shapes.items()}
    floats = {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}
    floats |= {"bias_hh_l0": np.zeros(32, "f4"), "bias_hh_l0_reverse": np.zeros(32, "f4")}
    floats |= {"head.weight": rng.standard_normal((3, 16)).astype("f4")}
    made = []
    for storage in FORMS:
        path = scratch() / "small"
        vledge.save_weights(path, vledge.quantize(floats, storage))
        made.append(path.read_bytes())
    return made


def small_layer(content: bytes) -> None:
    """Read the weights, have a layer made of them, and run it."""
    weights = vledge.load_weights(as_file(content))
    for weight in weights.values():
        np.array(weight)
    try:
        layer = vledge.nn.LSTM.from_weights({k: v for k, v in weights.items() if "head" not in k})
    except (ValueError, TypeError):
        return  # of another layer: that is said of an argument
    if layer.input_size == 40:
        layer(np.ones((3, 2, 40), "f4"))


# ---- torch's dynamically quantised layers: the pickle is fuzzed, the storages stay as they are


@cache
def _dynamic_files() -> dict[str, dict[str, bytes]]:
    """By the name of a file the members of its archive."""
    files = {}
    for path in sorted(DYNAMIC_FILES.glob("*.pt")):
        with zipfile.ZipFile(path) as members:
            files[path.name] = {name: members.read(name) for name in members.namelist()}
    return files


def _pickle_of(members: dict[str, bytes]) -> str:
    return next(name for name in members if name.endswith("/data.pkl"))


@cache
def dynamic_seeds() -> list[bytes]:
    """The pickles."""
    return [members[_pickle_of(members)] for members in _dynamic_files().values()]


def dynamic_layers(content: bytes) -> None:
    """Read each file with this pickle in the place of its own, make layers of it and run them."""
    for members in _dynamic_files().values():
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for name, own in members.items():
                archive.writestr(name, content if name == _pickle_of(members) else own)
        try:
            weights = vledge.load_weights(as_file(target.getvalue()))
        except FormatError:
            continue
        for weight in weights.values():
            np.array(weight)
        for kind, prefix in (("LSTM", "lstm."), ("GRU", "gru."), ("Linear", "out.")):
            try:
                layer = getattr(vledge.nn, kind).from_weights(weights, prefix)
            except (ValueError, TypeError, RuntimeError, KeyError):
                continue  # of another layer: that is said of an argument
            size = layer.in_features if kind == "Linear" else layer.input_size
            if size < 1000:
                layer(np.ones((3, 2, size), layer.dtype if kind != "Linear" else "f4"))


# ---- ONNX


def _model(nodes: list[Any], constants: dict[str, Any]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 2, 6, 8])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=9)
    return bytes(model.SerializeToString())


@cache
def quantised_seeds() -> list[bytes]:
    """A convolution, a product and a recurrence of integers; pairs that quantise and undo it."""
    node, rng = helper.make_node, np.random.default_rng(0)
    of = {"domain": "com.microsoft"}
    scale = {"s": np.float32(0.01), "z": np.uint8(128), "z8": np.int8(0)}
    kernel = rng.integers(-90, 90, (4, 2, 3, 3)).astype("i1")
    channels = {"ks": np.full(4, 0.02, "f4"), "kz": np.zeros(4, "i1")}
    convolution = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearConv", ["q", "s", "z", "k", "ks", "kz", "s", "z", "b"], ["c"], pads=[1] * 4),
        node("QLinearAveragePool", ["c", "s", "z", "s", "z"], ["p"], kernel_shape=[2, 2], **of),
        node("QLinearAdd", ["p", "s", "z", "p", "s", "z", "s", "z"], ["a"], **of),
        node("DequantizeLinear", ["a", "s", "z"], ["y"]),
    ]
    bias = {"b": np.arange(4, dtype="i4")}
    pairs = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["k", "ks", "kz"], ["w"], axis=0),
        node("Conv", ["d", "w"], ["c"], strides=[2, 1]),
        node("QuantizeLinear", ["c", "s", "z"], ["r"]),
        node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    steps = [
        node("Reshape", ["x", "shape"], ["t"]),
        node(
            "DynamicQuantizeLSTM",
            ["t", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"],
            ["h"],
            hidden_size=4,
            **of,
        ),
        node("DynamicQuantizeLinear", ["h"], ["q", "qs", "qz"]),
        node("MatMulInteger", ["q", "m", "qz"], ["i"]),
        node("Cast", ["i"], ["y"], to=FLOAT),
    ]
    recurrence = {
        "shape": np.array([-1, 1, 8]),
        "w": rng.integers(-60, 60, (1, 8, 16)).astype("i1"),
        "r": rng.integers(-60, 60, (1, 4, 16)).astype("i1"),
        "ws": np.full((1, 16), 0.02, "f4"),
        "wz": np.zeros((1, 16), "i1"),
        "rs": np.full((1, 16), 0.02, "f4"),
        "rz": np.zeros((1, 16), "i1"),
        "m": rng.integers(-60, 60, (4, 3)).astype("i1"),
    }
    layer = [
        node("Cast", ["wq"], ["wf"], to=FLOAT),
        node("Mul", ["wf", "wb"], ["wm"]),
        node("Reshape", ["wm", "ws"], ["w"]),
        node("DequantizeLinear", ["rq", "rs"], ["rd"], axis=0),
        node("Unsqueeze", ["rd", "axis"], ["r"]),
        node("Reshape", ["x", "shape"], ["t"]),
        node("GRU", ["t", "w", "r"], ["y"], hidden_size=4, linear_before_reset=1),
    ]
    parts = {
        "wq": rng.integers(-60, 60, (1, 12, 2, 32)).astype("i1"),
        "wb": rng.random((1, 12, 2, 1)).astype("f4"),
        "ws": np.array([1, 12, 64]),
        "rq": rng.integers(-60, 60, (12, 4)).astype("i1"),
        "rs": rng.random(12).astype("f4"),
        "axis": np.array([0]),
        "shape": np.array([-1, 1, 64]),
    }
    whole = {"k": kernel, **channels, **scale}
    return [
        _model(convolution, {**whole, **bias}),
        _model(pairs, whole),
        _model(steps, recurrence),
        _model(layer, parts),
    ]


def quantised_session(content: bytes) -> None:
    """Load a model; run it, if it still takes what it was made for."""
    made = vledge.InferenceSession(content)
    try:
        made.run(None, {"x": X})
    except (ValueError, FormatError, UnsupportedError, MemoryError):
        return  # a run says by ValueError what does not fit


@cache
def float_seeds() -> list[bytes]:
    """What the quantizer knows: products, a convolution, a recurrence, a table of rows."""
    node, rng = helper.make_node, np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "k", "b"], ["c"], name="conv", pads=[1] * 4),
        node("Reshape", ["c", "shape"], ["t"]),
        node("LSTM", ["t", "w", "r"], ["h"], name="lstm", hidden_size=8),
        node("MatMul", ["h", "m"], ["p"], name="product"),
        node("Squeeze", ["p", "axis"], ["q"]),
        node("Reshape", ["q", "flat"], ["f"]),
        node("Gemm", ["f", "g"], ["e"], name="gemm", transB=1),
        node("Gather", ["table", "places"], ["rows"], name="table"),
        node("Add", ["e", "rows"], ["y"]),
    ]

    def of(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype("f4")

    constants = {
        "k": of(64, 2, 3, 3), "b": of(64), "shape": np.array([48, 1, 64]), "w": of(1, 32, 64),
        "r": of(1, 32, 8), "m": of(8, 160), "axis": np.array([1]), "flat": np.array([48, 160]),
        "g": of(20, 160), "table": of(64, 20), "places": np.array([5]),
    }  # fmt: skip
    return [_model(nodes, constants)]


def quantizer(content: bytes) -> None:
    """What comes of a model that vledge reads is one that it reads, too."""
    try:
        made, _ = quantize_onnx(content)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        return  # nothing to quantize, or no finite numbers
    try:
        vledge.InferenceSession(content)
    except (FormatError, UnsupportedError):
        return
    quantised_session(made)
