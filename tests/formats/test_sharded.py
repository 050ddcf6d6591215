"""Indexes of weights in several files, the folders that hold them, and what must not be read."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.crafted import archive
from tests.peers import peer
from vledge import nn
from vledge.cli import main
from vledge.errors import FormatError
from vledge.formats import holds_graph, load_weights, read_checkpoint, save_weights

RNG = np.random.default_rng(5)
SIZES = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (16,), "bias_hh_l0": (16,)}
WEIGHTS = {f"rnn.{name}": RNG.standard_normal(shape, "f4") for name, shape in SIZES.items()}


def torch_file(path: Path, weights: dict[str, np.ndarray]) -> None:
    path.write_bytes(archive(pickle.dumps(weights, 2)))


WRITERS: dict[str, Callable[[Path, dict[str, np.ndarray]], None]] = {
    "safetensors": save_weights,
    "bin": torch_file,
}
USUAL = {"safetensors": "model", "bin": "pytorch_model"}


def sharded(folder: Path, ending: str = "safetensors", **changes: Any) -> Path:
    """Two files and their index, as ``save_pretrained(max_shard_size=)`` names them."""
    folder.mkdir(exist_ok=True)
    names = list(WEIGHTS)
    places = {}
    for number, own in enumerate((names[:2], names[2:]), 1):
        file = f"{USUAL[ending]}-{number:05}-of-00002.{ending}"
        WRITERS[ending](folder / file, {name: WEIGHTS[name] for name in own})
        places |= dict.fromkeys(own, file)
    index = folder / f"{USUAL[ending]}.{ending}.index.json"
    content = {"metadata": {"total_size": 1234}, "weight_map": places | changes}
    index.write_text(json.dumps(content, indent=2))
    return index


@pytest.mark.parametrize("ending", WRITERS)
def test_an_index_and_its_folder(ending: str, tmp_path: Path, capsys: Any) -> None:
    index = sharded(tmp_path / "model", ending)
    for extra in ("config.json", "training_args.bin.txt"):
        (index.parent / extra).write_text("{}")
    for path in (index, index.parent, str(index), str(index.parent)):
        weights = load_weights(path)
        assert list(weights) == list(WEIGHTS)
        for name, array in WEIGHTS.items():
            np.testing.assert_array_equal(weights[name], array)
        assert not holds_graph(path)
    nn.LSTM.from_weights(load_weights(index.parent), "rnn.")
    assert main(["inspect", str(index.parent)]) == 0
    assert "rnn.: LSTM 3 -> 4" in capsys.readouterr().out


def test_shards_that_torch_saved(tmp_path: Path) -> None:
    torch = peer("torch")
    index = sharded(tmp_path, "bin")
    for file in tmp_path.glob("*.bin"):
        state = {name: torch.from_numpy(array.copy()) for name, array in load_weights(file).items()}
        torch.save(state, file)
    for name, array in load_weights(index).items():
        np.testing.assert_array_equal(array, WEIGHTS[name])


OUTSIDE = ["../other.safetensors", "/etc/passwd", "a/../../other.safetensors", "..", ".", ""]
OUTSIDE += ["a\\b.safetensors", "a\0b", "a\nb", "C:\\x", "x" * 300]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_shard_outside_of_the_folder_is_never_read(name: str, tmp_path: Path) -> None:
    save_weights(tmp_path / "other.safetensors", {"secret": np.ones(3, "f4")})
    index = sharded(tmp_path / "model", **{"secret": name})
    with pytest.raises(FormatError, match="only plain paths below its folder"):
        load_weights(index)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "other.safetensors", {"secret": np.ones(3, "f4")})
    index = sharded(tmp_path / "model", secret="link.safetensors")
    (index.parent / "link.safetensors").symlink_to("../other.safetensors")
    with pytest.raises(FormatError, match="is or lies behind a link"):
        load_weights(index)
    (index.parent / "inside").symlink_to("..")
    index = sharded(tmp_path / "model", secret="inside/other.safetensors")
    with pytest.raises(FormatError, match="is or lies behind a link"):
        load_weights(index)


def test_the_links_of_hugging_faces_cache_are_followed(tmp_path: Path) -> None:
    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    index = sharded(cache / "snapshots" / "0123abcd")
    for number, file in enumerate(sorted(index.parent.iterdir())):
        file.rename(cache / "blobs" / f"hash{number}")
        file.symlink_to(f"../../blobs/hash{number}")
    for path in (index, index.parent):
        assert list(load_weights(path)) == list(WEIGHTS)
    first = sorted(index.parent.glob("*.safetensors"))[0]
    (cache / "elsewhere").write_bytes(first.read_bytes())
    first.unlink()
    first.symlink_to("../../elsewhere")
    with pytest.raises(FormatError, match="is or lies behind a link"):
        load_weights(index)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path, extra="model-00001-of-00002.safetensors")
    with pytest.raises(FormatError, match=r"'extra' \(model-00001-of-00002.safetensors\)"):
        load_weights(index)
    index = sharded(tmp_path, **{"rnn.weight_ih_l0": "model-00002-of-00002.safetensors"})
    with pytest.raises(FormatError, match=r"'rnn.weight_ih_l0' \(model-00002"):
        load_weights(index)
    index = sharded(tmp_path, extra="a.safetensors", more="b.safetensors")
    with pytest.raises(FormatError, match=r"not beside it: a.safetensors, b.safetensors"):
        load_weights(index)


def test_a_weight_in_two_files_is_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    save_weights(tmp_path / "model-00002-of-00002.safetensors", WEIGHTS)
    with pytest.raises(FormatError, match=r"weight 'rnn.weight_.h_l0' is in two files, model-0000"):
        load_weights(index)


def test_what_the_index_does_not_name_is_reported(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    own = {name: WEIGHTS[name] for name in list(WEIGHTS)[2:]} | {"other": np.ones(3, "f4")}
    save_weights(tmp_path / "model-00002-of-00002.safetensors", own)
    result = read_checkpoint(index)
    assert list(result.weights) == list(WEIGHTS)
    assert result.skipped == {"other": "in model-00002-of-00002.safetensors, but not in the index"}


BROKEN = {
    '{"weight_map": {"a": "x.bin", "a": "y.bin"}}': "twice",
    '{"weight_map": ["a"]}': "no object of files' names",
    '{"weight_map": {"a": 3}}': "no object of files' names",
    '{"weight_map": {}}': "names no weights",
    '{"weight_map": {"a": "x.bin"}': "the index of weights",
    '{"other": 3}': "unknown format",
    '{"other": {"weight_map": 3}}': "no object of files' names",
    '{"weight_map": {"\\u0001": "x.bin"}}': "unprintable",
    '{"weight_map": ' + "[" * 100_000: "the index of weights",
    '{"weight_map": ' + "9" * 100_000 + "}": "the index of weights",
    json.dumps({"weight_map": {str(i): f"{i}.bin" for i in range(1_001)}}): "1,001 files",
}


@pytest.mark.parametrize("content", BROKEN)
def test_broken_indexes(content: str, tmp_path: Path) -> None:
    (tmp_path / "m.index.json").write_text(content)
    with pytest.raises(FormatError, match=BROKEN[content]):
        load_weights(tmp_path / "m.index.json")


def test_a_shard_that_is_an_index_or_no_file_is_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path, again="model.safetensors.index.json")
    with pytest.raises(FormatError, match="cannot be one of several files"):
        load_weights(index)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="not a regular file"):
        load_weights(sharded(tmp_path, again="pipe"))
    with pytest.raises(FormatError, match="names no part"):
        load_weights(sharded(tmp_path), key="rnn")


def test_which_file_of_a_folder(tmp_path: Path) -> None:
    def touch(name: str, value: float) -> None:
        save_weights(tmp_path / name, {"w": np.full(2, value, "f4")})

    with pytest.raises(FormatError, match="it holds nothing"):
        load_weights(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FormatError, match=r"it holds notes.txt"):
        load_weights(tmp_path)
    torch_file(tmp_path / "pytorch_model.bin", {"w": np.full(2, 1, "f4")})
    torch_file(tmp_path / "optimizer.bin", {"w": np.full(2, 9, "f4")})
    assert load_weights(tmp_path)["w"][0] == 1
    touch("diffusion_pytorch_model.safetensors", 2)
    assert load_weights(tmp_path)["w"][0] == 2
    touch("adapter.safetensors", 3)
    with pytest.raises(FormatError, match=r"adapter.safetensors, diffusion_pytorch_model.safe"):
        load_weights(tmp_path)
    touch("model.safetensors", 4)
    assert load_weights(tmp_path)["w"][0] == 4
    sharded(tmp_path)
    with pytest.raises(FormatError, match=r"model.safetensors, model.safetensors.index.json"):
        load_weights(tmp_path)


def test_a_folder_of_a_distributed_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(b"x")
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(FormatError, match="dcp_to_torch"):
        load_weights(tmp_path)


def test_an_archive_of_torch_package_is_named(tmp_path: Path) -> None:
    torch = peer("torch")
    package = peer("torch.package")
    with package.PackageExporter(tmp_path / "model.pt") as exporter:
        exporter.extern("torch.**")
        exporter.save_pickle("model", "model.pkl", torch.nn.LSTM(3, 4))
    with pytest.raises(FormatError, match=r"an archive of torch.package.*PackageImporter"):
        load_weights(tmp_path / "model.pt")
