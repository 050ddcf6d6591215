"""Validation of files with small weights, against what the floats gave."""

import json
import warnings

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge import nn
from vledge.small_matrix import FORMS, SmallMatrix
from vledge.validation import validate
from vledge.validation.reference import bundle
from vledge.validation.reference.compare import SMALL

torch = peer("torch")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def floats_of(kind, path, **options):
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(12, 40, **options)
    weights = {name: array.detach().numpy() for name, array in module.state_dict().items()}
    vledge.save_weights(path, weights)
    return weights


@pytest.fixture
def recorded(tmp_path):
    from vledge.integrations.torch_reference import recorded_layer

    def record(kind, **options):
        path = tmp_path / "floats.safetensors"
        weights = floats_of(kind, path, **options)
        target = tmp_path / "reference.safetensors"
        bundle.write(target, recorded_layer(path))
        return weights, target

    return record


@pytest.mark.parametrize(("storage", "kind"), [*zip(FORMS, ["LSTM", "GRU", "RNN"], strict=True)])
def test_small_files_within_their_bounds(storage, kind, recorded, tmp_path):
    weights, reference = recorded(kind, bidirectional=True)
    path = tmp_path / "small.safetensors"
    vledge.save_weights(path, vledge.quantize(weights, storage))
    report = validate(path, reference)
    assert report.passed, report
    worst = [comparison for comparison, _ in report.worst()]
    assert all(0 < one.rms < SMALL[storage].rms for one in worst)
    assert any(storage in one.tolerance.why for one in worst)
    assert any(note.startswith(f"weights are {storage}: rms error") for note in report.notes)


def test_another_model_fails(recorded, tmp_path):
    weights, reference = recorded("GRU")
    path = tmp_path / "other.safetensors"
    spoiled = dict(weights)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        reset, update, new = np.split(weights[name], 3)
        spoiled[name] = np.concatenate([update, reset, new])
    vledge.save_weights(path, vledge.quantize(spoiled, "int8"))
    assert not validate(path, reference).passed


def test_the_command_tells_of_it(recorded, tmp_path, vledge_command):
    weights, reference = recorded("LSTM")
    path = tmp_path / "small.safetensors"
    vledge.save_weights(path, vledge.quantize(weights, "int8"))
    status, out, err = vledge_command("validate", path, "--reference", reference)
    assert (status, err) == (0, ""), out + err
    assert "weights are int8: rms error of all values' rms" in out
    assert "int8 weights: 0.1 of the largest value" in out
    status, out, _ = vledge_command("validate", path, "--reference", reference, "--json")
    assert status == 0
    assert all(0 < one["rms"] < 0.05 for one in json.loads(out)["outputs"])
    status, out, _ = vledge_command("validate", path, "--against", "torch")
    assert status == 0, out


def test_torchs_dynamic_files(recorded, tmp_path):
    weights, reference = recorded("LSTM")
    model = torch.nn.LSTM(12, 40)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(model), {torch.nn.LSTM})
        torch.save(small.state_dict(), tmp_path / "small.pt")
    report = validate(tmp_path / "small.pt", reference)
    assert report.passed, report
    held = vledge.load_weights(tmp_path / "small.pt")
    assert isinstance(held["0.weight_ih_l0"], SmallMatrix)
    assert nn.LSTM.from_weights(held, "0.").storage == "int8-dynamic-7"


def test_a_quantized_model_beside_the_reference_of_its_floats(tmp_path):
    """Rounding is what it says, and not that one of the nodes is at fault."""
    peer("onnxruntime")
    peer("onnx")
    from tests.graph.models import model_bytes, node
    from vledge.validation.recording.record import record

    rng = np.random.default_rng(0)
    w = rng.normal(size=(64, 20)).astype(np.float32)
    x = rng.normal(size=(6, 64)).astype(np.float32)
    path, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    path.write_bytes(model_bytes([node("MatMul", ["x", "w"], ["y"])], {"x": x}, ["y"], {"w": w}))
    small.write_bytes(vledge.quantization.quantize_onnx(path)[0])
    floats = record(path, [{"x": x}, {"x": 2 * x}])
    report = validate(small, floats)
    assert not report.passed
    assert report.diagnosis.summary.startswith("the model has weights of 8 bits (1 tensor, such as")
    assert [finding.suspect for finding in report.diagnosis.findings] == ["quantized"]
    assert validate(small, floats, tolerance=1.0).passed
    # recorded itself, it is what it is, and what is wrong with it is looked for
    own = record(small, [{"x": x}, {"x": 2 * x}])
    assert validate(small, own).passed
    other = tmp_path / "other.onnx"
    other.write_bytes(model_bytes([node("MatMul", ["x", "w"], ["y"])], {"x": x}, ["y"], {"w": -w}))
    small.write_bytes(vledge.quantization.quantize_onnx(other)[0])
    assert "quantized" not in {f.suspect for f in validate(small, own).diagnosis.findings}
