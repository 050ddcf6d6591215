"""`vledge profile`, and what `vledge inspect` says of the native program and of memory."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.graph.models import helper, model_bytes, node

JAPANESE_VOWELS = Path(__file__).parents[2] / "models" / "japanese_vowels" / "model.onnx"
FLOAT = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
INT64 = helper.np_dtype_to_tensor_dtype(np.dtype(np.int64))


@pytest.fixture
def model(tmp_path):
    """A product with a Softmax, and a determinant, which only Python has."""
    w = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["p"], name="product"),
        node("Softmax", ["p"], ["s"], name="normal"),
        node("Det", ["s"], ["y"], name="area"),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(nodes, {"x": (FLOAT, ["batch", 8, 8])}, ["y"], {"w": w}))
    return path


def test_a_table_says_what_runs_how(model, vledge_command, tmp_path):
    trace = tmp_path / "trace.json"
    status, out, err = vledge_command("profile", model, "--runs", 3, "--trace", trace)
    assert (status, err) == (0, "")
    assert "3 instructions ran, for 3 nodes; 1 in Python" in out
    assert "x: float32[1, 8, 8]" in out
    assert "Python: area (Det): no native handler" in out
    lines = [line.split() for line in out.splitlines()]
    (product,) = (line for line in lines if line[:1] == ["product"])
    assert product[1:4] == ["MatMul", "matmul_known", "1"]
    assert product[-1] == "GFLOP/s"
    (area,) = (line for line in lines if line[:1] == ["area"])
    assert area[1:4] == ["Det", "Python", "1"]
    assert "of packed weights" in out
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert names == {"product", "normal", "area", "bytes in use"}


def test_shares_add_up_and_families_are_sums(model, vledge_command):
    status, out, _ = vledge_command("profile", model, "--by", "family", "--runs", 3)
    assert status == 0
    table = [line.split() for line in out.splitlines() if line.rstrip().endswith(("/s", " -"))]
    shares = [float(cell[:-1]) for line in table for cell in line if cell.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    families = {line[0] for line in table}
    assert {"matmul_known", "softmax", "Python"} <= families


def test_json_has_what_the_table_has(model, vledge_command):
    status, out, _ = vledge_command("profile", model, "--json", "--runs", 2, "--random", "x=4x8x8")
    report = json.loads(out)
    assert status == 0
    assert report["inputs"] == {"x": ["float32", [4, 8, 8]]}
    by_name = {row["name"]: row for row in report["instructions"]}
    assert by_name["product"]["operations"] == 2 * 4 * 8 * 8 * 8
    assert by_name["area"]["handler"] is None
    assert by_name["area"]["why"] == "no native handler"
    assert report["memory"]["peak"] > 0
    assert report["whole_run_seconds"]["vledge"] > 0
    assert ("onnxruntime" in report["whole_run_seconds"]) == (report["onnxruntime"] == "ran")


def test_files_of_our_own_are_profiled_without_onnxruntime(model, vledge_command, tmp_path):
    vledge_command("convert", model, tmp_path / "model.safetensors")
    status, out, _ = vledge_command("profile", tmp_path / "model.safetensors", "--runs", 1)
    assert status == 0
    assert "onnxruntime: it does not read vledge's own files" in out


def test_given_arrays_and_numbers_go_before_random_ones(tmp_path, vledge_command):
    inputs = {"x": (FLOAT, ["batch", "time", 3]), "sr": (INT64, []), "ids": (INT64, [2, "n"])}
    nodes = [
        node("Cast", ["sr"], ["rate"], to=1),
        node("Div", ["x", "rate"], ["y"]),
        node("Identity", ["ids"], ["z"]),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(nodes, inputs, ["y", "z"]))
    x = np.ones((2, 5, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    command = ["profile", path, "--runs", 1, "--input", "sr=16000"]
    status, out, _ = vledge_command(*command, "--random", "ids=2x7:50")
    assert status == 0
    assert "x: float32[1, 100, 3]" in out  # time and batch by the names of their axes
    assert "ids: int64[2, 7]" in out
    more = ["--random", "ids=2x7", "--input", f"x={tmp_path}/x.npy"]
    status, out, _ = vledge_command(*command, *more)
    assert status == 0
    assert "x: float32[2, 5, 3]" in out
    as_others = [part if part != "--input" else "--set" for part in command]
    status, out, _ = vledge_command(*as_others, "--random", "ids=2x7:50")
    assert status == 0
    assert "sr: int64[]" in out
    for wrong, message in {
        (): "input 'ids'",
        ("--random", "ids=2x?"): "give all sizes",
        ("--random", "sr=1"): "an input of the model's without --input",
        ("--random", "other=1"): "an input of the model's without --input",
        ("--random", "ids=2x7", "--runs", "0"): "--runs must be at least 1, got 0",
        ("--random", "ids=3x7"): "expected 2 on axis 0",
        ("--set", "sr=8000"): "'sr' is given twice",
        ("--set", "no=1"): "the model has no input 'no'",
        ("--set", "sr=a"): "expected a number",
        ("--input", "no=1"): "it has ['x', 'sr', 'ids']",
    }.items():
        status, out, err = vledge_command(*command, *wrong)
        assert (status, out) == (1, ""), wrong
        assert message in err
        assert err.count("\n") == 1


def test_lengths_are_those_of_the_random_sequences(vledge_command):
    status, out, _ = vledge_command("profile", JAPANESE_VOWELS, "--json", "--runs", 1)
    assert status == 0
    assert json.loads(out)["inputs"] == {"x": ["float32", [1, 100, 12]], "lengths": ["int64", [1]]}
    status, out, _ = vledge_command(
        "profile", JAPANESE_VOWELS, "--json", "--runs", 1, "--random", "x=3x7x12"
    )
    assert json.loads(out)["inputs"] == {"x": ["float32", [3, 7, 12]], "lengths": ["int64", [3]]}


def test_without_a_native_program_there_is_nothing_to_profile(model, vledge_command, monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    status, _, err = vledge_command("profile", model)
    assert status == 1
    assert "VLEDGE_PROGRAM=0" in err
    status, out, _ = vledge_command("inspect", model)
    assert status == 0
    assert "no native program: VLEDGE_PROGRAM=0" in out


def test_exact_and_the_fallback_are_the_session_s(tmp_path, vledge_command, monkeypatch):
    given = {}
    from vledge.graph import session

    made = session.InferenceSession.__init__

    def watched(self, path, **options):
        given.update(options)
        made(self, path, **options)

    monkeypatch.setattr(session.InferenceSession, "__init__", watched)
    assert vledge_command("profile", JAPANESE_VOWELS, "--runs", 1, "--exact")[0] == 0
    assert given == {"exact": True, "fallback": None}


# ---- inspect


def test_inspect_lists_what_stays_in_python(model, vledge_command):
    status, out, _ = vledge_command("inspect", model)
    assert status == 0
    assert "native: 2 of 3 nodes, 3 instructions" in out
    assert "Python, no native handler: node 'area' (Det)" in out
    report = json.loads(vledge_command("inspect", "--json", model)[1])
    assert report["native"] == {
        "native": 2,
        "python": 1,
        "instructions": 3,
        "in_python": [{"node": "node 'area' (Det)", "why": "no native handler"}],
    }
    assert "memory" not in report


def test_inspect_tells_memory(model, vledge_command):
    status, out, _ = vledge_command("inspect", model, "--memory", "--random", "x=100x8x8")
    assert status == 0
    assert "of packed weights" in out
    assert "kept for the next" in out
    arguments = ["inspect", "--json", "--memory", model, "--random"]
    small, large = (
        json.loads(vledge_command(*arguments, f"x={n}x8x8")[1])["memory"] for n in (1, 1000)
    )
    assert large["peak"] >= 1000 * 8 * 8 * 4 > small["peak"]


def test_inspect_tells_memory_as_far_as_it_is_known(tmp_path, vledge_command):
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes([node("Neg", ["x"], ["y"])], {"x": (FLOAT, ["odd"])}, ["y"]))
    status, out, _ = vledge_command("inspect", path, "--memory")
    assert status == 0
    assert "a run's values are not known: input 'x' has the shape [odd]: give its sizes" in out
    status, _, err = vledge_command("inspect", path, "--memory", "--random", "y=3")
    assert status == 1
    assert "--random y=..." in err


def test_memory_is_of_graphs(tmp_path, vledge_command):
    np.savez(tmp_path / "weights.npz", w=np.ones(3, np.float32))
    status, _, err = vledge_command("inspect", tmp_path / "weights.npz", "--memory")
    assert status == 1
    assert "--memory is for a file that holds a graph" in err
