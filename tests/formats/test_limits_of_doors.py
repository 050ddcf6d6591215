"""Every door that opens a file takes ``limits=``, and they reach whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge import nn
from vledge.budget import Limits
from vledge.errors import LimitError
from vledge.validation.reference import bundle
from vledge.validation.reference.bundle import Case, Reference
from vledge.validation.running.model_file import read_any_model
from vledge.validation.validate import validate

KERAS = Path(__file__).parents[1] / "golden" / "keras" / "model.keras"
NOTHING, MUCH = Limits(memory=10, steps=10), Limits(memory=10**9, steps=10**9)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an LSTM, the state of its stream, and a reference of it."""
    folder = tmp_path_factory.mktemp("limits")
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4)}
    weights = {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    vledge.save_weights(folder / "layer.safetensors", weights)
    layer = nn.LSTM.from_weights(weights)
    layer.stream(batch=2).save(folder / "state")
    x = rng.normal(size=(5, 2, 3)).astype("f4")
    case = Case({"x": x}, {"output": layer(x)[0]})
    bundle.write(folder / "reference", Reference([case], {"numpy": "2"}))
    return folder


def layer_of(folder: Path) -> Any:
    return nn.LSTM.from_weights(vledge.load_weights(folder / "layer.safetensors"))


DOORS: dict[str, Callable[[Path, Limits], Any]] = {
    "load_weights": lambda folder, limits: vledge.load_weights(
        folder / "layer.safetensors", limits=limits
    ),
    "Stream.load": lambda folder, limits: vledge.Stream.load(
        folder / "state", layer_of(folder), limits=limits
    ),
    "bundle.read": lambda folder, limits: bundle.read(folder / "reference", limits),
    "read_any_model": lambda folder, limits: read_any_model(
        folder / "layer.safetensors", limits=limits
    ),
    "validate, its model": lambda folder, limits: validate(
        folder / "layer.safetensors", bundle.read(folder / "reference"), limits=limits
    ),
    "validate, its reference": lambda folder, limits: validate(
        read_any_model(folder / "layer.safetensors"), folder / "reference", limits=limits
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_limits_reach_the_reader(door: str, files: Path) -> None:
    with pytest.raises(LimitError, match=r"limits=vledge\.Limits\("):
        DOORS[door](files, NOTHING)
    DOORS[door](files, MUCH)


@pytest.mark.filterwarnings("ignore")
def test_limits_of_keras_files(monkeypatch: pytest.MonkeyPatch) -> None:
    peer("h5py")
    from vledge.formats.keras.recurrent import recurrent_layers

    (summary, *_) = [layer for layer in recurrent_layers(KERAS) if layer.kind == "LSTM"]
    for kind in (nn.LSTM, nn.RecurrentStack):
        with pytest.raises(LimitError, match=KERAS.name):
            kind.from_keras(KERAS, summary.path, limits=NOTHING)
        kind.from_keras(KERAS, summary.path, limits=MUCH)
    with pytest.raises(LimitError):
        recurrent_layers(KERAS, NOTHING)
    monkeypatch.setenv("VLEDGE_LIMITS", "memory=10 steps=10")
    kind.from_keras(KERAS, summary.path, limits=MUCH)  # which go before the environment's
    with pytest.raises(LimitError):
        kind.from_keras(KERAS, summary.path)


def test_limits_of_onnx_layers() -> None:
    onnx = peer("onnx")
    h = onnx.helper
    constants = {"w": np.ones((1, 16, 3), "f4"), "r": np.ones((1, 16, 4), "f4")}
    graph = h.make_graph(
        [h.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4, name="one")],
        "g",
        [h.make_tensor_value_info("x", 1, ["T", "B", 3])],
        [h.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    data = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)]).SerializeToString()
    with pytest.raises(LimitError):
        nn.LSTM.from_onnx(data, limits=NOTHING)
    assert nn.LSTM.from_onnx(data, "one", limits=MUCH).hidden_size == 4


def test_limits_of_convert(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vledge.cli import main

    source, target = str(files / "layer.safetensors"), str(tmp_path / "made.safetensors")
    assert main(["convert", source, target, "--limits", "memory=10"]) == 1
    assert "the limit that was set is 10 bytes" in capsys.readouterr().err
    assert main(["convert", source, target, "--limits", "memory=1GB steps=1e9"]) == 0
    assert main(["convert", source, target, "--limits", "much"]) == 1
    assert "--limits 'much': expected for example \"memory=4GB" in capsys.readouterr().err
