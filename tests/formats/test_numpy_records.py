"""NumPy's arrays in torch.save files, of every protocol and of NumPy 1 and 2; and forged ones."""

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.crafted import Raw, archive, assemble, call, named, pickled
from tests.peers import peer
from vledge.errors import FormatError
from vledge.formats import load_weights, read_checkpoint
from vledge.formats.torch.numpy_records import _NAMES, StoredArray, as_array
from vledge.formats.torch.pickle_records import Call, Global

DTYPES = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]
RNG = np.random.default_rng(11)


def arrays() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for code in DTYPES:
        for order in "<>":
            raw = RNG.integers(0, 2 if code == "b1" else 100, (3, 5))
            made[f"{order}{code}"] = raw.astype(np.dtype(code).newbyteorder(order))
    whole = RNG.standard_normal((4, 5, 6))
    made |= {
        "fortran": np.asfortranarray(whole),
        "permuted": whole.transpose(1, 2, 0),
        "permuted float32": whole.astype("f4").transpose(2, 0, 1),
        "stepped": whole[::2, :, ::3],
        "backwards": whole[::-1],
        "read only": whole.copy(),
        "no axes": np.array(3.5, "f4"),
        "empty": np.zeros((3, 0, 2), "f4"),
        "scalar": np.float32(1.25),
        "whole scalar": np.int64(-3),
        "true": np.bool_(True),
        "large": RNG.standard_normal((40, 50)),
    }
    made["read only"].flags.writeable = False
    return made


def assert_same(weights: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    assert list(weights) == list(expected)
    for name, array in expected.items():
        array = np.asarray(array)
        assert weights[name].dtype == array.dtype.newbyteorder("="), name
        assert weights[name].shape == array.shape, name
        np.testing.assert_array_equal(weights[name], array, err_msg=name)
        assert weights[name].flags.aligned
        assert not weights[name].flags.writeable


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_every_protocol_dtype_and_layout(protocol: int, core: str, tmp_path: Path) -> None:
    expected = arrays()
    data = pickle.dumps(expected, protocol)
    ours = np.float32.__reduce__(np.float32(0))[0].__module__.rpartition(".")[0]  # type: ignore
    if protocol < 4:
        data = data.replace(f"c{ours}.".encode(), f"c{core}.".encode())
    elif core != ours:
        for module in ("multiarray", "numeric"):
            old, new = (f"{name}.{module}".encode() for name in (ours, core))
            data = data.replace(
                b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new
            )
    (tmp_path / "a.pt").write_bytes(archive(data))
    assert_same(load_weights(tmp_path / "a.pt"), expected)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_as_torch_saves_them(legacy: bool, protocol: int, tmp_path: Path) -> None:
    torch = peer("torch")
    expected = arrays()
    torch.save(
        expected,
        tmp_path / "a.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not legacy,
    )
    assert_same(load_weights(tmp_path / "a.pt"), expected)
    mixed = {"array": np.ones((2, 3), "f4"), "tensor": torch.zeros(2, 3)}
    torch.save(mixed, tmp_path / "a.pt", pickle_protocol=protocol)
    assert list(load_weights(tmp_path / "a.pt")) == ["array", "tensor"]


def test_a_model_saved_as_arrays_runs(tmp_path: Path) -> None:
    torch = peer("torch")
    from vledge import nn

    layer = torch.nn.LSTM(3, 4)
    state = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    torch.save({"epoch": 3, "model": state, "mean": np.float64(0.5)}, tmp_path / "a.pt")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        expected = layer(x)[0].numpy()
    made = nn.LSTM.from_weights(load_weights(tmp_path / "a.pt"))
    np.testing.assert_allclose(made(x.numpy())[0], expected, atol=2e-6)


def test_arrays_beside_a_state_dict_are_not_taken_for_the_weights(tmp_path: Path) -> None:
    torch = peer("torch")
    value = {
        "state": {"w": torch.ones(2)},
        "data": {"mean": np.ones(3), "std": np.ones(3)},
        "rng": np.random.default_rng(0).bit_generator.state,
        "objects": np.array([None, {}], object),
        "names": np.array(["a", "b"]),
        "table": np.zeros(2, [("a", "f4"), ("b", "i4")]),
        "when": np.zeros(2, "M8[s]"),
        "matrix": np.ma.array([1.0]),
    }
    torch.save(value, tmp_path / "a.pt")
    result = read_checkpoint(tmp_path / "a.pt")
    assert list(result.weights) == ["w"]
    assert result.elsewhere["data"] == "2 arrays"
    assert list(load_weights(tmp_path / "a.pt", key="data")) == ["mean", "std"]


def test_what_are_no_numbers_is_left_out_and_reported(tmp_path: Path) -> None:
    value = {
        "w": np.ones(2, "f4"),
        "objects": np.array([None, {}], object),
        "names": np.array(["a", "b"]),
        "table": np.zeros(2, [("a", "f4"), ("b", "i4")]),
        "when": np.zeros(2, "M8[s]"),
        "long": np.zeros(2, np.longdouble),
        "void": np.void(b"abc"),
    }
    for protocol in (2, 5):
        (tmp_path / "a.pt").write_bytes(archive(pickle.dumps(value, protocol)))
        result = read_checkpoint(tmp_path / "a.pt")
        assert list(result.weights) == ["w"]
        assert set(result.skipped) == set(value) - {"w"}
        assert "no plain numbers" in result.skipped["objects"]


def dtype(code: object = "f4", state: object = (3, "<", None, None, None, -1, -1, 0)) -> Raw:
    return Raw(call("numpy", "dtype", code, False, True) + assemble(state) + b"b")


def array(
    shape: object = (2, 3), kind: Raw | None = None, content: object = None, order: object = False
) -> Raw:
    content = call("_codecs", "encode", "\0" * 24, "latin1") if content is None else content
    made = call("numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), (0,), "b")
    return Raw(made + assemble((1, shape, kind or dtype(), order, content)) + b"b")


FORGED = {
    "too few bytes": (array((2, 4)), "does not make 24 bytes"),
    "too many bytes": (array((2, 2)), "does not make 24 bytes"),
    "a huge shape": (array((1 << 40, 1 << 40)), "does not make 24 bytes"),
    "nothing of a huge shape": (array((0, 1 << 62, 1 << 62)), "does not make|too large"),
    "a negative size": (array((-2, -3)), "no short tuple of sizes"),
    "a size that is none": (array((2, 3.0)), "no short tuple of sizes"),
    "too many axes": (array((1,) * 70), "no short tuple of sizes"),
    "text beyond latin-1": (
        array(content=call("_codecs", "encode", "€" * 24, "latin1")),
        "no bytes",
    ),
    "a bool that is none": (
        array((24,), dtype("b1"), call("_codecs", "encode", "\5" * 24, "latin1")),
        "neither 0 nor 1",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_arrays_are_refused(what: str, tmp_path: Path) -> None:
    forged, message = FORGED[what]
    (tmp_path / "a.pt").write_bytes(archive({"w": forged}))
    with pytest.raises(FormatError, match=message):
        load_weights(tmp_path / "a.pt")


ODD = {
    "another codec": array(content=call("_codecs", "encode", "0" * 48, "hex")),
    "a call for contents": array(content=call("builtins", "bytearray", 24)),
    "an object's dtype": array(kind=dtype("O8")),
    "a dtype of another function": array(kind=Raw(call("numpy", "float32"))),
    "a dtype without its state": array(kind=Raw(call("numpy", "dtype", "f4"))),
    "an odd byte order": array(kind=dtype("f4", (3, "?", None, None, None, -1, -1, 0))),
    "a subarray": array(kind=dtype("f4", (3, "<", (dtype(), (2,)), None, None, -1, -1, 0))),
    "no state": Raw(call("numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"))),
    "axes that are no permutation": Raw(
        call("numpy.core.numeric", "_frombuffer", "0" * 24, dtype(), (2, 3), "K", (0, 0))
    ),
    "axes twice": Raw(
        call("numpy.core.numeric", "_frombuffer", "0" * 24, dtype(), (2, 3), "K", (0, 1, 1))
    ),
    "axes that are true": Raw(
        call("numpy.core.numeric", "_frombuffer", "0" * 24, dtype(), (2, 3), "K", (False, True))
    ),
    "an unknown order": Raw(
        call("numpy.core.numeric", "_frombuffer", "0" * 24, dtype(), (2, 3), "X")
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_what_numpy_does_not_write_is_left_out(what: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(archive({"w": array(), "odd": ODD[what]}))
    result = read_checkpoint(tmp_path / "a.pt")
    assert list(result.weights) == ["w"]
    assert "odd" in result.skipped


def test_many_names_of_one_text_cost_little(tmp_path: Path) -> None:
    """One text of 4 MB under 10,000 names: each a view of it, or refused where each is a copy."""
    text = "\0" * (4 << 20)
    stored = call("_codecs", "encode", Raw(b"h\1"), "latin1")
    head = b"\x80\x02" + assemble(text) + b"q\x010"

    def file(kind: Raw, count: int) -> bytes:
        entries = {f"w{i}": array((1 << 20,), kind, stored) for i in range(count)}
        return archive(head + assemble(entries) + b".")

    (tmp_path / "a.pt").write_bytes(file(dtype(), 10_000))
    weights = load_weights(tmp_path / "a.pt")
    assert len({array.ctypes.data for array in weights.values()}) == 1
    swapped = dtype("f4", (3, ">", None, None, None, -1, -1, 0))
    (tmp_path / "b.pt").write_bytes(file(swapped, 1))
    assert load_weights(tmp_path / "b.pt")["w0"].shape == (1 << 20,)


def test_python_2_s_bytes(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3e7], "f4")
    for content in (values.tobytes(), b"\0\0\0\0\0\0\0@aaaa"):  # the second is UTF-8, too
        string = Raw(b"U" + bytes([len(content)]) + content)
        (tmp_path / "a.pt").write_bytes(archive(pickled({"w": array((3,), content=string)})))
        loaded = load_weights(tmp_path / "a.pt")["w"]
        np.testing.assert_array_equal(loaded, np.frombuffer(content, "<f4"))


DTYPE_STATE = (3, "<", None, None, None, -1, -1, 0)


def made(name: str, arguments: object, state: object) -> Call:
    record = Call(Global(name), arguments if isinstance(arguments, tuple) else (arguments,))
    record.state = state
    return record


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
        st.binary(max_size=24),
        st.sampled_from(["f4", "<", ">", "C", "F", "K", (2, 3), (0, 1), b"\0" * 24]),
        st.just(Global("numpy.ndarray")),
        st.just(Global("numpy.dtype")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(tuple),
        st.lists(inner, max_size=3),
        st.builds(made, st.sampled_from([*_NAMES, "numpy.dtype", "_codecs.encode"]), inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(name=st.sampled_from([*_NAMES]), arguments=st.lists(VALUES, max_size=5), state=VALUES)
def test_any_record_is_an_array_or_a_reason_or_refused(
    name: str, arguments: list[object], state: object
) -> None:
    for own in (state, (1, (2, 3), made("numpy.dtype", ("f4",), DTYPE_STATE), False, state)):
        with contextlib.suppress(FormatError):
            found = as_array(made(name, tuple(arguments), own))
            assert isinstance(found, (StoredArray, str))
