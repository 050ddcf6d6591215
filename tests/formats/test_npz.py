"""NumPy archives: all that numpy.savez writes comes back, all that lies is a FormatError."""

import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.formats.crafted import zip_of
from vledge.errors import FormatError
from vledge.formats import load_weights, read_checkpoint

DTYPES = [
    *("<f4", ">f4", "<f8", "<f2", "<i8", ">i2", "|u1", "|i1", "|b1", "<c8", ">c16", "<u2", "<u8"),
]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3), (2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_round_trip(save, dtype: str, shape: tuple[int, ...], order: str, tmp_path: Path) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 100
    array = np.asarray(values.astype(dtype), order="F" if order == "F" else "C")
    save(tmp_path / "weights.npz", **{"a.b": array, "folder/c": array})
    weights = load_weights(tmp_path / "weights.npz")
    assert list(weights) == ["a.b", "folder/c"]
    for loaded in weights.values():
        assert loaded.dtype == array.dtype.newbyteorder("=")
        assert loaded.shape == shape
        np.testing.assert_array_equal(loaded, array)


def test_stored_arrays_are_copied_at_most_once(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, w=np.zeros((1_000, 1_000)), b=np.zeros(1_000, "u1"))
    tracemalloc.start()
    weights = load_weights(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000 + (1 << 20)
    assert not weights["b"].flags.owndata
    assert weights["w"].flags.aligned


def test_arrays_of_objects_are_left_out_and_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    record = np.zeros(2, [("x", "f4"), ("y", "i4")])
    np.savez(path, w=np.ones(3), o=np.array([{}], object), text=np.array(["a"]), record=record)
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.weights) == ["w"]
    assert checkpoint.skipped.keys() == {"o", "text", "record"}
    np.savez(path, o=np.array([{}], object))
    with pytest.raises(FormatError, match=r"no weights, only 'o': an array of dtype object"):
        load_weights(path)


def npy(header: str, data: bytes = bytes(24), version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode() + data


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"
LYING = {
    "no magic": b"\x93NUMPX" + npy(GOOD)[6:],
    "unknown version": npy(GOOD, version=b"\x09\x00"),
    "cut in the magic": npy(GOOD)[:7],
    "cut in the header": npy(GOOD)[:30],
    "data too short": npy(GOOD)[:-1],
    "data too long": npy(GOOD) + b"x",
    "header of 4 GiB": npy(GOOD, version=b"\x02\x00").replace(
        struct.pack("<I", len(GOOD)), b"\xff\xff\xff\xff"
    ),
    "header of 20 kB": npy(GOOD + " " * 20_000, version=b"\x02\x00"),
    "shape of 2**80 bytes": npy(GOOD.replace("(2, 3)", "(2**78,)")),
    "huge shape": npy(GOOD.replace("(2, 3)", f"({2**62}, {2**62})")),
    "huge empty shape": npy(GOOD.replace("(2, 3)", f"(0, {2**62}, {2**62})"), b""),
    "negative shape": npy(GOOD.replace("(2, 3)", "(-2, -3)")),
    "shape of booleans": npy(GOOD.replace("(2, 3)", "(True, 6)")),
    "no shape": npy(GOOD.replace("'shape'", "'shade'")),
    "an extra field": npy(GOOD.replace(", }", ", 'x': 1}")),
    "a call": npy("__import__('os').system('true')"),
    "deep nesting": npy("(" * 4_000 + ")" * 4_000),
    "deep negation": npy("-" * 9_000 + "1"),
    "unhashable": npy("{{}: 1}"),
    "no dtype": npy(GOOD.replace("'<f4'", "'nonsense'")),
    "dtype is a number": npy(GOOD.replace("'<f4'", "4.5")),
    "bool of 2": npy(GOOD.replace("<f4", "|b1").replace("(2, 3)", "(24,)"), b"\x02" * 24),
    "33 dimensions": npy(GOOD.replace("(2, 3)", f"({'1, ' * 32}6)")),
}


@pytest.mark.parametrize("case", LYING)
def test_lying_array(case: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(zip_of({"good.npy": npy(GOOD)}))
    assert load_weights(path)["good"].shape == (2, 3)
    path.write_bytes(zip_of({"good.npy": npy(GOOD), "bad.npy": LYING[case]}))
    with pytest.raises(FormatError, match="array 'bad'"):
        load_weights(path)


def test_bomb(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as writer:
        for name in "abc":
            header = GOOD.replace("(2, 3)", f"({40 << 18},)")
            writer.writestr(f"{name}.npy", npy(header, bytes(40 << 20)))
    tracemalloc.start()
    with pytest.raises(FormatError, match="would take 80 MiB of memory"):
        load_weights(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20


def test_key_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", w=np.ones(3))
    with pytest.raises(FormatError, match="key='w' names no part"):
        load_weights(tmp_path / "weights.npz", key="w")
