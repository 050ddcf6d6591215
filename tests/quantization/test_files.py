"""Small weights in files: what is written, and what a hostile file may not say."""

import json

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.formats import safetensors_file
from vledge.quantization import report
from vledge.small_matrix import FORMS, SmallMatrix, rounded


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (32, 5), "weight_hh_l0": (32, 8), "bias_ih_l0": (32,)}
    state = {f"rnn.{n}": rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    state |= {"rnn.bias_hh_l0": state["rnn.bias_ih_l0"], "head.weight": np.ones((2, 8), "f4")}
    return state


@pytest.fixture
def floats(tmp_path, weights):
    path = tmp_path / "floats.safetensors"
    vledge.save_weights(path, weights)
    return path


def written(path, tensors, small):
    safetensors_file.write(path, tensors, {"vledge.small": small})


def test_any_reader_sees_integers_and_scales(tmp_path, weights):
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "small.safetensors"
    small = vledge.quantize(weights)
    vledge.save_weights(path, small)
    with safetensors.safe_open(path, "np") as file:
        assert json.loads(file.metadata()["vledge.small"]) == {
            "rnn.weight_ih_l0": "int8",
            "rnn.weight_hh_l0": "int8",
            "head.weight": "int8",
        }
        values, scales = (file.get_tensor(f"rnn.weight_hh_l0{end}") for end in ("", ".scales"))
    assert values.dtype == np.int8
    assert np.array_equal(values * scales, np.asarray(small["rnn.weight_hh_l0"]))


def test_small_weights_are_views_of_the_file(tmp_path, weights):
    path = tmp_path / "small.safetensors"
    vledge.save_weights(path, vledge.quantize(weights))
    small = vledge.load_weights(path)["rnn.weight_hh_l0"]
    assert not small.values.flags.writeable
    assert not small.values.flags.owndata


@pytest.mark.parametrize(
    ("small", "message"),
    [
        ('["w"]', "are no object"),
        ("{", "is no JSON"),
        ('{"w": "int8", "w": "int8"}', "stands in an object twice"),
        ('{"w": "int4"}', "weight 'w' is stored as 'int4', not int8"),
        ('{"w": 8}', "is stored as 8"),
        ('{"x": "int8"}', "weight 'x' is stored as int8, but there is no tensor 'x'"),
        ('{"bare": "int8"}', "there is no tensor 'bare.scales'"),
        ('{"w.scales": "int8"}', "there is no tensor 'w.scales.scales'"),
        ('{"w": "int16"}', "weight 'w': weights stored as int16 are int16"),
        ('{"w": "int8-fast"}', "two neighbours sum to 254"),
        ('{"v": "int8"}', r"weight 'v': .* have scales float32 \[2, 2\]"),
        ('{"n": "int8"}', "weight 'n': a scale of small weights is negative or no finite"),
    ],
)
def test_hostile_metadata(tmp_path, small, message):
    path = tmp_path / "hostile.safetensors"
    ones = np.full((2, 4), 127, np.int8)
    scales = np.ones((2, 1), np.float32)
    tensors = {"w": ones, "w.scales": scales, "bare": ones}
    tensors |= {"v": np.ones((2, 40), np.int8), "v.scales": scales}
    tensors |= {"n": ones, "n.scales": scales * np.float32(np.nan)}
    written(path, tensors, small)
    with pytest.raises(vledge.FormatError, match=message):
        vledge.load_weights(path)


def test_a_name_that_is_taken(tmp_path):
    small = rounded(np.ones((2, 3), np.float32), "int8")
    with pytest.raises(ValueError, match=r"w\.scales is the name"):
        vledge.save_weights(tmp_path / "x.safetensors", {"w": small, "w.scales": np.ones(2)})


def test_the_command(tmp_path, floats, weights, vledge_command):
    target, page = tmp_path / "small.safetensors", tmp_path / "report.html"
    status, out, err = vledge_command("quantize", floats, target, "--report")
    assert (status, err) == (0, "")
    assert "rnn.weight_hh_l0  int8" in out
    assert "3 of 5 arrays are small" in out
    status, out, _ = vledge_command("quantize", floats, target, "--to", "int16", "--report", page)
    assert status == 0
    assert "<td>int16</td>" in page.read_text()
    status, out, _ = vledge_command("inspect", target)
    assert status == 0
    assert "int16" in out
    assert "LSTM 5 -> 8" in out
    layer = nn.LSTM.from_weights(vledge.load_weights(target), "rnn.")
    assert layer.storage == "int16"
    status, out, err = vledge_command("run", target, "--random", "x=6x2x5")
    assert status == 0, err


def test_what_the_command_refuses(tmp_path, floats, vledge_command):
    target = tmp_path / "small.safetensors"
    status, _, err = vledge_command("quantize", floats, floats)
    assert status == 1
    assert "is the file of the weights itself" in err
    status, _, err = vledge_command("quantize", floats, target, "--layers", "gru")
    assert status == 1
    assert "no layer that could be quantized is called 'gru'; there are 'rnn', 'head'" in err
    assert not target.exists()


def test_a_report_of_other_weights(weights):
    with pytest.raises(ValueError, match="different names"):
        report(weights, {})
    with pytest.raises(ValueError, match="has shape"):
        report({"w": np.ones(2)}, {"w": np.ones(3)})


def test_errors_of_rounding_are_as_small_as_the_bits_allow(weights):
    for storage in FORMS:
        told = report(weights, vledge.quantize(weights, storage))
        small = [entry for entry in told.entries if entry.name.startswith("rnn.weight")]
        bound = {"int8": 0.012, "int8-fast": 0.02, "int16": 2e-4}[storage]
        assert len(small) == 2
        assert all(0 < entry.rms < bound for entry in small)
        assert told.bytes_after < told.bytes_before
    assert isinstance(vledge.quantize(weights)["rnn.weight_ih_l0"], SmallMatrix)


def test_the_command_with_data(tmp_path, floats, weights, vledge_command):
    rng = np.random.default_rng(3)
    seen = (rng.standard_normal((4, 30, 3)) @ rng.standard_normal((3, 5))).astype(np.float32)
    target, data = tmp_path / "small.safetensors", tmp_path / "data.npz"
    np.savez(data, rnn=seen)
    exact = nn.LSTM.from_weights(weights, "rnn.", batch_first=True)(seen)[0]

    def error(*options):
        status, _, err = vledge_command("quantize", floats, target, *options)
        assert status == 0, err
        small = nn.LSTM.from_weights(vledge.load_weights(target), "rnn.", batch_first=True)
        return small.storage, np.sqrt(np.mean((small(seen)[0] - exact) ** 2))

    storage, nearest = error()
    assert storage == "int8"
    storage, calibrated = error("--calibrate", data)
    assert storage == "int8"
    assert calibrated < nearest
    storage, closest = error("--calibrate", data, "--max-error", "1e-3")
    assert storage == "int16"
    assert closest < 1e-3
    assert error("--calibrate", data, "--max-error", "1e-9") == ("float32", 0)
    np.savez(data, x=seen)
    assert error("--calibrate", data)[1] == calibrated
    np.savez(data, rnn=seen[..., :2])
    status, _, err = vledge_command("quantize", floats, target, "--calibrate", data)
    assert status == 1
    assert "data.npz: array 'rnn' [4, 30, 2] does not go into the layer 'rnn', whose own" in err
    np.savez(data, y=seen)
    for options, message in (
        (("--calibrate", data), "has no array 'x' for the layer 'rnn'"),
        (("--max-error", "0.1"), "--max-error is measured on the data of --calibrate"),
    ):
        status, _, err = vledge_command("quantize", floats, target, *options)
        assert status == 1
        assert message in err


def test_other_commands_on_a_small_file(tmp_path, floats, weights, vledge_command):
    """They run the small layer; tests/validation/test_small_weights.py has the validation."""
    target = tmp_path / "small.safetensors"
    alone = {name: array for name, array in weights.items() if name.startswith("rnn.")}
    vledge.save_weights(floats, alone)
    assert vledge_command("quantize", floats, target)[0] == 0
    frames = tmp_path / "frames.csv"
    frames.write_text("1,2,3,4,5\n" * 3)
    status, out, err = vledge_command("stream", target, "--input", frames)
    assert status == 0, err
    layer = nn.LSTM.from_weights(vledge.load_weights(target), "rnn.")
    assert layer.storage == "int8"
    x = np.tile(np.arange(1, 6, dtype=np.float32), (3, 1, 1))
    shown = np.array([line.split(",") for line in out.split()], np.float32)
    np.testing.assert_allclose(shown, layer(x)[0][:, 0], rtol=1e-6)
    lengths = tmp_path / "lengths.txt"
    lengths.write_text("3 5 9")
    status, _, err = vledge_command("plan", lengths, "--model", target)
    assert status == 0, err


@pytest.mark.parametrize("storage", FORMS)
@pytest.mark.parametrize("shape", [(2**40, 0), (0, 40), (2, 0)])
def test_rows_of_nothing(storage, shape):
    """A file of 200 bytes may say that there are a million million of them."""
    blocks = (shape[0], -(-shape[1] // FORMS[storage].block))
    small = SmallMatrix(np.zeros(shape, FORMS[storage].dtype), np.zeros(blocks, "f4"), storage)
    assert small.shape == shape


@pytest.mark.parametrize("storage", ["int8-fast", "int16"])
def test_every_row_is_looked_at(storage):
    values = np.zeros((5000, 70), FORMS[storage].dtype)
    values[4321, 64:66] = np.iinfo(values.dtype).max - 100
    values[4321, 66:] = values[4321, 65]
    values[4999] = values[4321]
    scales = np.ones((5000, -(-70 // FORMS[storage].block)), np.float32)
    if storage == "int8-fast":
        values[[4321, 4999]] += 60
    with pytest.raises(ValueError, match="row 4321 of weights"):
        SmallMatrix(values, scales, storage)
    values[[4321, 4999]] = 0
    SmallMatrix(values, scales, storage)
