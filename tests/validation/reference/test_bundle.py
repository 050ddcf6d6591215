"""The reference bundle: written and read back, and every way in which a file can lie about it."""

import json

import numpy as np
import pytest

from vledge.errors import FormatError
from vledge.formats import safetensors_file
from vledge.validation import Case, Reference, read, reference_path, write
from vledge.validation.reference.bundle import KEY


def made(lengths=(3, 5)):
    rng = np.random.default_rng(0)
    steps, batch = max(lengths), len(lengths)
    exact = rng.standard_normal((steps, batch, 4))
    case = Case(
        {"x": rng.standard_normal((steps, batch, 2), np.float32)},
        {"y": exact.astype(np.float32), "inside/Y": exact.astype(np.float32)},
        {"y": exact},
        np.array(lengths, np.int64),
    )
    axes = {name: {"time": 0, "batch": 1} for name in ("x", "y", "inside/Y")}
    by = "torch in float64"
    return Reference([case, case], {"torch": "2"}, 7, ["inside/Y"], axes, {}, by, "", {"y": 1e-7})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.reference.safetensors"


def test_it_comes_back(path):
    reference = made()
    write(path, reference)
    back = read(path)
    assert (back.made_by, back.seed, back.layers, back.axes) == (
        reference.made_by,
        7,
        ["inside/Y"],
        reference.axes,
    )
    assert back.outputs() == ["y"]
    assert back.spread == {"y": 1e-7}
    assert len(back.cases) == 2
    for kind in ("inputs", "outputs", "exact"):
        ours, theirs = getattr(back.cases[1], kind), getattr(reference.cases[1], kind)
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(ours[name], array)
            assert ours[name].dtype == array.dtype
    np.testing.assert_array_equal(back.cases[0].lengths, [3, 5])


def test_it_is_written_whole_or_not_at_all(path, monkeypatch):
    write(path, made())
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, made((1, 9)))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_its_name_is_the_model_s():
    assert reference_path("a/m.safetensors") == "a/m.reference.safetensors"
    assert reference_path("m.onnx") == "m.reference.safetensors"


def lied(path, fields=None, tensors=None, drop=()):
    """A bundle of which parts are replaced."""
    write(path, made())
    arrays = {**dict(np_arrays(path)), **(tensors or {})}
    arrays = {name: array for name, array in arrays.items() if name not in drop}
    description = json.loads(metadata(path))
    description |= fields or {}
    safetensors_file.write(path, arrays, {KEY: json.dumps(description)})
    return path


def np_arrays(path):
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return [(name, file.get_tensor(name)) for name in file.keys()]  # noqa: SIM118


def metadata(path):
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return file.metadata()[KEY]


PRINT = {"checksum": 0, "dtype": "float32", "shape": [2, 3]}
LIES = {
    "version": ({"version": 3}, {}, (), "version 3"),
    "cases are text": ({"cases": "2"}, {}, (), "cases is '2'"),
    "no cases": ({"cases": 0}, {}, (), "cases is 0"),
    "too many cases": ({"cases": 10**9}, {}, (), "cases is 1000000000"),
    "case without tensors": ({"cases": 3}, {}, (), "case 2 has no outputs"),
    "made_by": ({"made_by": [1]}, {}, (), "made_by is"),
    "unknown axis": ({"axes": {"x": {"depth": 0}}}, {}, (), "axes of 'x'"),
    "axis too far": ({"axes": {"x": {"time": 3}}}, {}, (), "its axes are"),
    "axis negative": ({"axes": {"x": {"time": -1}}}, {}, (), "axes of 'x'"),
    "one axis twice": ({"axes": {"x": {"time": 0, "batch": 0}}}, {}, (), "the same"),
    "layer not there": ({"layers": ["z"]}, {}, (), "no layer 'z'"),
    "only layers": ({"layers": ["y", "inside/Y"]}, {}, (), "no outputs but layers"),
    "carry not there": ({"carry": {"x": "z"}}, {}, (), "no state 'x'"),
    "spread is a list": ({"spread": [1]}, {}, (), "spread is"),
    "spread negative": ({"spread": {"y": -1.0}}, {}, (), "spread of 'y' is -1"),
    "spread infinite": ({"spread": {"y": float("inf")}}, {}, (), "Infinity is no number"),
    "spread no number": ({"spread": {"y": float("nan")}}, {}, (), "NaN is no number"),
    "foreign tensor": ({}, {"9/input/x": np.zeros(2)}, (), "belongs to no case"),
    "nameless tensor": ({}, {"weight": np.zeros(2)}, (), "belongs to no case"),
    "missing input": ({}, {}, ("1/input/x",), "other inputs than case 0"),
    "exact not float64": ({}, {"0/exact/y": np.zeros((5, 2, 4), "f4")}, (), "not the output in"),
    "exact of another shape": ({}, {"0/exact/y": np.zeros((5, 2, 3))}, (), "not the output in"),
    "lengths too long": ({}, {"0/lengths": np.array([3, 6], "i8")}, (), "lengths to 6"),
    "lengths negative": ({}, {"0/lengths": np.array([3, -1], "i8")}, (), "whole numbers from 0"),
    "lengths too many": ({}, {"0/lengths": np.array([3, 1, 1], "i8")}, (), "there are 3 lengths"),
    "a print without numbers": ({"weights": {"W": PRINT}}, {}, (), "print of 'W' has no elements"),
    "a print that is a list": ({"weights": []}, {}, (), "weights is"),
    "a print's shape": (
        {"weights": {"W": {**PRINT, "shape": [-1]}}},
        {"weights/sample/W": np.zeros(5)},
        (),
        "print of 'W' has no elements, or the shape",
    ),
    "a print of too few": (
        {"weights": {"W": PRINT}},
        {"weights/sample/W": np.zeros(7)},
        (),
        "expected 8 float64",
    ),
    "a print's sums": (
        {"weights": {"W": PRINT}},
        {"weights/sample/W": np.zeros(8), "weights/sums0/W": np.zeros(5)},
        (),
        r"sums of the shape \(5,\), expected \(2,\)",
    ),
    "a print's checksum": (
        {"weights": {"W": {**PRINT, "checksum": "0"}}},
        {"weights/sample/W": np.zeros(8)},
        (),
        "print of 'W' is '0'",
    ),
    "a print that is not named": (
        {},
        {"weights/sample/W": np.zeros(8)},
        (),
        "print of no tensor",
    ),
    "inside of other cases": ({"inside": [{}, {}, {}]}, {}, (), "inside is of 3 cases"),
    "inside without numbers": ({"inside": [{"v": [2]}, {}]}, {}, (), "'v' has no elements"),
    "inside of another dtype": (
        {"inside": [{"v": [2]}, {}]},
        {"0/inside/v": np.zeros(4, "f4")},
        (),
        "expected 4 float64",
    ),
    "inside not named": ({}, {"0/inside/v": np.zeros(4)}, (), "belongs to no case"),
    "lengths of floats": ({}, {"0/lengths": np.zeros(2)}, (), "whole numbers from 0"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_told(path, lie):
    fields, tensors, drop, message = LIES[lie]
    with pytest.raises(FormatError, match=message) as caught:
        read(lied(path, fields, tensors, drop))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '"a"', "[" * 100_000])
def test_a_description_that_is_none(path, text):
    safetensors_file.write(path, {"0/output/y": np.zeros(1)}, {KEY: text})
    with pytest.raises(FormatError, match=r"description|header"):
        read(path)


def test_weights_are_no_bundle(path):
    safetensors_file.write(path, {"weight": np.zeros(2)})
    with pytest.raises(FormatError, match="no reference bundle"):
        read(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_file(path, part):
    write(path, made())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(FormatError):
        read(path)
