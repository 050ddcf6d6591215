"""The whole path on three models: recorded with the framework, validated where there is none."""

import json
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.real_models.speech import RECORDINGS, read_recording
from tests.real_models.test_silero_onnx import framed
from tests.registry import registry_file
from vledge.cli import main
from vledge.shipped import japanese_vowels
from vledge.validation import bundle
from vledge.validation.record import record

torch = peer("torch")
peer("onnx")
peer("onnxruntime")


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory) -> Path:
    """The Python of an environment that has vledge and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    installed = Path(np.__file__).parents[1]
    needed = [installed / name for name in ("numpy", "numpy.libs", "safetensors")]
    for package in (Path(vledge.__file__).parent, *filter(Path.exists, needed)):
        (packages / package.name).symlink_to(package)
    for absent in ("torch", "onnx", "onnxruntime", "google", "scipy"):
        found = subprocess.run([python, "-c", f"import {absent}"], capture_output=True, env={})
        assert b"No module named" in found.stderr
    return python


def validated(python: Path, model: Path) -> dict:
    """What `vledge validate --json` says in a process of that environment."""
    command = [python, "-m", "vledge", "validate", model, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=model.parent, env={})
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["passed"]
    return report


def errors(report: dict) -> dict[str, float]:
    return {output["name"]: output["absolute"] for output in report["outputs"]}


def test_japanese_vowels_by_export(tmp_path, clean_python):
    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.GRU(12, 48, batch_first=True, bidirectional=True)
            self.dropout = torch.nn.Dropout(0.3)
            self.out = torch.nn.Linear(96, 9)

        def forward(self, series):
            _, h_n = self.rnn(series)
            return self.out(self.dropout(torch.cat((h_n[0], h_n[1]), dim=1)))

    network = Classifier()
    network.load_state_dict(torch.load(japanese_vowels.folder() / "model.pt"))
    test = japanese_vowels.load_test_set()
    packed = torch.nn.utils.rnn.pack_sequence(
        [torch.from_numpy(series) for series in test.series], enforce_sorted=False
    )
    model = tmp_path / "vowels.safetensors"
    report = vledge.export(network, (packed,), model, layers=True, output_names=["logits"])
    assert report.passed
    assert network.training  # its mode is as it was
    assert sorted({run.path.strategy for run in report.runs}) == [
        "alone",
        "batch",
        "bucketed",
        "longer",
        "masked",
        "packed",
        "padded",
        "reordered",
    ]
    found = validated(clean_python, model)
    assert errors(found)["logits"] < 1e-5
    assert found["made_by"]["torch"] == torch.__version__
    # the exported graph answers as the shipped reference does
    session = vledge.InferenceSession(model)
    series = test.series[0]
    (ours,) = session.run(None, {"series": series[None], "lengths": np.array([len(series)])})
    np.testing.assert_allclose(ours[0], test.logits[0], rtol=0, atol=1e-5)


def test_resemblyzer_by_export(tmp_path, clean_python):
    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = torch.nn.Linear(256, 256)

        def forward(self, mels):
            _, (hidden, _) = self.lstm(mels)
            raw = torch.relu(self.linear(hidden[-1]))
            return raw / torch.norm(raw, dim=1, keepdim=True)

    checkpoint = registry_file("Resemblyzer==0.1.4", "resemblyzer/pretrained.pt")
    network = Encoder()
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state"]
    network.load_state_dict(state, strict=False)
    model = tmp_path / "encoder.safetensors"
    mels = torch.rand(2, 20, 40, generator=torch.Generator().manual_seed(0))
    vledge.export(network, mels, model, layers=True, output_names=["embedding"])
    found = validated(clean_python, model)
    assert errors(found)["embedding"] < 1e-6
    assert len(found["outputs"]) == 1 + 3 * 3  # three layers, each with Y, h and c


@pytest.mark.parametrize(
    ("name", "layers"), [("silero_vad.onnx", False), ("silero_vad_16k_op15.onnx", True)]
)
def test_silero_by_record(tmp_path, clean_python, name, layers):
    """A stream: each run's state is what the run before left."""
    source = registry_file("silero-vad==6.2.3", f"silero_vad/data/{name}")
    model = tmp_path / "silero.safetensors"
    assert main(["convert", str(source), str(model)]) == 0
    frames = framed(read_recording(RECORDINGS[0]), 512)[40:60]
    known = {info.name for info in vledge.InferenceSession(model).get_inputs()}
    inputs = (
        {
            key: value
            for key, value in {
                "input": frame[None],
                "state": np.zeros((2, 1, 128), np.float32),
                "sr": np.array(16_000),
            }.items()
            if key in known
        }
        for frame in frames
    )
    reference = record(source, inputs, carry={"state": "stateN"}, layers=layers)
    np.testing.assert_array_equal(
        reference.cases[5].inputs["state"], reference.cases[4].outputs["stateN"]
    )
    assert np.ptp([case.outputs["output"] for case in reference.cases]) > 0.1
    assert not reference.loss
    bundle.write(bundle.reference_path(model), reference)
    found = validated(clean_python, model)
    assert errors(found)["output"] < 1e-5
