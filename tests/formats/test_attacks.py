"""Hostile and broken torch files: each is a FormatError, runs nothing and takes little memory."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.formats.crafted import (
    SIX,
    Raw,
    archive,
    assemble,
    call,
    instance,
    legacy,
    named,
    pickled,
    storage,
    tensor,
    zip_of,
)
from vledge.errors import FormatError, LimitError
from vledge.formats import load_weights, read_checkpoint

GOLDEN = Path(__file__).parent.parent / "golden" / "formats"
MEMORY_LIMIT = 100 << 20


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Write the bytes to a file and load it, watching the memory that takes."""

    def loaded(content: bytes, key: str | None = None) -> dict[str, np.ndarray]:
        path = tmp_path / "model.pt"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            return load_weights(path, key)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < MEMORY_LIMIT, f"{peak:,} bytes"

    return loaded


def test_the_file_that_the_attacks_begin_from_is_good(load: Callable) -> None:
    (array,) = load(archive({"w": tensor()})).values()
    np.testing.assert_array_equal(array, np.arange(6, dtype="f4").reshape(2, 3))
    (array,) = load(legacy({"w": tensor(rest=(None,))}, {"0": (6, SIX)})).values()
    np.testing.assert_array_equal(array, np.arange(6, dtype="f4").reshape(2, 3))


# --- pickles that want something run -------------------------------------------------------------

WITNESS = "vledge_attack_ran"
COMMAND = assemble(f"touch {WITNESS}")
EXECUTIONS = {
    "REDUCE": call("os", "system", f"touch {WITNESS}"),
    "REDUCE posix": call("posix", "system", f"touch {WITNESS}"),
    "REDUCE eval": call("builtins", "eval", f"open('{WITNESS}', 'w')"),
    "REDUCE exec, Python 2": call("__builtin__", "execfile", WITNESS),
    "REDUCE runpy": call("runpy", "_run_code", f"open('{WITNESS}', 'w')", {}),
    "STACK_GLOBAL": Raw(assemble("os") + assemble("system") + b"\x93(" + COMMAND + b"tR"),
    "NEWOBJ": Raw(named("subprocess", "Popen") + b"(" + COMMAND + b"t\x81"),
    "NEWOBJ_EX": Raw(named("subprocess", "Popen") + b"(" + COMMAND + b"t}\x92"),
    "INST": Raw(b"(" + COMMAND + b"ios\nsystem\n"),
    "OBJ": Raw(b"(" + named("os", "system") + COMMAND + b"o"),
    "EXT1": Raw(b"\x82\x01(" + COMMAND + b"tR"),
    "EXT2": Raw(b"\x83\x01\x00(" + COMMAND + b"tR"),
    "EXT4": Raw(b"\x84\x01\x00\x00\x00(" + COMMAND + b"tR"),
    "BUILD": Raw(named("os", "environ") + b"}(" + COMMAND + COMMAND + b"ub"),
    "POP": Raw(call("os", "system", f"touch {WITNESS}") + b"0N"),
}


@pytest.mark.parametrize("attack", EXECUTIONS)
@pytest.mark.parametrize("beside_weights", [False, True])
@pytest.mark.parametrize("layout", ["archive", "legacy"])
def test_what_would_run_code_is_refused_and_not_run(
    attack: str,
    beside_weights: bool,
    layout: str,
    load: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    value = {"w": tensor(), "x": EXECUTIONS[attack]} if beside_weights else EXECUTIONS[attack]
    content = archive(value) if layout == "archive" else legacy(value, {"0": (6, SIX)})
    with pytest.raises(FormatError, match=r"model\.pt: "):
        load(content)
    assert not (tmp_path / WITNESS).exists()


def test_the_refusal_names_what_was_named(load: Callable) -> None:
    with pytest.raises(FormatError, match=r"'os\.system'.*nothing was run"):
        load(archive({"w": tensor(), "x": EXECUTIONS["REDUCE"]}))


def test_unknown_objects_are_left_out_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    junk = instance("argparse", "Namespace", {"hidden": 3})
    path.write_bytes(archive({"state": {"w": tensor()}, "args": junk, "lr": call("a.b", "c", 1)}))
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.weights) == ["w"]
    assert checkpoint.key == "state"
    assert checkpoint.elsewhere == {
        "args": "an object of argparse.Namespace",
        "lr": "an object of a.b.c",
    }


def test_importing_is_not_needed_and_not_done(
    load: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive({"w": tensor(), "x": instance("no_such_package.module", "Class", {})})
    with pytest.warns(UserWarning, match=r"no_such_package\.module\.Class"):
        assert list(load(content)) == ["w"]


# --- pickles that want to exhaust or confuse -----------------------------------------------------

MALFORMED = {
    "empty": b"",
    "no STOP": b"\x80\x02N",
    "values left over": b"\x80\x02NN.",
    "a mark left over": b"\x80\x02(N.",
    "nothing on the stack": b"\x80\x02.",
    "below the mark": b"\x80\x02N(a.",
    "no mark": b"\x80\x02Nt.",
    "protocol 99": b"\x80\x63N.",
    "unknown opcode": b"\x80\x02\xff.",
    "PERSID": b"\x80\x02P0\n.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "recall of nothing": b"\x80\x02h\x05.",
    "SETITEM on a list": b"\x80\x02]NNs.",
    "SETITEMS, odd": b"\x80\x02}(NNNu.",
    "SETITEM on a string": b"\x80\x02U\x01xNNs.",
    "APPEND to a dict": b"\x80\x02}Na.",
    "APPEND to a tuple": b"\x80\x02)Na.",
    "BUILD on a dict": b"\x80\x02}}b.",
    "REDUCE without a tuple": b"\x80\x02cx\ny\nNR.",
    "STACK_GLOBAL of numbers": b"\x80\x04K\x01K\x02\x93.",
    "string of 4 GiB": b"\x80\x02X\xff\xff\xff\xff.",
    "string of 16 EiB": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "bytes of 16 EiB": b"\x80\x05\x96" + b"\xff" * 8 + b".",
    "integer of 2 GiB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "integer of 1000 bytes": b"\x80\x02\x8b\xe8\x03\x00\x00" + b"\x01" * 1000 + b".",
    "decimal of 10,000 digits": b"\x80\x02L" + b"9" * 10_000 + b"L\n.",
    "decimal that is none": b"\x80\x02I0x10\n.",
    "no UTF-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "name without an end": b"\x80\x02c" + b"x" * 1000,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_pickle(case: str, load: Callable) -> None:
    with pytest.raises(FormatError, match="pickle"):
        load(archive(MALFORMED[case]))


# Against limits of a tenth, as each opcode takes its time; tests/attacks is at the real ones.
EXHAUSTING = {
    "many opcodes": b"\x80\x02" + b"N0" * 250_000 + b"N.",
    "many dicts": b"\x80\x02" + b"}0" * 190_000 + b"N.",
    "many memo slots": b"\x80\x04N" + b"\x94" * 200_000 + b".",
    "deep tuples": b"\x80\x02N" + b"\x85" * 90_000 + b".",
    "deep lists": b"\x80\x02" + b"]" * 40_000 + b"a" * 39_999 + b".",
    "deep dicts": b"\x80\x02" + b"}N" * 30_000 + b"}" + b"s" * 30_000 + b".",
    "deep marks": b"\x80\x02" + b"(" * 90_000 + b"t" * 90_000 + b".",
    "deep calls": b"\x80\x02cx\ny\n" + b")R" * 40_000 + b".",
    "deep keys": b"\x80\x02}N" + b"\x85" * 50_000 + b"Ns.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a dict in itself": b"\x80\x02}q\x00(X\x01\x00\x00\x00ah\x00u.",
    "an object as its own state": b"\x80\x02cx\ny\n)\x81q\x00h\x00b.",
    "an object as its own key": b"\x80\x02}q\x00h\x00Ns.",
    "doubling tuples": b"\x80\x02Nq\x00" + b"0h\x00h\x00\x86q\x00" * 200 + b".",
    "doubling lists": b"\x80\x02]q\x00" + b"0](h\x00h\x00eq\x00" * 60 + b".",
    "colliding keys": b"\x80\x02}("
    + b"".join(bytes(assemble(i * (2**61 - 1))) + b"N" for i in range(50_000))
    + b"u.",
}


@pytest.mark.parametrize("case", EXHAUSTING)
def test_exhausting_pickle_is_bounded(
    case: str, load: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLEDGE_LIMITS", "memory=7MB steps=300000")
    with pytest.raises(FormatError):
        load(archive(EXHAUSTING[case]))


def test_modules_that_contain_themselves_or_double_are_bounded(
    load: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLEDGE_LIMITS", "steps=100000")
    empty: dict[str, object] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    head = named("m", "M") + b")\x81q\x00" + assemble({"_parameters": {"w": tensor()}})[:-1]
    looped = head + assemble("_buffers") + b"}" + assemble("_modules")
    looped += b"}" + assemble("a") + b"h\x00s" + b"ub"
    with pytest.raises(FormatError, match="nested more than"):
        load(archive(Raw(looped)))
    leaf = instance("m", "M", empty | {"_parameters": {"w": tensor()}})
    doubled = bytes(leaf) + b"q\x00"
    for _ in range(40):
        state = assemble({"_parameters": {}, "_buffers": {}})[:-1] + assemble("_modules")
        children = b"}(" + assemble("a") + b"h\x00" + assemble("b") + b"h\x00u"
        doubled += b"0" + named("m", "M") + b")\x81" + state + children + b"ubq\x00"
    with pytest.raises(LimitError, match="looking at the values"):
        load(archive(Raw(doubled)))


def test_names_cannot_grow_without_bound(load: Callable) -> None:
    with pytest.raises(FormatError, match="overlong"):
        load(archive({"n" * 2_000: tensor()}))
    with pytest.raises(FormatError, match="unprintable"):
        load(archive({"\x1b[2Jgotcha": tensor()}))


# --- tensors and storages that lie ---------------------------------------------------------------

LYING_TENSORS = {
    "negative stride": tensor(strides=(3, -1), offset=2),
    "negative size": tensor(shape=(-2, 3)),
    "negative offset": tensor(offset=-1),
    "overlapping strides": tensor(shape=(3, 3), strides=(1, 1)),
    "expanded": tensor(shape=(2, 3), strides=(0, 1)),
    "past the end": tensor(offset=1),
    "far past the end": tensor(shape=(2**40, 3), strides=(3, 1)),
    "sizes that overflow": tensor(shape=(2**32, 2**32), strides=(2**32, 1)),
    "strides that overflow": tensor(shape=(2, 3), strides=(2**63 + 3, 1)),
    "offset that overflows": tensor(offset=2**63),
    "empty, but huge": tensor(shape=(0, 2**62, 2**62), strides=(1, 1, 1)),
    "fewer strides": tensor(strides=(3,)),
    "no tuple": tensor(shape=[2, 3]),
    "no integers": tensor(shape=("2", 3)),
    "booleans": tensor(offset=True),
    "100 dimensions": tensor(shape=(1,) * 100, strides=(1,) * 100),
    "storage claims more": tensor(numel=7),
    "storage claims less": tensor(numel=5, shape=(5,), strides=(1,)),
    "storage claims 2**62": tensor(numel=2**62, shape=(2**50,), strides=(1,)),
    "negative storage": tensor(numel=-6),
    "storage is not there": tensor(key="1"),
    "storage of another name": tensor(key="../../0"),
    "storage of no class": tensor(kind="EvilStorage"),
    "storage of no torch": Raw(
        call(
            "torch._utils",
            "_rebuild_tensor_v2",
            Raw(assemble(("storage", named("x", "FloatStorage"), "0", "cpu", 6)) + b"Q"),
            0,
            (6,),
            (1,),
            False,
            None,
        )
    ),
    "no storage": call("torch._utils", "_rebuild_tensor_v2", 1, 0, (6,), (1,), False, None),
    "no arguments": call("torch._utils", "_rebuild_tensor_v2"),
    "unknown version": call("torch._utils", "_rebuild_tensor_v9", storage("0", 6)),
    "parameter of nothing": call("torch._utils", "_rebuild_parameter"),
    "reference to something else": call(
        "torch._utils",
        "_rebuild_tensor_v2",
        Raw(assemble(("module", 1)) + b"Q"),
        0,
        (6,),
        (1,),
        False,
        None,
    ),
    "bools of 2": tensor(kind="BoolStorage", numel=24, shape=(24,), strides=(1,)),
}


@pytest.mark.parametrize("case", LYING_TENSORS)
def test_lying_tensor(case: str, load: Callable) -> None:
    with pytest.raises(FormatError):
        load(archive({"good": tensor(), "bad": LYING_TENSORS[case]}, {"0": b"\x02" + SIX[1:]}))


def test_copies_of_one_storage_are_bounded(load: Callable) -> None:
    content = np.zeros(1 << 20, "<u2").tobytes()
    views = {
        f"w{i}": tensor(
            shape=(1 << 19,), strides=(1,), offset=i, numel=1 << 20, kind="BFloat16Storage"
        )
        for i in range(2_000)
    }
    with pytest.raises(LimitError, match=r"bfloat16 widened to float32 would take .* of memory"):
        load(archive(views, {"0": content}))


def test_wrapped_tensors_are_bounded(load: Callable) -> None:
    wrapped = tensor()
    for _ in range(2_000):
        wrapped = Raw(named("torch._utils", "_rebuild_parameter") + wrapped + b"\x85R")
    with pytest.raises(FormatError, match="inside more than"):
        load(archive({"w": wrapped}))


LYING_LEGACY = {
    "another number of elements": legacy({"w": tensor()}, {"0": (5, SIX)}),
    "a huge number of elements": legacy(
        {"w": tensor(numel=2**60, shape=(2**60,), strides=(1,))}, {"0": (2**60, SIX)}
    ),
    "a negative number": legacy({"w": tensor()}, {"0": (-6, SIX)}),
    "storage cut short": legacy({"w": tensor()}, {"0": (6, SIX[:-1])}),
    "no storage": legacy({"w": tensor()}, {}),
    "a storage too many": legacy({"w": tensor()}, {"0": (6, SIX), "1": (6, SIX)}),
    "a storage twice": legacy({"w": tensor()}, {"0": (6, SIX)}, keys=["0", "0"]),
    "keys that are no list": legacy({"w": tensor()}, {"0": (6, SIX)}, keys=3),
    "keys that are no text": legacy({"w": tensor()}, {"0": (6, SIX)}, keys=[3]),
    "two descriptions": legacy({"w": tensor(), "v": tensor(numel=7)}, {"0": (6, SIX)}),
    "a view outside": legacy({"w": tensor(rest=(("v", 3, 6),))}, {"0": (6, SIX)}),
    "a view of nonsense": legacy({"w": tensor(rest=("v",))}, {"0": (6, SIX)}),
    "another version": legacy({"w": tensor()}, {"0": (6, SIX)}).replace(
        pickled(1001), pickled(1002)
    ),
}


@pytest.mark.parametrize("case", LYING_LEGACY)
def test_lying_legacy_file(case: str, load: Callable) -> None:
    with pytest.raises(FormatError):
        load(LYING_LEGACY[case])


def test_legacy_view_of_a_storage(load: Callable) -> None:
    viewed = tensor(shape=(3,), strides=(1,), rest=(("1", 3, 3),))
    (array,) = load(legacy({"w": viewed}, {"0": (6, SIX)})).values()
    np.testing.assert_array_equal(array, [3, 4, 5])


# --- zip archives that lie -----------------------------------------------------------------------

GOOD = archive({"w": tensor()}, byteorder=b"little")


def with_patch(old: bytes, new: bytes, occurrence: int = 0, content: bytes = GOOD) -> bytes:
    """The archive with one occurrence of ``old`` overwritten by as many bytes."""
    start = -1
    for _ in range(occurrence + 1):
        start = content.index(old, start + 1)
    return content[:start] + new + content[start + len(new) :]


def duplicated() -> bytes:
    target = io.BytesIO(GOOD)
    with zipfile.ZipFile(target, "a") as writer, pytest.warns(UserWarning, match="Duplicate"):
        writer.writestr("model/data/0", SIX)
    return target.getvalue()


def bomb(size: int) -> bytes:
    """Honestly described, and harmless only because nobody inflates it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as writer:
        numel = size // 4
        described = tensor(shape=(numel,), strides=(1,), numel=numel)
        writer.writestr("model/data.pkl", pickled({"w": described}))
        with writer.open("model/data/0", "w", force_zip64=True) as member:
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
    return target.getvalue()


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
LYING_ARCHIVES = {
    "names differ": with_patch(b"model/data/0", b"model/data/1", 0),
    "names differ the other way": with_patch(b"model/data/0", b"model/data/1", 1),
    "damaged data": with_patch(SIX, b"\x01"),
    "damaged pickle": with_patch(b"torch._utils", b"torch._utilz"),
    "no magic in a local header": with_patch(LOCAL, b"PK\x03\x05", 1),
    "no magic in the directory": with_patch(CENTRAL, b"PK\x01\x03", 1),
    "flag: encrypted": GOOD.replace(LOCAL + b"\x14\x00\x00", LOCAL + b"\x14\x00\x01").replace(
        CENTRAL + b"\x14\x03\x14\x00\x00", CENTRAL + b"\x14\x03\x14\x00\x01"
    ),
    "flags differ": GOOD.replace(LOCAL + b"\x14\x00\x00", LOCAL + b"\x14\x00\x02"),
    "method differs": GOOD.replace(
        LOCAL + b"\x14\x00\x00\x00\x00", LOCAL + b"\x14\x00\x00\x00\x08"
    ),
    "bytes behind the end": GOOD + b"x",
    "bytes before the start": b"PK\x03\x04" + GOOD,
    "two ends": GOOD + GOOD[GOOD.index(END) :],
    "one member less": with_patch(END + b"\0\0\0\0\3\0\3", END + b"\0\0\0\0\2\0\2"),
    "one member more": with_patch(END + b"\0\0\0\0\3\0\3", END + b"\0\0\0\0\4\0\4"),
    "many members": with_patch(END + b"\0\0\0\0\3\0\3\0", END + b"\0\0\0\0\xff\xfe\xff\xfe"),
    "two disks": with_patch(END + b"\0\0", END + b"\1\0"),
    "a member twice": duplicated(),
    "climbing name": zip_of({"model/data.pkl": pickled({"w": tensor()}), "../evil": b""}),
    "absolute name": zip_of({"/model/data.pkl": pickled({"w": tensor()})}),
    "climbing inside": zip_of({"model/../model/data.pkl": pickled({"w": tensor()})}),
    "backslashes": zip_of({"model\\..\\data.pkl": pickled({"w": tensor()})}),
    "control characters": zip_of({"model/\x1b[2J": b"", "model/data.pkl": b"N."}),
    "wrong byte order": archive({"w": tensor()}, byteorder=b"middle"),
    "LZMA": zip_of({"model/data.pkl": pickled({"w": tensor()})}, zipfile.ZIP_LZMA),
    "no pickle": zip_of({"model/data/0": SIX}),
    "no members": zip_of({}),
    "a member as large as 4 GiB": GOOD.replace(struct.pack("<II", 24, 24), b"\xfe\xff\xff\xff" * 2),
    "pickle larger than is read": zip_of(
        {"model/data.pkl": b"\x80\x02N" + b"0N" * (33 << 20) + b"."}, zipfile.ZIP_DEFLATED
    ),
}


@pytest.mark.parametrize("case", LYING_ARCHIVES)
def test_lying_archive(case: str, load: Callable) -> None:
    assert LYING_ARCHIVES[case] != GOOD, "the patch did not change the file"
    with pytest.raises(FormatError):
        load(LYING_ARCHIVES[case])


def test_members_that_overlap(load: Callable) -> None:
    """Two directory entries for one run of bytes: a small file that would unpack to a large one."""
    members = {"model/data.pkl": pickled({"w": tensor()}), "model/data/0": SIX, "model/data/1": SIX}
    content = zip_of(members)
    first = content.index(LOCAL + b"\x14", content.index(SIX) - 60)
    second = content.index(b"model/data/1") - 30
    entry = content.rindex(CENTRAL)
    quoted = content[entry : entry + 42] + struct.pack("<I", first) + content[entry + 46 :]
    with pytest.raises(FormatError, match=r"two places"):
        load(content[:entry] + quoted)
    # … and with a local header of the same name inside the other member's data
    inner = content[second : second + 42] + SIX
    nested = zip_of({"model/data.pkl": pickled({"w": tensor()}), "model/data/0": inner})
    inside = nested.index(inner)
    end = nested.index(END)
    extra = (
        content[entry : entry + 42] + struct.pack("<I", inside) + content[entry + 46 : entry + 58]
    )
    size, offset = struct.unpack_from("<2I", nested, end + 12)
    tail = END + struct.pack("<4H2IH", 0, 0, 3, 3, size + len(extra), offset, 0)
    with pytest.raises(FormatError, match="overlap"):
        load(nested[:end] + extra + tail)


def test_zip_bomb_is_not_inflated(load: Callable) -> None:
    content = bomb(300 << 20)
    assert len(content) < 1 << 20
    with pytest.raises(FormatError, match="inflated, would take"):
        load(content)


def test_understated_size_is_noticed_while_inflating(load: Callable) -> None:
    content = bomb(40 << 20)
    claimed = content.replace(struct.pack("<I", 40 << 20), struct.pack("<I", 24))
    described = claimed.replace(struct.pack("<Q", 40 << 20), struct.pack("<Q", 24))
    with pytest.raises(FormatError):
        load(described)


def test_honest_compression_is_read(load: Callable) -> None:
    members = {"model/data.pkl": pickled({"w": tensor()}), "model/data/0": SIX}
    (array,) = load(zip_of(members, zipfile.ZIP_DEFLATED)).values()
    np.testing.assert_array_equal(array.ravel(), np.arange(6))


def test_files_repacked_by_other_tools_are_read(load: Callable) -> None:
    members = {"model/": b"", "model/data/": b"", "model/data.pkl": pickled({"w": tensor()})}
    assert list(load(zip_of(members | {"model/data/0": SIX}))) == ["w"]


# --- files cut short, and files of other kinds ---------------------------------------------------


@pytest.mark.parametrize(
    "file", [path.name for path in sorted(GOLDEN.iterdir()) if path.suffix not in (".py", "")]
)
def test_truncated_file(file: str, tmp_path: Path) -> None:
    content = (GOLDEN / file).read_bytes()
    path = tmp_path / file
    step = max(1, len(content) // 150)
    for length in [*range(0, len(content), step), *range(len(content) - 40, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(FormatError, match=file):
            load_weights(path)


OTHER_FILES = {
    "empty": (b"", "empty"),
    "tar": (b"storages".ljust(257, b"\0") + b"ustar\x0000".ljust(300, b"\0"), "tar file"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(100), r"\.npy"),
    "bare pickle": (pickled({"w": [1.0]}), "bare pickle"),
    "ONNX": (
        b"\x08\x08\x12\x07pytorch\x1a\x052.13",
        r"ONNX.*InferenceSession",
    ),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "unknown format"),
    "text": (b"weights = [1, 2, 3]\n", "unknown format"),
    "one byte": (b"\x08", "unknown format"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_file_of_another_kind_is_named_and_the_known_ones_listed(kind: str, tmp_path: Path) -> None:
    content, message = OTHER_FILES[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        load_weights(path)
    assert str(path) in str(caught.value)
    if content:
        for known in ("torch.save", "TorchScript", "safetensors", ".npz", ".pt2"):
            assert known in str(caught.value)


def test_missing_file_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "nowhere.pt")
