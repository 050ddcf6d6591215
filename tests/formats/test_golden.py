"""Committed files of every layout against what torch or NumPy read from them; wants neither."""

from pathlib import Path

import numpy as np
import pytest

from vledge.formats import load_weights, read_checkpoint

GOLDEN = Path(__file__).parent.parent / "golden" / "formats"
FORMATS = {
    "archive.pt": "torch archive",
    "big_endian.pt": "torch archive",
    "checkpoint.pt": "torch archive",
    "compressed.npz": "NumPy archive",
    "exported.pt2": "exported program",
    "legacy.pt": "legacy torch file",
    "module.pt": "torch archive",
    "protocol_4.pt": "torch archive",
    "scripted.pt": "TorchScript archive",
    "weights.npz": "NumPy archive",
    "weights.safetensors": "safetensors",
}


def expected_of(file: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "expected.npz") as arrays:
        return {
            name.removeprefix(f"{file}/"): arrays[name]
            for name in arrays.files
            if name.startswith(f"{file}/")
        }


def assert_same(weights: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert weights.keys() == expected.keys()
    for name, array in expected.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert weights[name].dtype == native.dtype, name
        assert weights[name].shape == native.shape, name
        assert weights[name].tobytes() == native.tobytes(), name
        assert not weights[name].flags.writeable, name
        assert weights[name].flags.aligned, name


@pytest.mark.parametrize("file", FORMATS)
def test_file_gives_the_arrays_it_was_made_from(file: str) -> None:
    expected = expected_of(file)
    assert expected
    assert_same(load_weights(GOLDEN / file), expected)


@pytest.mark.parametrize("file", FORMATS)
def test_format_is_told_by_bytes_whatever_the_name(file: str, tmp_path: Path) -> None:
    renamed = tmp_path / "weights.tar"
    renamed.write_bytes((GOLDEN / file).read_bytes())
    assert read_checkpoint(renamed).format.startswith(FORMATS[file])
    assert_same(load_weights(str(renamed)), expected_of(file))


def test_every_golden_file_is_tested() -> None:
    committed = {path.name for path in GOLDEN.iterdir() if path.suffix != ".py" and path.is_file()}
    assert committed == {*FORMATS, "expected.npz"}


def test_checkpoint_says_what_it_was_taken_from_and_what_else_there_is() -> None:
    checkpoint = read_checkpoint(GOLDEN / "checkpoint.pt")
    assert checkpoint.key == "model_state"
    assert checkpoint.skipped == {}
    assert checkpoint.elsewhere == {"optimizer_state": "the state of an optimizer"}
    assert_same(load_weights(GOLDEN / "checkpoint.pt", key="model_state"), checkpoint.weights)


def test_stored_tensors_are_views_of_the_mapped_file() -> None:
    weights = load_weights(GOLDEN / "archive.pt")
    for name in ("shared_a", "shared_b", "strided", "float64", "int64"):
        assert not weights[name].flags.owndata, name
    assert weights["shared_b"].strides == (4, 16)  # the transposed view that was saved
