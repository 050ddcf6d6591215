"""torch.export archives: their description of the weights is not believed."""

import json
import zipfile
from pathlib import Path

import pytest

from tests.formats.crafted import zip_of
from vledge.errors import FormatError
from vledge.formats import load_weights, read_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
CONFIG = "data/weights/model_weights_config.json"


def changed(tmp_path: Path, **fields: object) -> Path:
    """The golden file with fields of one weight's description replaced; None takes one away."""
    with zipfile.ZipFile(GOLDEN / "exported.pt2") as source:
        folder = source.namelist()[0].split("/")[0]
        members = {name: source.read(name) for name in source.namelist()}
    config = json.loads(members[f"{folder}/{CONFIG}"])
    entry = config["config"]["0.weight"]
    for name, value in fields.items():
        target = entry if name in entry else entry["tensor_meta"]
        assert name in target
        target[name] = value
    members[f"{folder}/{CONFIG}"] = json.dumps(config).encode()
    path = tmp_path / "model.pt2"
    path.write_bytes(zip_of(members))
    return path


def test_rewritten_file_is_good(tmp_path: Path) -> None:
    weights = load_weights(changed(tmp_path))
    assert weights["0.weight"].shape == (4, 3)
    assert weights["1.num_batches_tracked"].shape == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"use_pickle": True},
        {"path_name": "weight_99"},
        {"path_name": "../constants/tensor_0"},
        {"path_name": 3},
        {"sizes": [{"as_int": 5}, {"as_int": 3}]},
        {"sizes": [{"as_int": -4}, {"as_int": 3}]},
        {"sizes": [{"as_int": 2**62}, {"as_int": 2**62}]},
        {"sizes": [{"as_expr": {"expr_str": "s0"}}, {"as_int": 3}]},
        {"sizes": [{"as_int": 3}]},
        {"sizes": 12},
        {"strides": [{"as_int": -3}, {"as_int": 1}]},
        {"strides": [{"as_int": 1}, {"as_int": 1}]},
        {"storage_offset": {"as_int": 1}},
        {"storage_offset": None},
        {"dtype": 8},
        {"dtype": "float"},
        {"tensor_meta": None},
    ],
    ids=str,
)
def test_lying_description(fields: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"tensor '0\.weight'"):
        load_weights(changed(tmp_path, **fields))


def test_unknown_dtype_is_left_out_and_reported(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(changed(tmp_path, dtype=29))
    assert checkpoint.skipped == {"0.weight": "a tensor of dtype number 29, which is not read"}
    assert "0.bias" in checkpoint.weights


@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b'{"config": 3}', b"[" * 100_000, b"\xff"])
def test_description_that_is_none(config: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(zip_of({"m/archive_format": b"pt2", f"m/{CONFIG}": config}))
    with pytest.raises(FormatError, match=r"no description of weights|no JSON"):
        load_weights(path)


def test_several_models_need_a_key(tmp_path: Path) -> None:
    meta = {"dtype": 7, "sizes": [{"as_int": 1}], "strides": [{"as_int": 1}]}
    entry = {"path_name": "w0", "use_pickle": False, "tensor_meta": meta | {"storage_offset": 0}}
    config = json.dumps({"config": {"w": entry}}).encode()
    members = {f"m/data/weights/{name}_weights_config.json": config for name in ("a", "b")}
    path = tmp_path / "models.pt2"
    path.write_bytes(zip_of({"m/archive_format": b"pt2", "m/data/weights/w0": bytes(4)} | members))
    with pytest.raises(FormatError, match=r"say by key=.*\['a', 'b'\]"):
        load_weights(path)
    checkpoint = read_checkpoint(path, key="b")
    assert checkpoint.key == "b"
    assert checkpoint.elsewhere == {"a": "the weights of another model"}
