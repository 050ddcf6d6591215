"""The whole path on three models: recorded with the framework, validated where there is none."""

import subprocess
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge.formats import vledge_model
from vledge.graph.session import read_model
from vledge.model.definition import Node
from vledge.shipped import japanese_vowels
from vledge.validation import validate
from vledge.validation.reference import bundle

torch = peer("torch")
peer("onnx")
peer("onnxruntime")

from tests.real_models.whole_path import (  # noqa: E402
    exported_encoder,
    exported_vowels,
    recorded_silero,
    validated,
    without_frameworks,
)


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
    found = subprocess.run([python, "-c", "import scipy"], capture_output=True, env={})
    assert b"No module named" in found.stderr
    return without_frameworks(python)


def errors(report: dict) -> dict[str, float]:
    return {output["name"]: output["absolute"] for output in report["outputs"]}


def test_japanese_vowels_by_export(tmp_path, clean_python):
    model = tmp_path / "vowels.safetensors"
    network, report = exported_vowels(model)
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
    assert found["outputs"][0]["tolerance"] < 1e-4  # once it was 19, taken with dropout on
    assert found["made_by"]["torch"] == torch.__version__
    # the exported graph answers as the shipped reference does
    session = vledge.InferenceSession(model)
    test = japanese_vowels.load_test_set()
    series = test.series[0]
    (ours,) = session.run(None, {"series": series[None], "lengths": np.array([len(series)])})
    np.testing.assert_allclose(ours[0], test.logits[0], rtol=0, atol=1e-5)


def test_resemblyzer_by_export(tmp_path, clean_python):
    model = tmp_path / "encoder.safetensors"
    exported_encoder(model)
    found = validated(clean_python, model)
    assert errors(found)["embedding"] < 1e-6
    assert len(found["outputs"]) == 1 + 3 * 3  # three layers, each with Y, h and c


@pytest.mark.parametrize(
    ("name", "options"), [("silero_vad.onnx", ()), ("silero_vad_16k_op15.onnx", ("--layers",))]
)
def test_silero_by_record(tmp_path, clean_python, name, options):
    """A stream: each run's state is what the run before left."""
    model = tmp_path / "silero.safetensors"
    recorded_silero(model, name, options)
    reference = bundle.read(bundle.reference_path(model))
    np.testing.assert_array_equal(
        reference.cases[5].inputs["state"], reference.cases[4].outputs["stateN"]
    )
    assert np.ptp([case.outputs["output"] for case in reference.cases]) > 0.1
    assert not reference.loss
    found = validated(clean_python, model)
    assert errors(found)["output"] < 1e-5


def test_a_mistake_in_a_branch_of_silero_is_named(tmp_path):
    """Its LSTM stands in an If in an If, and its weights behind Slices."""
    model = tmp_path / "silero.safetensors"
    recorded_silero(model)
    read = read_model(model)
    for graph, place in [*_lstms(read.graph)]:
        node = graph.nodes[place]
        inputs, turned = list(node.inputs), []
        for operand, blocks in ((1, "iofg"), (2, "iofg"), (3, "iofgIOFG")):
            order = [blocks.index(gate) for gate in "ifgoIFGO"[: len(blocks)]]
            rows = np.concatenate([np.arange(128) + 128 * block for block in order])
            graph.initializers[f"rows{place}.{operand}"] = rows
            inputs[operand] = f"turned{place}.{operand}"
            given = [node.inputs[operand], f"rows{place}.{operand}"]
            turned.append(Node("Gather", given, [inputs[operand]], {"axis": 1}))
        graph.nodes[place : place + 1] = [*turned, replace(node, inputs=inputs)]
    bad = tmp_path / "bad.safetensors"
    vledge_model.write(bad, read)
    report = validate(bad, bundle.reference_path(model))
    assert not report.passed
    (finding,) = report.diagnosis.findings
    assert finding.suspect == "gate order"
    assert finding.layer.endswith("decoder/rnn/LSTM")


def _lstms(graph):
    """The graph and place of every LSTM, however deep."""
    for place, node in reversed([*enumerate(graph.nodes)]):
        if node.op_type == "LSTM":
            yield graph, place
        for inner in node.subgraphs():
            yield from _lstms(inner)
