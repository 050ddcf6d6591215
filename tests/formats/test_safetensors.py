"""safetensors: written so that no half file is ever seen, read without copies, lies refused."""

import json
import os
import re
import stat
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vledge.errors import FormatError
from vledge.formats import load_weights, read_checkpoint, safetensors_file, save_weights

DTYPES = [
    *("float32", "float64", "float16", "bool", "uint8", "int8"),
    *("int16", "int32", "int64", "uint16", "uint32", "uint64"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3), (2, 3, 4)])
def test_round_trip(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "weights"
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    given = {
        "plain": array,
        "transposed": array.T,
        "swapped": array.astype(array.dtype.newbyteorder(">")),
        "read-only": np.broadcast_to(array, (2, *shape)),
    }
    save_weights(path, given)
    weights = load_weights(path)
    assert weights.keys() == given.keys()
    for name, expected in given.items():
        assert weights[name].dtype == array.dtype
        assert weights[name].shape == expected.shape
        np.testing.assert_array_equal(weights[name], expected)
    assert safetensors.numpy.load_file(path).keys() == given.keys()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_file_is_the_librarys(dtype: str, tmp_path: Path) -> None:
    weights = {n: np.ones((2, size), dtype) for n, size in (("b", 3), ('ä\n"', 0), ("a", 7))}
    metadata = {"a key": 'a "text" with ü'}
    safetensors_file.write(tmp_path / "w", weights, metadata)
    assert (tmp_path / "w").read_bytes() == safetensors.numpy.save(weights, metadata)


def test_any_mapping_and_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_weights("model.safetensors", {"w": [[1.0, 2.0]]})  # type: ignore[dict-item]
    np.testing.assert_array_equal(load_weights("model.safetensors")["w"], [[1, 2]])


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    bits = np.array([0x3F80, 0xC049, 0x7F80, 0x7FC1, 0x0001], "<u2")
    header = {"w": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}
    path.write_bytes(encoded(header, bits.tobytes()))
    weights = load_weights(path)
    assert weights["w"].dtype == np.float32
    np.testing.assert_array_equal(weights["w"].view("u4"), bits.astype("u4") << 16)


def test_complex_numbers_of_newer_libraries(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    values = np.array([1 + 2j, -3j], "c8")
    path.write_bytes(encoded({"w": entry([2], 0, 16, "C64")}, values.tobytes()))
    np.testing.assert_array_equal(load_weights(path)["w"], values)


def test_unaligned_header_of_older_writers(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    text = json.dumps({"w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}).encode()
    text += b" " * (3 - len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + np.array([1.5, 2.5]).tobytes())
    array = load_weights(path)["w"]
    assert array.flags.aligned
    np.testing.assert_array_equal(array, [1.5, 2.5])


def test_reading_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"w": np.zeros((1_000, 1_000))})
    tracemalloc.start()
    weights = load_weights(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert not weights["w"].flags.owndata


def encoded(header: object, data: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list, begin: int, end: int, dtype: str | None = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def with_metadata(metadata: object) -> bytes:
    return encoded({"__metadata__": metadata, "w": entry([2], 0, 8)}, bytes(8))


LYING = {
    "header of 2**63 bytes": b"\xff" * 7 + b"\x7f{}",
    "header of 90 MB": struct.pack("<Q", 90 << 20) + b"{" + b" " * (90 << 20),
    "header cut short": encoded({"w": entry([2], 0, 8)}, bytes(8))[:40],
    "no JSON": encoded("{w}"),
    "deep JSON": encoded('{"w":' + "[" * 100_000),
    "a name twice": encoded(
        '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        bytes(8),
    ),
    "more data": encoded({"w": entry([2], 0, 8)}, bytes(9)),
    "less data": encoded({"w": entry([2], 0, 8)}, bytes(7)),
    "a hole": encoded({"w": entry([2], 4, 12)}, bytes(12)),
    "an overlap": encoded({"w": entry([2], 0, 8), "v": entry([2], 4, 12)}, bytes(12)),
    "another size": encoded({"w": entry([3], 0, 8)}, bytes(8)),
    "overflow": encoded({"w": entry([2**62, 2**62], 0, 8)}, bytes(8)),
    "negative": encoded({"w": entry([-2], 0, 8)}, bytes(8)),
    "unknown dtype": encoded({"w": entry([2], 0, 8, "F99")}, bytes(8)),
    "no dtype": encoded({"w": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "bools of 2": encoded({"w": entry([2], 0, 2, "BOOL")}, b"\x02\x00"),
    "control characters": encoded({"\x1b[2J": entry([2], 0, 8)}, bytes(8)),
    "no tensors": encoded({}),
    "40 dimensions": encoded({"w": entry([1] * 40, 0, 4)}, bytes(4)),
    "400,000 dimensions": encoded({"w": entry([10**17] * 400_000, 0, 4)}, bytes(4)),
    "no file": b"\x02\0\0\0{",
    "a header of 0 bytes": bytes(8) + b"{}",
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "JSON after JSON": encoded("{}{}"),
    "no end of JSON": encoded('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}', bytes(8)),
    "a mark of byte order": encoded(f"\ufeff{json.dumps({'w': entry([2], 0, 8)})}", bytes(8)),
    "UTF-16": encoded("".join(f"{c}\0" for c in json.dumps({"w": entry([2], 0, 8)})), bytes(8)),
    "no UTF-8": struct.pack("<Q", 8) + b'{"\xff":1}',
    "half a character as a name": encoded({"\ud800": entry([2], 0, 8)}, bytes(8)),
    "half a character in the metadata": with_metadata({"a": "\udc00\ud800"}),
    "a number in the metadata": with_metadata({"a": 1}),
    "metadata that are a list": with_metadata(["a"]),
    "no metadata": with_metadata(None),
    "a name twice in the metadata": with_metadata({}).replace(b"{}", b'{"a":"b","a":"c"}'),
    "an entry that is a list": encoded({"w": ["F32", [2], [0, 8]]}, bytes(8)),
    "an entry with more": encoded({"w": entry([2], 0, 8) | {"strides": [1]}}, bytes(8)),
    "an entry with less": encoded({"w": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "a third offset": encoded({"w": entry([2], 0, 8) | {"data_offsets": [0, 8, 8]}}, bytes(8)),
    "offsets in the wrong order": encoded({"w": entry([0], 8, 0)}, bytes(8)),
    "a hole before the end": encoded({"v": entry([], 0, 4), "w": entry([], 8, 12)}, bytes(12)),
    "tensors in one place": encoded({"v": entry([], 0, 4), "w": entry([], 0, 4)}, bytes(4)),
    "a true size": encoded({"w": entry([True], 0, 4)}, bytes(4)),
    "a size as text": encoded({"w": entry(["1"], 0, 4)}, bytes(4)),
    "a dtype that is none": encoded({"w": entry([1], 0, 4, None)}, bytes(4)),
    "half a byte": encoded({"w": entry([3], 0, 1, "F4")}, bytes(1)),
    "more float8 than there are": encoded({"w": entry([2**40], 0, 1, "F8_E4M3")}, bytes(1)),
    **{
        f"the size {size}": encoded(
            f'{{"w":{{"dtype":"F32","shape":[0,{size}],"data_offsets":[0,0]}}}}'
        )
        for size in ("-0", "-1", "1.0", "1e0", "01", "+1", "NaN", "Infinity", "1e999", str(2**64))
    },
    **{
        f"the offset {offset}": encoded(
            f'{{"w":{{"dtype":"F32","shape":[0],"data_offsets":[{offset},0]}}}}'
        )
        for offset in ("-0", "0.0", "false", "null", '"0"', "0e0", "00")
    },
}


@pytest.mark.parametrize("case", LYING)
def test_lying_file(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LYING[case])
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"model\.safetensors: "):
        load_weights(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (64 << 20) + 10 * len(LYING[case])


@pytest.mark.parametrize("shape", [[0, 10**17, 10**17], [10**17, 10**17, 0]])
@pytest.mark.parametrize("dtype", ["F32", "F8_E4M3"])
def test_shape_whose_product_overflows_before_it_is_nothing(
    shape: list[int], dtype: str, tmp_path: Path
) -> None:
    """The library's product stops at a 0 that comes early, and overflows at one that comes late."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(encoded({"v": entry([], 0, 4), "w": entry(shape, 4, 4, dtype)}, bytes(4)))
    with pytest.raises(FormatError, match=r"tensor 'w': shape .* is too large"):
        load_weights(path)


# What stands in a header, and what looks like it.
TOKENS = [
    *"{}[],: ",
    *(
        "0",
        "1",
        "2",
        "4",
        "8",
        "16",
        "-0",
        "01",
        "1e0",
        "1.0",
        "1E400",
        "-1",
        str(2**63),
        str(2**64),
    ),
    *("true", "null", "NaN", "[0,4]", "[4,8]", "[2]", "[]", "{}", "\n", "\ufeff", "\0"),
    *('"F32"', '"U8"', '"F4"', '"F9"', '"w"', '"v"', '"\\ud800"', '"\\u0076"', '"\t"', '"\xe9"'),
    *('"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"strides":1', '"dtype":"F32"'),
]
HEADERS = [
    {"w": entry([2], 0, 8)},
    {"w": entry([1], 4, 8), "v": entry([4], 0, 4, "U8"), "__metadata__": {"a": "b"}},
    {"w": entry([2, 0], 8, 8), "v": entry([16], 0, 8, "F4"), "u": entry([], 8, 8 + 2, "BF16")},
]


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    header=st.sampled_from([json.dumps(header, separators=(",", ":")) for header in HEADERS]),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(["", *TOKENS]), st.booleans()),
        max_size=3,
    ),
    size=st.sampled_from([0, 4, 8, 8, 8, 10, 16]),
)
@example(  # two names of one weight, as save_model writes them
    header=json.dumps(HEADERS[1], separators=(",", ":")).replace('"b"', '"w"'), changes=[], size=8
)
def test_no_file_is_read_that_the_library_refuses(
    header: str, changes: list[tuple[float, str, bool]], size: int, tmp_path: Path
) -> None:
    tokens = re.findall(r'"[^"]*"|[^"\w]|\w+', header)
    for where, token, insert in changes:
        at = int(where * len(tokens))
        tokens[at : at + (not insert)] = [token]
    data = bytes(range(1, 1 + size))
    content = encoded("".join(tokens), data)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    try:
        checkpoint = read_checkpoint(path)
    except FormatError:
        return
    expected = dict(safetensors.deserialize(content))
    with safetensors.safe_open(path, "np") as file:
        names = file.metadata() or {}
    for name, kept in names.items():  # what save_model says of weights with two names
        if kept in checkpoint.weights and name not in expected:
            expected[name] = expected[kept]
    assert {*checkpoint.weights, *checkpoint.skipped} == expected.keys()
    for name, array in checkpoint.weights.items():
        assert list(array.shape) == expected[name]["shape"]
        if expected[name]["dtype"] != "BF16":
            assert array.tobytes() == bytes(expected[name]["data"])


def test_dtypes_that_numpy_lacks_are_left_out_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = {"w": entry([2], 0, 8), "f": entry([4], 8, 12, "F8_E4M3")}
    path.write_bytes(encoded(header, bytes(12)))
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.weights) == ["w"]
    assert "F8_E4M3" in checkpoint.skipped["f"]


def test_key_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "m", {"w": np.ones(3)})
    with pytest.raises(FormatError, match="key='w' names no part"):
        load_weights(tmp_path / "m", key="w")


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({}, ValueError, "no weights to save"),
        ({"w": np.array(["text"])}, TypeError, "weight 'w' is of dtype <U4"),
        ({"w": np.array([{}], object)}, TypeError, "weight 'w' is of dtype object"),
        ({"w": np.ones(2, "c8")}, TypeError, "weight 'w' is of dtype complex64"),
        ({"w": np.ones(2, "c16")}, TypeError, "weight 'w' is of dtype complex128"),
        ({3: np.ones(2)}, TypeError, "must be a string, got 3"),
        ({"__metadata__": np.ones(2)}, ValueError, "__metadata__"),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file(
    weights: dict, error: type, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"old": np.ones(3)})
    with pytest.raises(error, match=message):
        save_weights(path, weights)
    assert list(load_weights(path)) == ["old"]
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("step", ["_header", "fsync", "replace"])
def test_interrupted_save_leaves_the_old_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"old": np.ones(3)})

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_file if step == "_header" else os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_weights(path, {"new": np.ones(3)})
    monkeypatch.undo()
    assert list(load_weights(path)) == ["old"]
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_file_is_flushed_before_it_appears_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        kind = os.fstat(descriptor).st_mode
        steps.append("flush folder" if stat.S_ISDIR(kind) else "flush file")
        fsync(descriptor)

    def traced_replace(source: str, target: str) -> None:
        assert os.path.dirname(source) == str(tmp_path)
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    save_weights(tmp_path / "model.safetensors", {"w": np.ones(3)})
    assert steps == ["flush file", "rename", "flush folder"]


def test_saving_over_a_file_that_is_mapped_leaves_the_arrays_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"w": np.arange(1_000.0)})
    weights = load_weights(path)
    save_weights(path, {"w": weights["w"][:5] + 1})
    np.testing.assert_array_equal(weights["w"], np.arange(1_000.0))
    np.testing.assert_array_equal(load_weights(path)["w"], [1, 2, 3, 4, 5])


def test_saved_file_has_ordinary_permissions_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "model.safetensors"
    link.symlink_to("real/weights")
    previous = os.umask(0o022)
    try:
        save_weights(link, {"w": np.ones(3)})
    finally:
        os.umask(previous)
    assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / "real" / "weights").stat().st_mode) == 0o644


def test_missing_folder_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_weights(tmp_path / "nowhere" / "model.safetensors", {"w": np.ones(3)})
