"""What is fuzzed: for each reader its seeds, its mutator and its door; and operators by their own.

A harness takes bytes. Whatever the door raises but vledge's own errors is a finding, and so is a
call of more than ten seconds of processor time.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import vledge
from tests.formats.crafted import archive, legacy, tensor
from tests.fuzz import small, tables
from tests.fuzz.doors import Finding, as_file, refusing, scratch
from tests.fuzz.mutators import (
    Mutator,
    by_bytes,
    by_fields,
    by_header,
    by_members,
    by_opcodes,
    text_of,
    without_checksums,
)
from tests.graph.test_operator_fuzz import OPERATORS, Fuzz, complaint, in_branch
from vledge.planning import store

__all__ = ["HARNESSES", "Harness"]

GOLDEN = Path(__file__).parents[1] / "golden"
SIX = np.arange(6, dtype="<f4").tobytes()


class Harness(NamedTuple):
    """``seeds()`` are whole inputs, ``door`` takes one."""

    seeds: Callable[[], list[bytes]]
    mutate: Mutator
    door: Callable[[bytes], None]


def weights(content: bytes) -> None:
    for array in vledge.load_weights(as_file(content)).values():
        np.array(array)  # every element can be read


def golden(*names: str) -> list[bytes]:
    return [(GOLDEN / name).read_bytes() for name in names]


def pickled(content: bytes) -> None:
    weights(archive(content))


def opcodes() -> list[bytes]:
    arrays = {"w": np.ones((2, 3), "f4"), "v": np.arange(6.0).reshape(2, 3).T, "s": np.float64(2)}
    honest = archive({"w": tensor(), "v": [tensor(), {"a": 1.5}]})
    found = [pickle.dumps(arrays, protocol) for protocol in (2, 4, 5)]
    for content in (honest, *golden("formats/module.pt", "formats/checkpoint.pt")):
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            name = next(name for name in members.namelist() if name.endswith("data.pkl"))
            found.append(members.read(name))
    return found


# ---- whole models


def a_model() -> Any:
    """Recurrent and other nodes, an If, a Loop, constants of several types."""
    node, info = helper.make_node, helper.make_tensor_value_info
    generator = np.random.default_rng(0)
    constants = {
        "w": generator.standard_normal((1, 16, 3)).astype("f4"),
        "r": generator.standard_normal((1, 16, 4)).astype("f4"),
        "axes": np.array([1]),
        "shape": np.array([0, -1]),
        "n": np.array(3),
        "c": np.array(True),
        "q": np.array([[1, 2], [3, 4]], "i1"),
    }
    branch = helper.make_graph(
        [node("Relu", ["flat"], ["b"])], "branch", [], [info("b", TensorProto.FLOAT, None)]
    )
    other = helper.make_graph(
        [node("Neg", ["flat"], ["b"])], "other", [], [info("b", TensorProto.FLOAT, None)]
    )
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["s", "s"], ["t"])],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("s", TensorProto.FLOAT, None),
        ],
        [info("on", TensorProto.BOOL, []), info("t", TensorProto.FLOAT, None)],
    )
    nodes = [
        node("LSTM", ["x", "w", "r"], ["h", "", ""], hidden_size=4),
        node("Squeeze", ["h", "axes"], ["sq"]),
        node("Reshape", ["sq", "shape"], ["flat"]),
        node("If", ["c"], ["chosen"], then_branch=branch, else_branch=other),
        node("Loop", ["n", "", "chosen"], ["looped"], body=body),
        node("Softmax", ["looped"], ["y"], axis=-1),
        node("Cast", ["q"], ["qf"], to=1),
        node("ReduceSum", ["qf"], ["z"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, ["T", 2, 3])],
        [info("y", TensorProto.FLOAT, None), info("z", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@cache
def onnx_seeds() -> list[bytes]:
    whole = a_model()
    typed = a_model()
    for stored in typed.graph.initializer:  # the fields of numbers, in place of bytes
        array = numpy_helper.to_array(stored)
        stored.CopyFrom(
            helper.make_tensor(stored.name, stored.data_type, array.shape, array.ravel().tolist())
        )
    function = helper.make_function(
        "local",
        "f",
        ["a"],
        ["b"],
        [helper.make_node("Neg", ["a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    called = helper.make_model(
        helper.make_graph(
            [helper.make_node("f", ["x"], ["y"], domain="local")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 2, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        ),
        functions=[function],
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
        ir_version=9,
    )
    return [model.SerializeToString() for model in (whole, typed, called)]


def session(content: bytes) -> None:
    """Load a model; run it, if it still takes what it was made for."""
    from vledge.errors import FormatError, UnsupportedError

    made = vledge.InferenceSession(content)
    try:
        made.run(None, {"x": np.ones((3, 2, 3), "f4")})
    except (ValueError, FormatError, UnsupportedError, MemoryError):
        return  # a run says by ValueError what does not fit


@cache
def converted() -> list[bytes]:
    from vledge.formats import vledge_model
    from vledge.graph.session import read_model

    path = scratch() / "converted"
    vledge_model.write(path, read_model(onnx_seeds()[0]))
    return [path.read_bytes()]


# ---- small files


def layer() -> Any:
    arrays = {"weight_ih_l0": np.zeros((16, 3), "f4"), "weight_hh_l0": np.zeros((16, 4), "f4")}
    return vledge.nn.LSTM.from_weights(arrays)


def states() -> list[bytes]:
    path = scratch() / "saved"
    layer().stream(batch=2).save(path)
    return [path.read_bytes()]


def state(content: bytes) -> None:
    try:
        vledge.Stream.load(as_file(content), layer())
    except ValueError:
        return  # of another model


def index(content: bytes) -> None:
    as_file(golden("formats/weights.safetensors")[0], "a.safetensors")
    vledge.load_weights(as_file(content, "model.safetensors.index.json"))


def indices() -> list[bytes]:
    names = vledge.load_weights(GOLDEN / "formats" / "weights.safetensors")
    return [
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "a.safetensors")}).encode()
    ]


def calibration(content: bytes) -> None:
    with patch.dict(os.environ, XDG_CACHE_HOME=str(scratch())):
        path = store.cache_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        store._read.cache_clear()
        store.costs()
    store._read.cache_clear()


def calibrations() -> list[bytes]:
    return [json.dumps({"key": store._key(), "costs": store.DEFAULT.as_dict()}).encode()]


@cache
def references() -> list[bytes]:
    """A bundle with all that there may be in one."""
    from vledge.validation.reference import bundle
    from vledge.validation.reference.prints import Print
    from vledge.validation.reference.samples import INSIDE, WEIGHTS, Sample

    x, y = np.ones((5, 2, 3), "f4"), np.ones((5, 2, 4), "f4")
    inside = {"v": Sample((5,), INSIDE, np.ones(5))}
    case = bundle.Case(
        {"x": x, "h": y[0]},
        {"y": y, "h_n": y[0], "inner": y},
        {"y": y.astype("f8")},
        np.array([5, 3]),
        inside,
    )
    reference = bundle.Reference(
        [case, case],
        {"torch": "2"},
        7,
        ["inner"],
        {"x": {"time": 0, "batch": 1}, "y": {"time": 0, "batch": 1}},
        {"h": "h_n"},
        "torch",
        "",
        {"y": 1e-6},
        {"w": Print(5, "float32", Sample((2, 3), WEIGHTS, np.ones(6)), {0: np.ones(2)})},
    )
    path = scratch() / "written"
    bundle.write(path, reference)
    return [path.read_bytes()]


def reference(content: bytes) -> None:
    from vledge.validation.reference import bundle

    read = bundle.read(as_file(content))
    repr(read)
    for case in read.cases:
        for name in case.outputs:
            case.truth(name)


def descriptions() -> list[bytes]:
    with zipfile.ZipFile(GOLDEN / "keras" / "model.keras") as archive:
        return [archive.read("config.json")]


def described(content: bytes) -> None:
    """A model's description that is said to be of given weights."""
    from vledge.formats.keras.recurrent import layer_weights

    config = as_file(content, "model.json")
    weights = GOLDEN / "keras" / "model.weights.h5"
    for name in ("lstm", "bidirectional"):
        try:
            layer_weights(weights, "LSTM", name, {}, config)
        except ValueError:
            continue  # of another model


def sounds() -> list[bytes]:
    found = []
    for tag, bits in ((1, 16), (1, 8), (1, 24), (3, 32)):
        form = struct.pack("<HHIIHH", tag, 2, 16_000, 0, 0, bits)
        parts = b"fmt " + struct.pack("<I", len(form)) + form + b"LIST\x02\0\0\0ab"
        body = b"WAVE" + parts + b"data" + struct.pack("<I", 48) + bytes(48)
        found.append(b"RIFF" + struct.pack("<I", len(body)) + body)
    return found


def sound(content: bytes) -> None:
    from vledge.cli.audio import read_wav

    try:
        samples, _ = read_wav(str(as_file(content, "a.wav")))
    except ValueError:
        return  # no WAV file, or of another kind
    np.array(samples)


@cache
def keras_files() -> list[bytes]:
    return [path.read_bytes() for path in sorted((GOLDEN / "keras").glob("*.h5"))[:6]]


@cache
def keras_archives() -> list[bytes]:
    return [path.read_bytes() for path in sorted((GOLDEN / "keras").glob("*.keras"))[:6]]


# ---- operators: the bytes are a seed


def operators(content: bytes) -> None:
    number = zlib.crc32(content)
    rng = random.Random(number)
    fuzz = Fuzz(number)
    model, feed = fuzz.model(rng.choice(OPERATORS).values[0])
    place = rng.randrange(3)
    if place == 1:
        in_branch(model, feed)
    elif place == 2:
        fuzz.among_others(model)
    said = complaint(model, feed)
    if said is not None and "node '" not in said:
        raise Finding(f"an error without its node: {said[:300]}")


def another_seed(rng: random.Random, data: bytes) -> bytes:
    return rng.randbytes(8)


HARNESSES = {
    "torch archive": Harness(
        lambda: [
            without_checksums(content)
            for content in (
                *golden("formats/archive.pt", "formats/module.pt", "formats/scripted.pt"),
                archive({"w": tensor(), "v": [tensor(), {"a": 1.5}]}),
            )
        ],
        by_members,
        refusing(weights),
    ),
    "pickle": Harness(opcodes, by_opcodes, refusing(pickled)),
    "legacy torch file": Harness(
        lambda: [
            *golden("formats/legacy.pt"),
            legacy({"w": tensor(rest=(None,))}, {"0": (6, SIX)}),
        ],
        by_opcodes,
        refusing(weights),
    ),
    "exported program": Harness(
        lambda: golden("formats/exported.pt2"), by_members, refusing(weights)
    ),
    "npz": Harness(
        lambda: golden("formats/weights.npz", "formats/compressed.npz"),
        by_members,
        refusing(weights),
    ),
    "safetensors": Harness(
        lambda: golden("formats/weights.safetensors"), by_header, refusing(weights)
    ),
    "index of files": Harness(indices, text_of, refusing(index)),
    "Keras HDF5": Harness(keras_files, by_bytes, refusing(weights)),
    "Keras archive": Harness(keras_archives, by_members, refusing(weights)),
    "ONNX": Harness(onnx_seeds, by_fields, refusing(session)),
    "vledge model": Harness(converted, by_header, refusing(session)),
    "reference bundle": Harness(references, by_header, refusing(reference)),
    "Keras description": Harness(descriptions, text_of, refusing(described)),
    "sound": Harness(sounds, by_bytes, refusing(sound)),
    "stream state": Harness(states, by_header, refusing(state)),
    "calibration": Harness(calibrations, text_of, refusing(calibration)),
    "small weights": Harness(small.small_seeds, by_header, refusing(small.small_layer)),
    "dynamic layers": Harness(small.dynamic_seeds, by_opcodes, refusing(small.dynamic_layers)),
    "quantised nodes": Harness(small.quantised_seeds, by_fields, refusing(small.quantised_session)),
    "quantizer": Harness(small.float_seeds, by_fields, refusing(small.quantizer)),
    "scored manifest": Harness(tables.manifests, text_of, refusing(tables.manifest)),
    "operators": Harness(lambda: [b""], another_seed, operators),
}
if find_spec("pyarrow") is not None:
    HARNESSES["table"] = Harness(tables.tables, by_bytes, refusing(tables.table))
