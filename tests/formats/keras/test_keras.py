"""Keras' files: committed ones against what Keras held, and hostile ones; wants h5py, not Keras."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.keras.make import FILES
from tests.peers import peer
from vledge.errors import FormatError
from vledge.formats import load_weights, read_checkpoint

h5py: Any = peer("h5py")

GOLDEN = Path(__file__).parents[2] / "golden" / "keras"
MEMORY_LIMIT = 100 << 20
THREE = np.arange(3, dtype="f4")


def expected_weights() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "expected.npz") as arrays:
        return {n.removeprefix("weight."): arrays[n] for n in arrays if n.startswith("weight.")}


@pytest.mark.parametrize("file", FILES)
def test_every_variable_is_there_with_its_bits(file: str) -> None:
    weights = load_weights(GOLDEN / file)
    for path, expected in expected_weights().items():
        same = [name for name, array in weights.items() if np.array_equal(array, expected)]
        assert len(same) == 1, path
        if file == "model.h5":  # Keras 2's layout has the variables' names
            assert same[0].endswith(f"/{path}")
        assert weights[same[0]].dtype == expected.dtype
        assert weights[same[0]].flags.aligned
        assert not weights[same[0]].flags.writeable


def test_names_are_paths_in_the_file() -> None:
    assert "layers/bidirectional/forward_layer/cell/vars/0" in load_weights(GOLDEN / FILES[0])
    assert "layers/bidirectional/forward_layer/cell/vars/0" in load_weights(GOLDEN / FILES[1])
    assert "both/both/forward_lstm/lstm_cell/kernel" in load_weights(GOLDEN / FILES[2])


@pytest.mark.parametrize(
    ("file", "format"), [*zip(FILES, ("Keras archive", "HDF5", "HDF5"), strict=True)]
)
def test_format_is_told_by_bytes_whatever_the_name(file: str, format: str, tmp_path: Path) -> None:
    renamed = tmp_path / "weights.pt"
    renamed.write_bytes((GOLDEN / file).read_bytes())
    assert read_checkpoint(renamed).format.startswith(format)


def test_arrays_are_views_of_the_mapped_file() -> None:
    for name, array in load_weights(GOLDEN / "model.weights.h5").items():
        assert not array.flags.owndata, name


def test_a_file_has_one_part() -> None:
    with pytest.raises(FormatError, match="names no part"):
        load_weights(GOLDEN / "model.keras", key="layers")


def test_without_h5py_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['h5py'] = None; import vledge\n"
        f"try: vledge.load_weights({str(GOLDEN / 'model.keras')!r})\n"
        "except vledge.MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'vledge[keras]'" in done.stdout


# --- files made by hand --------------------------------------------------------------------------


@pytest.fixture
def load(tmp_path: Path) -> Callable[[bytes], dict[str, np.ndarray]]:
    """Write the bytes to a file and load it, watching the memory that takes."""

    def loaded(content: bytes) -> dict[str, np.ndarray]:
        path = tmp_path / "model.h5"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            return load_weights(path)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < MEMORY_LIMIT, f"{peak:,} bytes"

    return loaded


def hdf5(fill: Callable[[Any], object]) -> bytes:
    """An HDF5 file with a good dataset ``w``, and whatever ``fill`` adds."""
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        file["w"] = THREE
        fill(file)
    return target.getvalue()


def keras(**members: bytes) -> bytes:
    """A ``.keras`` archive; ``config`` and ``weights`` are good ones if not given."""
    good = {"config": b"{}", "weights": hdf5(lambda file: None)} | members
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", good["config"])
        archive.writestr("model.weights.h5", good["weights"])
    return target.getvalue()


def test_the_files_that_the_attacks_begin_from_are_good(load: Callable) -> None:
    for content in (hdf5(lambda file: None), keras()):
        assert list(load(content)) == ["w"]
        np.testing.assert_array_equal(load(content)["w"], THREE)


def test_values_of_every_dtype(load: Callable) -> None:
    bits = np.array([0x3FC0, 0xC000], np.uint16)
    arrays = {
        f"{kind}{order}": np.array([1, 0, 2]).astype(f"{order}{kind}")
        for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "c8", "c16")
        for order in "<>"
    }
    arrays |= {"bool": np.array([True, False]), "scalar": np.float32(2.5), "none": np.empty((0, 3))}

    def fill(file: Any) -> None:
        for name, array in arrays.items():
            file[name] = array
        file.create_dataset("bfloat16", data=bits.view("V2")).attrs["dtype"] = "bfloat16"

    weights = load(hdf5(fill))
    for name, array in arrays.items():
        assert weights[name].dtype == np.asarray(array).dtype.newbyteorder("="), name
        np.testing.assert_array_equal(weights[name], array, name)
    np.testing.assert_array_equal(weights["bfloat16"], np.float32([1.5, -2.0]))


def test_what_is_no_number_is_left_out_by_name(load: Callable) -> None:
    def fill(file: Any) -> None:
        file["text"] = "abc"
        file["opaque"] = np.zeros(2, "V2")
        file["record"] = np.zeros(2, [("a", "f4")])
        file["nothing"] = h5py.Empty("f4")

    with pytest.warns(UserWarning, match=r"'nothing'.*'opaque'.*'record'.*'text'"):
        assert list(load(hdf5(fill))) == ["w"]


def test_an_optimizers_state_is_no_weight(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(hdf5(lambda file: file.create_dataset("optimizer/vars/0", data=THREE)))
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.weights) == ["w"]
    assert checkpoint.elsewhere == {"optimizer": "the state of an optimizer"}


def external_storage(file: Any) -> None:
    external = [("/etc/passwd", 0, 12)]
    file.create_dataset("stolen", (3,), "f4", external=external)


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "w", (3,))
    file.create_virtual_dataset("virtual", layout)


def loop(file: Any) -> None:
    file.create_group("a/b")
    file["a/b/up"] = file["a"]


def twice(file: Any) -> None:
    file["again"] = file["w"]


def links(kind: str) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        file["link"] = getattr(h5py, kind)(*(("/w",) if kind == "SoftLink" else ("other.h5", "/w")))

    return fill


ATTACKS: dict[str, tuple[Callable[[Any], object], str]] = {
    "external link": (links("ExternalLink"), "'link' is no part of the file but a ExternalLink"),
    "soft link": (links("SoftLink"), "'link' is no part of the file but a SoftLink"),
    "external storage": (external_storage, "'stolen': its data lie in other files"),
    "virtual dataset": (virtual, "'virtual': its data lie in other files"),
    "a group in itself": (loop, "linked in two places"),
    "a dataset by two names": (twice, "linked in two places"),
    "a shape of a terabyte": (
        lambda file: file.create_dataset("huge", (1 << 38,), "f4"),
        "'huge': shape .* which the file does not hold",
    ),
    "a shape beyond 64 bits": (
        lambda file: file.create_dataset("huge", (1 << 31, 1 << 31, 0, 1 << 31), "f4"),
        "'huge': shape .* too large",
    ),
    "compressed zeros": (
        lambda file: file.create_dataset("bomb", data=np.zeros(1 << 22, "f4"), compression="gzip"),
        "'bomb': it is stored in chunks",
    ),
    "chunks never written": (
        lambda file: file.create_dataset("huge", (1 << 38,), "f4", chunks=(1 << 20,)),
        "'huge': it is stored in chunks",
    ),
    "a committed type": (
        lambda file: file.__setitem__("type", np.dtype("f4")),
        "'type' is neither a group nor a dataset",
    ),
    "groups without end": (
        lambda file: file.create_group("/".join("g" * 80)),
        "groups deeper than 64",
    ),
    "a name that cannot be shown": (
        lambda file: file.create_dataset("\x1b[2J", data=THREE),
        "unprintable or overlong name",
    ),
    "a config that is no JSON": (
        lambda file: file.attrs.__setitem__("model_config", "{"),
        "no JSON",
    ),
    "a config that is a list": (
        lambda file: file.attrs.__setitem__("model_config", "[]"),
        "no object",
    ),
    "a config without end": (
        lambda file: file.attrs.__setitem__("model_config", "[" * 30_000),
        "no JSON",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(attack: str, load: Callable) -> None:
    fill, message = ATTACKS[attack]
    with pytest.raises(FormatError, match=rf"model\.h5: .*{message}"):
        load(hdf5(fill))
    if "config" not in attack:
        with pytest.raises(FormatError, match=rf"model\.h5: model\.weights\.h5: .*{message}"):
            load(keras(weights=hdf5(fill)))


def test_a_shape_that_grew_in_the_file(load: Callable) -> None:
    content = hdf5(lambda file: file.create_dataset("v", data=np.zeros((7, 1, 5), "f4")))
    for size in (8, 1 << 30, 1 << 62):
        patched = content.replace(struct.pack("<3Q", 7, 1, 5), struct.pack("<3Q", size, 1, 5))
        assert patched != content
        with pytest.raises(FormatError, match=r"model\.h5: "):
            load(patched)


def test_a_string_that_says_it_is_gigabytes(load: Callable) -> None:
    """The library would reserve what the length says; the string is cut out of the file instead."""
    text = "the text of a model"
    content = hdf5(lambda file: file.attrs.__setitem__("model_config", text))
    at = content.index(struct.pack("<I", len(text)), content.index(b"model_config"))
    patched = content[:at] + struct.pack("<I", 0xFFFFFFF0) + content[at + 4 :]
    with pytest.raises(FormatError, match=r"group '/': .* bytes at 0, of 19"):
        load(patched)


def test_datasets_may_not_share_their_bytes(load: Callable) -> None:
    """A small file whose misaligned arrays, most of the file each, would be copied many times."""
    many = 40

    def fill(file: Any) -> None:
        file["odd"] = np.zeros(1, "u1")
        for i in range(many):
            file[f"v{i}"] = np.full(5_000, i, "f4")

    content = bytearray(hdf5(fill))
    with h5py.File(io.BytesIO(bytes(content))) as file:
        offsets = [file[f"v{i}"].id.get_offset() for i in range(many)]
    for offset in offsets[1:]:  # every layout message points at the first one's bytes
        at = content.index(struct.pack("<2Q", offset, 20_000))
        content[at : at + 8] = struct.pack("<Q", offsets[0])
    del content[offsets[1] + 20_000 :]
    eof = content.index(struct.pack("<Q", offsets[-1] + 20_000))
    content[eof : eof + 8] = struct.pack("<Q", len(content))
    with pytest.raises(FormatError):
        load(bytes(content))


def test_zip_bomb_is_not_inflated(load: Callable) -> None:
    with pytest.raises(FormatError, match="inflated, would take"):
        load(keras(weights=hdf5_file_magic() + bytes(300 << 20)))


def hdf5_file_magic() -> bytes:
    return hdf5(lambda file: None)[:8]


def test_a_config_larger_than_is_read(load: Callable) -> None:
    with pytest.raises(FormatError, match="description would take"):
        load(keras(config=b"[" + b"0," * (9 << 20) + b"0]"))


@pytest.mark.parametrize("file", FILES)
def test_truncated_file(file: str, tmp_path: Path) -> None:
    content = (GOLDEN / file).read_bytes()
    path = tmp_path / file
    for length in [*range(8, len(content), len(content) // 60), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(FormatError, match=file):
            load_weights(path)


def test_damaged_files_are_errors_or_arrays(tmp_path: Path) -> None:
    """Bytes changed at random where the structure lies; in a process of its own, as HDF5 is C."""
    code = f"""
import random, sys, warnings
import vledge
warnings.simplefilter("ignore")
content = open({str(GOLDEN / "model.weights.h5")!r}, "rb").read()
refused = 0
for seed in range(300):
    generator = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(generator.choice((1, 4, 16))):
        value = generator.choice((0, 1, 255, generator.randrange(256)))
        damaged[generator.randrange(len(damaged))] = value
    open({str(tmp_path / "model.h5")!r}, "wb").write(damaged)
    try:
        vledge.load_weights({str(tmp_path / "model.h5")!r})
    except vledge.FormatError:
        refused += 1
print(refused)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
