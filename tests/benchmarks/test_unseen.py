"""`python -m benchmarks.unseen`: models that nobody has described are found, fed and compared."""

import numpy as np
import pytest

from benchmarks import unseen
from benchmarks.measuring.guessing import Given, guessed_feed
from tests.graph.models import helper, model_bytes, node
from tests.peers import peer
from vledge.graph.session import read_model

peer("onnxruntime")


def a_file(folder, name="m.onnx"):
    x = np.zeros((1, 3), np.float32)
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(model_bytes([node("Relu", ["x"], ["y"])], {"x": x}, ["y"]))
    return path


def declared(tmp_path, **inputs):
    """A model with inputs of these types and shapes."""
    infos = {
        name: (helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, (dtype, shape) in inputs.items()
    }
    nodes = [node("Identity", [name], [f"{name}_y"]) for name in inputs]
    path = tmp_path / "declared.onnx"
    path.write_bytes(model_bytes(nodes, infos, [f"{name}_y" for name in inputs]))
    return read_model(str(path))


def test_files_folders_and_packages(tmp_path, monkeypatch):
    one, two = a_file(tmp_path), a_file(tmp_path, "inner/n.onnx")
    assert unseen.files(str(one)) == [one]
    assert unseen.files(str(tmp_path)) == [two, one]
    meta = tmp_path / "thing-1.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1\n")
    (meta / "RECORD").write_text("inner/n.onnx,,\ninner/other.txt,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert unseen.files("thing") == [two]
    with pytest.raises(ValueError, match=r"no-such-thing: no \.onnx file"):
        unseen.files("no-such-thing")


def test_guesses_follow_declarations_and_the_caller(tmp_path):
    model = declared(
        tmp_path,
        image=(np.float32, ["batch_size", 3, "height", "width"]),
        ids=(np.int64, ["batch", "tokens"]),
        mask=(np.int64, ["batch", "tokens"]),
        sr=(np.int64, []),
        scale=(np.float32, []),
        lengths=(np.int64, ["n"]),
        raw=(np.uint8, [2, 5]),
        flag=(np.bool_, [1]),
    )
    given = Given({"tokens": 7}, {"image": (1, 3, 8, 9)}, {"scale": 2.5})
    feed, answer = guessed_feed(model, given, lambda feed: list(feed))
    assert answer == list(feed)
    assert {name: array.shape for name, array in feed.items()} == {
        "image": (1, 3, 8, 9), "ids": (1, 7), "mask": (1, 7), "sr": (), "scale": (),
        "lengths": (1,), "raw": (2, 5), "flag": (1,),
    }  # fmt: skip
    assert all(isinstance(array, np.ndarray) for array in feed.values())
    assert feed["sr"] == 16_000
    assert feed["scale"] == 2.5
    assert feed["lengths"] == 9
    assert feed["mask"].all()
    assert feed["flag"].all()
    again, _ = guessed_feed(model, given, lambda feed: [])
    assert all(np.array_equal(feed[name], again[name]) for name in feed)


def test_guesses_are_tried_until_one_runs(tmp_path):
    model = declared(tmp_path, x=(np.float32, ["n", "samples"]))
    tried = []

    def long_ones(feed):
        tried.append(feed["x"].shape)
        if feed["x"].shape[1] < 512:
            raise RuntimeError(f"too short: {feed['x'].shape}")
        return []

    feed, _ = guessed_feed(model, Given(), long_ones)
    assert feed["x"].shape == tried[-1] == (1, 16_000)
    with pytest.raises(RuntimeError, match=r"too short: \(1, 40\)"):  # the first refusal
        guessed_feed(model, Given({"samples": 40}), long_ones)


def test_a_type_without_random_numbers_is_named(tmp_path):
    info = helper.make_tensor_value_info("words", 8, ["n"])
    graph = helper.make_graph(
        [node("Identity", ["words"], ["y"])], "g", [info],
        [helper.make_tensor_value_info("y", 8, None)],
    )  # fmt: skip
    path = tmp_path / "words.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="'words' is string"):
        guessed_feed(read_model(str(path)), Given(), lambda feed: [])


def test_the_command_prints_a_line_and_its_parts(tmp_path, monkeypatch, capsys):
    a_file(tmp_path), a_file(tmp_path, "inner/n.onnx")
    command = ["unseen", str(tmp_path), "--rounds", "1"]
    monkeypatch.setattr("sys.argv", command)
    assert unseen.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("inner/n.onnx ")
    assert "onnxruntime" in lines[0]
    assert lines[1].startswith("    x [1, ")
    assert lines[2].startswith("    chain 100%")
    assert lines[3].startswith("m.onnx ")
    assert "of 2 models are at least as quick as onnxruntime" in lines[6]
    for wrong in (["nothing-here"], [str(tmp_path), "--size", "n"]):
        monkeypatch.setattr("sys.argv", ["unseen", *wrong])
        assert unseen.main() == 2
    assert "n: expected NAME=VALUE" in capsys.readouterr().err
