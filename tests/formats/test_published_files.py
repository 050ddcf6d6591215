"""Checkpoints that published packages ship, each against its own framework, bit for bit."""

import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.registry import registry_file
from vledge.formats import load_weights, read_checkpoint


@pytest.fixture(scope="module")
def resemblyzer() -> Path:
    return registry_file("Resemblyzer==0.1.4", "resemblyzer/pretrained.pt")


def assert_same_bits(weights: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert weights.keys() == expected.keys()
    for name, array in expected.items():
        assert weights[name].dtype == array.dtype, name
        assert weights[name].shape == array.shape, name
        assert weights[name].tobytes() == array.tobytes(), name


def test_resemblyzer_is_a_legacy_training_checkpoint(resemblyzer: Path) -> None:
    checkpoint = read_checkpoint(resemblyzer)
    assert checkpoint.format.startswith("legacy torch file")
    assert checkpoint.key == "model_state"
    assert checkpoint.elsewhere == {"optimizer_state": "the state of an optimizer"}
    assert checkpoint.skipped == {}
    shapes = {name: array.shape for name, array in checkpoint.weights.items()}
    assert shapes == {
        "similarity_weight": (1,),
        "similarity_bias": (1,),
        "lstm.weight_ih_l0": (1024, 40),
        **{f"lstm.weight_ih_l{layer}": (1024, 256) for layer in (1, 2)},
        **{f"lstm.weight_hh_l{layer}": (1024, 256) for layer in (0, 1, 2)},
        **{f"lstm.bias_{kind}_l{layer}": (1024,) for kind in ("ih", "hh") for layer in (0, 1, 2)},
        "linear.weight": (256, 256),
        "linear.bias": (256,),
    }


def test_resemblyzer_is_what_torch_loads(resemblyzer: Path) -> None:
    torch = pytest.importorskip("torch")
    checkpoint = torch.load(resemblyzer, map_location="cpu", weights_only=True)
    expected = {name: tensor.numpy() for name, tensor in checkpoint["model_state"].items()}
    assert_same_bits(load_weights(resemblyzer), expected)
    assert_same_bits(load_weights(resemblyzer, key="model_state"), expected)
    state = checkpoint["optimizer_state"]["state"]
    for index in list(state)[:3]:
        moments = {name: value.numpy() for name, value in state[index].items() if name != "step"}
        with pytest.warns(UserWarning, match="'step': a value of type int"):
            found = load_weights(resemblyzer, key=f"optimizer_state.state.{index}")
        assert_same_bits(found, moments)


def test_resemblyzer_loads_in_well_under_a_second(resemblyzer: Path) -> None:
    best = min(_seconds(resemblyzer) for _ in range(3))
    assert best < 0.5, f"{best:.3f} s"


def _seconds(path: Path) -> float:
    start = time.perf_counter()
    load_weights(path)
    return time.perf_counter() - start


def test_g2p_en_is_what_numpy_loads() -> None:
    path = registry_file("g2p_en==2.1.0", "g2p_en/checkpoint20.npz")
    with np.load(path, allow_pickle=False) as arrays:
        expected = {name: arrays[name] for name in arrays.files}
    assert len(expected) == 12
    assert_same_bits(load_weights(path), expected)


@pytest.mark.parametrize("name", ["silero_vad_16k.safetensors"])
def test_silero_safetensors_is_what_the_library_loads(name: str) -> None:
    path = registry_file("silero-vad==6.2.3", f"silero_vad/data/{name}")
    expected = safetensors.numpy.load_file(path)
    assert "lstm_cell.weight_ih" in expected
    assert_same_bits(load_weights(path), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
def test_silero_torchscript_is_what_torch_loads() -> None:
    torch = pytest.importorskip("torch")
    path = registry_file("silero-vad==6.2.3", "silero_vad/data/silero_vad.jit")
    weights = load_weights(path)
    expected = {
        name: tensor.numpy()
        for name, tensor in torch.jit.load(path, map_location="cpu").state_dict().items()
    }
    assert len(expected) > 20
    # What else there is are tensors that the code keeps between calls, and no parameters.
    extra = weights.keys() - expected.keys()
    assert_same_bits({name: weights[name] for name in weights if name not in extra}, expected)
    assert extra <= {"_state", "_context", "_model._state", "_model_8k._state"}
