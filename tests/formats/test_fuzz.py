"""Valid files with bytes changed at random: arrays or a FormatError, and nothing else, ever."""

import contextlib
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.crafted import archive, legacy, tensor
from tests.fuzz.mutators import without_checksums
from vledge.budget import Budget
from vledge.errors import FormatError
from vledge.formats import load_weights
from vledge.formats.torch.pickle_records import PickleReader

GOLDEN = Path(__file__).parent.parent / "golden" / "formats"
FILES = {
    path.name: path.read_bytes()
    for path in sorted(GOLDEN.iterdir())
    if path.suffix not in (".py", "") and path.name != "expected.npz"
}
SIX = np.arange(6, dtype="<f4").tobytes()
# No checksum stands between these and the readers: what is changed in them is interpreted.
FILES["unchecked archive"] = archive({"w": tensor(), "v": [tensor(), {"a": 1.5}]})
FILES["unchecked legacy"] = legacy({"w": tensor(rest=(None,))}, {"0": (6, SIX)})
ARRAYS = {"w": np.ones((2, 3), "f4"), "v": np.arange(6.0).reshape(2, 3).T, "s": np.float64(2)}
FILES |= {f"unchecked arrays, protocol {n}": archive(pickle.dumps(ARRAYS, n)) for n in (2, 4, 5)}

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def load_or_refuse(path: Path) -> dict[str, np.ndarray] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return load_weights(path)
        except FormatError:
            return None


edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.binary(min_size=1, max_size=9),
            st.sampled_from([b"\xff" * 4, b"\xff" * 8, bytes(4), b"\x80", b"(", b".", b"R", b"q"]),
        ),
        st.sampled_from(["overwrite", "insert", "delete"]),
    ),
    min_size=1,
    max_size=6,
)


def edited(content: bytes, changes: list[tuple[float, bytes, str]]) -> bytes:
    for where, piece, how in changes:
        at = int(where * len(content))
        taken = 0 if how == "insert" else len(piece)
        put = b"" if how == "delete" else piece
        content = content[:at] + put + content[at + taken :]
    return content


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("checked", [True, False])
@EXAMPLES
@given(changes=edits)
def test_changed_file(
    file: str, checked: bool, changes: list[tuple[float, bytes, str]], tmp_path: Path
) -> None:
    content = edited(FILES[file], changes)
    path = tmp_path / "model"
    path.write_bytes(content if checked else without_checksums(content))
    weights = load_or_refuse(path)
    for name, array in (weights or {}).items():
        assert isinstance(name, str)
        assert isinstance(array, np.ndarray)
        assert array.dtype.isnative
        np.array(array)  # every element can be read
    if weights is not None and file.endswith(".safetensors"):
        safetensors.deserialize(path.read_bytes())  # takes it, too


@pytest.mark.parametrize("file", FILES)
@EXAMPLES
@given(where=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_one_changed_byte_of_the_data_changes_no_shape(
    file: str, where: float, value: int, tmp_path: Path
) -> None:
    content = bytearray(FILES[file])
    path = tmp_path / "model"
    path.write_bytes(content)
    shapes = {name: array.shape for name, array in (load_or_refuse(path) or {}).items()}
    assert shapes
    content[int(where * len(content))] = value
    path.write_bytes(content)
    weights = load_or_refuse(path)
    if weights is not None and file.endswith((".npz", ".pt", ".pt2")) and file != "legacy.pt":
        assert {name: array.shape for name, array in weights.items()} == shapes


@EXAMPLES
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_as_a_pickle(content: bytes) -> None:
    with contextlib.suppress(FormatError):
        PickleReader(b"\x80\x02" + content, Budget(len(content))).read()


OPCODES = [bytes([code]) for code in range(256)]


@EXAMPLES
@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from(OPCODES),
            st.sampled_from(
                [b"X\x01\x00\x00\x00a", b"ctorch\nSize\n", b"K\x02", b"h\x00", b"q\x00"]
            ),
        ),
        max_size=60,
    )
)
def test_arbitrary_opcodes_as_a_checkpoint(pieces: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(archive(b"\x80\x02" + b"".join(pieces) + b"."))
    load_or_refuse(path)
