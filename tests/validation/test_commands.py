"""vledge record and vledge validate: what they print, write, and answer to a script."""

import json
import os
import pty
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge.validation import read

peer("onnxruntime")
torch = peer("torch")

ROOT = Path(vledge.__file__).parents[1]
VOWELS = ROOT / "models" / "japanese_vowels" / "model.onnx"


@pytest.fixture
def vowels(tmp_path, vledge_command):
    """The shipped classifier as vledge's own file, and its reference."""
    model = tmp_path / "vowels.safetensors"
    assert vledge_command("convert", VOWELS, model)[0] == 0
    bundle = tmp_path / "vowels.reference.safetensors"
    assert vledge_command("record", VOWELS, "-o", bundle, "--layers", "--runs", 2)[0] == 0
    return model


def spoil(model, into):
    """The file with a gate order that is wrong."""
    from vledge.formats import vledge_model
    from vledge.graph.session import read_model

    read = read_model(model)
    gru = next(node for node in read.graph.nodes if node.op_type == "GRU")
    for name, halves in zip(gru.inputs[1:4], (1, 1, 2), strict=True):
        parts = np.split(read.graph.initializers[name], halves, axis=1)
        swapped = [np.concatenate([r, z, n], 1) for z, r, n in (np.split(p, 3, 1) for p in parts)]
        read.graph.initializers[name] = np.concatenate(swapped, 1)
    vledge_model.write(into, read)
    return into


def test_record_tells_what_it_made(tmp_path, vledge_command):
    bundle = tmp_path / "b.safetensors"
    status, out, _ = vledge_command("record", VOWELS, "-o", bundle, "--runs", 3, "--seed", 5)
    assert status == 0
    assert f"{bundle}: 3 runs, 1 output, 0 values of layers" in out
    assert re.search(r"made by onnxruntime [\d.]+, vledge", out)
    reference = read(bundle)
    assert reference.seed == 5
    assert reference.exact_by.startswith("vledge")
    assert reference.axes["x"] == {"batch": 0, "time": 1}
    lengths = {case.inputs["x"].shape[1] for case in reference.cases}
    assert len(lengths) > 1
    for case in reference.cases:
        assert case.lengths.max() == case.inputs["x"].shape[1]


def test_record_takes_random_inputs_of_open_length(tmp_path, vledge_command):
    bundle = tmp_path / "b.safetensors"
    assert vledge_command("record", VOWELS, "-o", bundle, "--random", "x=8x?x12")[0] == 0
    shapes = [case.inputs["x"].shape for case in read(bundle).cases]
    assert {(shape[0], shape[2]) for shape in shapes} == {(8, 12)}
    assert len({shape[1] for shape in shapes}) == len(shapes)


def test_record_takes_arrays(tmp_path, vledge_command):
    x = np.random.default_rng(0).standard_normal((2, 4, 12)).astype(np.float32)
    files = []
    for number in range(2):
        files.append(tmp_path / f"{number}.npz")
        np.savez(files[-1], x=x + number, lengths=np.array([4, 2]))
    bundle = tmp_path / "b.safetensors"
    assert vledge_command("record", VOWELS, "-o", bundle, "--inputs", *files)[0] == 0
    reference = read(bundle)
    np.testing.assert_array_equal(reference.cases[1].inputs["x"], x + 1)
    assert reference.seed is None
    np.testing.assert_array_equal(reference.cases[0].lengths, [4, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--random", "y=2x?x12"], "no input 'y'"),
        (["--random", "x=2x?x?"], "only one axis"),
        (["--random", "x"], "expected NAME=SHAPE"),
        (["--random", "x=2x?x13"], "onnxruntime: "),
        (["--set", "sr=1"], "no input 'sr'"),
        (["--carry", "x=y"], "carry: there is no input 'x' with an output 'y'"),
        (["--runs", "0"], "--runs must be at least 1"),
        (["--inputs", "a.npz", "--set", "x=1"], "two ways to say the same"),
    ],
)
def test_what_record_refuses(vledge_command, options, message, tmp_path):
    status, _, err = vledge_command("record", VOWELS, "-o", tmp_path / "b", *options)
    assert status == 1
    assert message in err
    assert not (tmp_path / "b").exists()


def test_inputs_that_nobody_describes_are_asked_for(tmp_path, vledge_command):
    nodes = [node("Mul", ["x", "factor"], ["y"])]
    model = tmp_path / "m.onnx"
    example = {"x": np.ones((2, 3), np.float32), "factor": np.array(1, np.float32)}
    model.write_bytes(model_bytes(nodes, example, ["y"]))
    status, _, err = vledge_command("record", model)
    assert status == 1
    assert "give its sizes, --random x=..." in err
    status, _, err = vledge_command("record", model, "--random", "x=2x3")
    assert status == 1
    assert "input 'factor' is float: say what it is" in err
    assert vledge_command("record", model, "--random", "x=2x3", "--set", "factor=2.5")[0] == 0
    assert vledge_command("validate", model)[0] == 0


def test_validate_passes(vowels, vledge_command):
    status, out, err = vledge_command("validate", vowels)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "passed"
    assert re.search(r"logits +\S+e-0[678] .* 6 of 6", out)
    assert "tolerance: 8 x the reference's own float32 error" in out
    assert "left out   lanes, streaming: a backward direction needs whole sequences" in out


def test_validate_fails_and_says_why(vowels, tmp_path, vledge_command):
    bad = spoil(vowels, tmp_path / "bad.safetensors")
    bundle = tmp_path / "vowels.reference.safetensors"
    page = tmp_path / "report.html"
    status, out, _ = vledge_command(
        "validate", bad, "--reference", bundle, "--html", page, "--runs-table"
    )
    assert status == 1
    assert "FAILED in" in out
    said = " ".join(out.split())
    assert "GRU rnn (each direction, gates z, r, from time step 0, sequence 0): looks like" in said
    assert "ONNX order (z,r,h) read as PyTorch's (r,z,n)" in said
    assert "batch, " in out
    assert "read as PyTorch&#x27;s" in page.read_text()


def test_json_is_for_programs(vowels, vledge_command):
    status, out, _ = vledge_command("validate", vowels, "--json")
    assert status == 0
    report = json.loads(out)
    assert report["passed"] is True
    assert report["diagnosis"] is None
    assert {output["name"] for output in report["outputs"]} == {"logits", "h_n", "h_n.Y"}
    strategies = {run["strategy"] for run in report["runs"]}
    assert strategies == {"batch", "alone", "reordered", "longer", "padded", "packed", "masked",
                          "bucketed"}  # fmt: skip
    assert set(report["left_out"]) == {"chunks", "lanes", "streaming"}


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.problems = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action") or "url(" in (value or ""):
                self.problems.append((tag, name, value))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(("unbalanced", tag))


def test_the_page_stands_alone(vowels, tmp_path, vledge_command):
    page = tmp_path / "report.html"
    assert vledge_command("validate", vowels, "--html", page)[0] == 0
    text = page.read_text()
    parsed = Page()
    parsed.feed(text)
    parsed.close()
    assert not parsed.problems
    assert not parsed.open
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert "http" not in text
    assert "@import" not in text
    assert parsed.tags.count("svg") == 1 + 3 + 1 + 1  # over time, three histograms, lengths, time
    assert "Left out: lanes (a backward direction" in text
    for heading in ("Outputs", "Error over time", "Lengths", "Time", "Ways of running", "Machine"):
        assert f"<h2>{heading}</h2>" in text


def test_names_in_a_page_are_escaped(tmp_path, vledge_command):
    name = "<script>alert(1)</script>"
    example = {"x": np.ones((2, 3), np.float32)}
    model = tmp_path / "m.onnx"
    model.write_bytes(model_bytes([node("Neg", ["x"], [name])], example, [name]))
    assert vledge_command("record", model, "--random", "x=2x3")[0] == 0
    page = tmp_path / "report.html"
    assert vledge_command("validate", model, "--html", page)[0] == 0
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()


def test_live_comparisons(tmp_path, vledge_command):
    status, out, _ = vledge_command("validate", VOWELS, "--against", "onnxruntime")
    assert (status, out.splitlines()[-1]) == (0, "passed")
    weights = tmp_path / "lstm.pt"
    torch.manual_seed(0)
    torch.save(torch.nn.LSTM(6, 9, 2, bidirectional=True).state_dict(), weights)
    status, out, _ = vledge_command("validate", weights, "--against", "torch")
    assert (status, out.splitlines()[-1]) == (0, "passed")
    assert vledge_command("record", weights)[0] == 0
    assert vledge_command("validate", weights)[0] == 0
    status, _, err = vledge_command("validate", weights, "--against", "onnxruntime")
    assert status == 1
    assert "onnxruntime needs an ONNX file" in err
    status, _, err = vledge_command("validate", VOWELS, "--against", "torch")
    assert status == 1
    assert "torch cannot run" in err


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_smaller_weights(tmp_path, vledge_command, dtype):
    torch.manual_seed(0)
    weights = torch.nn.LSTM(4, 6, bidirectional=True).state_dict()
    path = tmp_path / "small.pt"
    torch.save({name: array.to(getattr(torch, dtype)) for name, array in weights.items()}, path)
    assert vledge_command("record", path, "--layers")[0] == 0
    status, out, _ = vledge_command("validate", path)
    assert status == 0, out
    assert "passed" in out


def test_graphs_of_half_precision(tmp_path, vledge_command):
    """A whole graph in float16, and one that stores float16 and computes in float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 2, 4)).astype(np.float16)
    weights = {"W": (1, 24, 4), "R": (1, 24, 6), "B": (1, 48)}
    small = {n: rng.uniform(-0.5, 0.5, s).astype(np.float16) for n, s in weights.items()}
    casts = [node("Cast", [name], [f"{name}32"], to=1) for name in small]
    layer = [node("LSTM", ["x", "W32", "R32", "B32"], ["y"], hidden_size=6)]
    half = [node("LSTM", ["x", "W", "R", "B"], ["y"], hidden_size=6)]
    for nodes, given, dtype in ((half, x, "float16"), (casts + layer, x.astype("f4"), "float32")):
        source, model = tmp_path / f"{dtype}.onnx", tmp_path / f"{dtype}.safetensors"
        source.write_bytes(model_bytes(nodes, {"x": given}, ["y"], small))
        assert vledge_command("convert", source, model)[0] == 0
        assert vledge.load_weights(model)["W"].dtype == np.float16
        bundle = tmp_path / f"{dtype}.reference.safetensors"
        status, out, err = vledge_command("record", source, "-o", bundle, "--random", "x=5x2x4")
        assert status == 0, err
        assert "in float64, which agrees with onnxruntime" in out
        status, out, _ = vledge_command("validate", model)
        assert status == 0, out
        assert f"the reference's own {dtype} error" in out


def test_dynamic_quantization_scales_with_the_batch(tmp_path, vledge_command):
    """A sequence alone has another scale, in onnxruntime, too: that is no error of the model."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    torch.manual_seed(0)
    source, model = tmp_path / "lstm.onnx", tmp_path / "small.onnx"
    axes = {"x": {0: "time", 1: "batch"}, "y": {0: "time", 1: "batch"}}
    torch.onnx.export(
        torch.nn.LSTM(4, 6),
        (torch.zeros(7, 2, 4),),
        source,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes=axes,
        dynamo=False,
    )
    quantization.quantize_dynamic(source, model)
    assert vledge_command("record", model)[0] == 0
    status, out, _ = vledge_command("validate", model)
    assert status == 0, out
    assert re.search(r"paths +\d+: batch, reordered;", out)
    assert "has no float64 form" in out


def test_weights_of_more_than_one_layer_are_refused(tmp_path, vledge_command):
    weights = tmp_path / "w.safetensors"
    module = torch.nn.ModuleDict({"a": torch.nn.GRU(2, 3), "b": torch.nn.Linear(3, 4)})
    vledge.save_weights(weights, {n: t.numpy() for n, t in module.state_dict().items()})
    status, _, err = vledge_command("validate", weights, "--against", "torch")
    assert status == 1
    assert "recurrent layers: GRU 'a.'" in err


def test_progress_is_for_people(vowels):
    """On a terminal a bar is drawn on stderr; in a pipe nothing is."""
    command = [sys.executable, "-m", "vledge", "validate", str(vowels)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as run:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            drawn += part
        out = run.stdout.read()
    os.close(ours)
    assert run.returncode == 0
    assert b"[" in drawn
    assert b"avx" in drawn or b"sse2" in drawn or b"neon" in drawn
    assert out.endswith(b"passed\n")
    piped = subprocess.run(command, capture_output=True, env=environment)
    assert piped.stderr == b""
