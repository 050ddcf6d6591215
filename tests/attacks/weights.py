"""Weight files and other small files that ask for much: pickles, archives, headers, states."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vledge
from tests.attacks.measured import Attack
from tests.formats.crafted import MAGIC, assemble, legacy, pickled, storage, tensor, zip_of

__all__ = ["ATTACKS"]


def text(value: str) -> bytes:
    return bytes(assemble(value))


def loaded(path: Path) -> Any:
    warnings.simplefilter("ignore")
    return sum(array.nbytes for array in vledge.load_weights(path).values())


def written(content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content()), None)[1]


def archive(body: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    members = {"model/data.pkl": b"\x80\x02" + body + b".", "model/data/0": bytes(24)}
    return zip_of(members, method)


# ---- pickles


def references(count: int) -> bytes:
    """A list of so many references to one tensor."""
    return archive(bytes(tensor()) + b"q\x010](" + b"h\x01" * count + b"e")


def dicts(count: int) -> bytes:
    return archive(b"}NNs" * count)


def ordered_dicts(pairs: int, times: int) -> bytes:
    shared = b"](" + b"".join(text(f"k{i}") + b"N\x86" for i in range(pairs)) + b"e\x85q\x01"
    return archive(shared + b"0ccollections\nOrderedDict\nq\x020](" + b"h\x02h\x01R" * times + b"e")


def rebuilt(extra: bytes, times: int) -> bytes:
    """Tensors that share what stands beside each."""
    arguments = b"(" + bytes(storage("0", 6)) + b"K\x00K\x06\x85K\x01\x85\x89N" + extra + b"tq\x01"
    function = b"ctorch._utils\n_rebuild_tensor_v2\nq\x02"
    entries = b"".join(text(f"w{i}") + b"h\x02h\x01R" for i in range(times))
    return archive(
        arguments + b"0" + function + b"0}(" + text("good") + bytes(tensor()) + entries + b"u"
    )


def huge_extra(entries: int, times: int) -> bytes:
    extra = b"}(" + b"".join(text(f"{i:060d}") + b"K\x01" for i in range(entries)) + b"u"
    return rebuilt(extra, times)


def huge_tail(arguments: int, times: int) -> bytes:
    """Calls that share a tuple of far more arguments than a tensor has."""
    shared = b"(" + bytes(storage("0", 6)) + b"K\x00K\x06\x85K\x01\x85\x89N" + b"N" * arguments
    function = b"tq\x010ctorch._utils\n_rebuild_tensor_v2\nq\x02"
    entries = b"".join(text(f"w{i}") + b"h\x02h\x01R" for i in range(times))
    return archive(shared + function + b"0}(" + entries + b"u")


def huge_shapes(sizes: int, times: int) -> bytes:
    """Arrays of NumPy that share a shape of far more sizes than an array has."""
    dtype = assemble(("f4", 0, 1))
    made = (
        b"cnumpy\ndtype\n"
        + dtype
        + b"R"
        + bytes(assemble((3, "<", None, None, None, -1, -1, 0)))
        + b"bq\x010"
    )
    shape = b"(" + b"K\x01" * sizes + b"tq\x020"
    function = b"cnumpy.core.numeric\n_frombuffer\nq\x030"
    one = b"h\x03(" + text("") + b"h\x01h\x02" + text("C") + b"tR"
    entries = b"".join(text(f"w{i}") + one for i in range(times))
    return archive(made + shape + function + b"}(" + entries + b"u")


def left_out(buffers: int, names: int) -> bytes:
    """Buffers times a list of the names of those that are not saved."""
    left = b"cbuiltins\nset\n](" + text("zzzz") + b"q\x05" + b"h\x05" * names + b"e\x85R"
    entries = b"}(" + b"".join(text(f"k{i}") + b"K\x01" for i in range(buffers)) + b"u"
    state = b"}(" + text("_parameters") + b"}" + text("_modules") + b"}"
    state += text("_buffers") + entries + text("_non_persistent_buffers_set") + left + b"u"
    return archive(b"cm\nM\n)\x81" + state + b"b")


def modules_that_share_a_list(modules: int, names: int) -> bytes:
    left = b"cbuiltins\nset\n](" + b"".join(text(f"n{i}") for i in range(names)) + b"e\x85Rq\x050"
    state = b"}(" + text("_parameters") + b"}" + text("_modules") + b"}" + text("_buffers") + b"}("
    state += text("b") + bytes(tensor()) + b"u" + text("_non_persistent_buffers_set") + b"h\x05u"
    children = b"".join(text(f"m{i}") + b"cm\nM\n)\x81" + state + b"b" for i in range(modules))
    whole = b"cm\nM\n)\x81}(" + text("_parameters") + b"}" + text("_modules") + b"}("
    return archive(left + whole + children + b"uub")


def deep_names(width: int) -> bytes:
    """Many tensors of a module whose name is as long as names may be."""
    inner = b"}(" + b"".join(text(f"{i}") + b"h\x01" for i in range(width)) + b"u"
    state = b"}(" + text("_modules") + b"}" + text("_parameters") + inner + b"u"
    child = b"cm\nM\n)\x81" + state + b"b"
    outer = b"}(" + text("_parameters") + b"}" + text("_modules") + b"}"
    outer += text("n" * 980) + child + b"su"
    return archive(bytes(tensor()) + b"q\x010cm\nM\n)\x81" + outer + b"b")


def padded_legacy(megabytes: int) -> bytes:
    """Five pickles of opcodes that do nothing."""
    good = legacy({"w": tensor(rest=(None,))}, {"0": (6, bytes(24))})
    pad = b"N0" * (megabytes << 17)  # in each of four
    pickles = [pickled(value) for value in (MAGIC, 1001, {}, {"w": tensor(rest=(None,))}, ["0"])]
    assert good.startswith(pickles[0])
    padded = [pickles[0], *(one[:2] + pad + one[2:] for one in pickles[1:])]
    return b"".join(padded) + struct.pack("<q", 6) + bytes(24)


def long_global(size: int) -> bytes:
    return archive(b"c" + b"a" * size + b"\nb\n")


def numbers(count: int) -> bytes:
    return archive(b"](" + b"J\x40\x42\x0f\x00" * count + b"e")


def memo(count: int) -> bytes:
    members = {"model/data.pkl": b"\x80\x04N" + b"\x94" * count + b".", "model/data/0": bytes(24)}
    return zip_of(members, zipfile.ZIP_DEFLATED)


def inflating(size: int) -> bytes:
    """A pickle that is one text of zeros."""
    return archive(b"X" + struct.pack("<I", size) + bytes(size))


# ---- archives


def npz(members: int, method: int = zipfile.ZIP_STORED) -> bytes:
    array = io.BytesIO()
    np.save(array, np.ones(2, "f4"))
    return zip_of({f"a{i}.npy": array.getvalue() for i in range(members)}, method)


def npz_header(members: int) -> bytes:
    """Headers that are Python literals as large as may be: records of many fields."""
    fields = b",".join(b"('%d','f')" % i for i in range(700))
    header = b"{'descr':[" + fields + b"],'fortran_order':False,'shape':(0,)}"
    one = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    return zip_of({f"a{i}.npy": one for i in range(members)}, zipfile.ZIP_DEFLATED)


def npz_bomb(size: int) -> bytes:
    array = io.BytesIO()
    np.save(array, np.zeros(size, "u1"))
    return zip_of({"a.npy": array.getvalue()}, zipfile.ZIP_DEFLATED)


def members(count: int) -> bytes:
    return zip_of({f"m/{i}": b"" for i in range(count)} | {"m/data.pkl": pickled({})})


def pt2(entries: int, size: int, dtype: int, step: int) -> bytes:
    """Weights that are all views of one member, each at a place of its own."""
    meta = {"dtype": dtype, "strides": [{"as_int": 1}], "requires_grad": False}
    config = {
        f"w{i}": {
            "path_name": "weight_0",
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": meta
            | {"sizes": [{"as_int": size - entries}], "storage_offset": {"as_int": step * i}},
        }
        for i in range(entries)
    }
    names = {
        "m/archive_format": b"pt2",
        "m/data/weights/model_weights_config.json": json.dumps({"config": config}).encode(),
        "m/data/weights/weight_0": bytes(2 * size),
    }
    return zip_of(names)


# ---- JSON


def safetensors(header: bytes, content: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + content


def state(path: Path, batch: str) -> None:
    header = {
        "__metadata__": {"kind": "vledge stream state", "batch": batch},
        "h": {"dtype": "F32", "shape": [1, 1, 3], "data_offsets": [0, 12]},
    }
    path.write_bytes(safetensors(json.dumps(header).encode(), bytes(12)))


def stream(path: Path) -> Any:
    arrays = {"weight_ih_l0": np.zeros((512, 64), "f4"), "weight_hh_l0": np.zeros((512, 128), "f4")}
    return vledge.Stream.load(path, vledge.nn.LSTM.from_weights(arrays))


def described(path: Path) -> Any:
    """What `vledge convert` writes, or says it does."""
    return vledge.InferenceSession(path)


def vledge_model(text_: str) -> bytes:
    header = {
        "__metadata__": {"vledge.model": text_},
        "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    return safetensors(json.dumps(header).encode(), bytes(4))


def shards(path: Path) -> None:
    """An index of a thousand files, each of which may take what a file may."""
    path.write_text(json.dumps({"weight_map": {f"w{i}": f"s{i}.safetensors" for i in range(999)}}))
    entry = {"dtype": "BF16", "shape": [50_000], "data_offsets": [0, 100_000]}
    for i in range(999):
        inner = safetensors(json.dumps({f"w{i}": entry}).encode(), bytes(100_000))
        (path.parent / f"s{i}.safetensors").write_bytes(inner)


LISTS = b'{"__metadata__":{"a":"' + b"x" + b'"},"b":[' + b"[]," * 2_600_000 + b"[]]}"

# ---- reference bundles


def bundle_of(fields: dict[str, Any], names: Sequence[str]) -> bytes:
    """A bundle of one case with these outputs, of no elements."""
    described = {
        "version": 2, "cases": 1, "made_by": {}, "seed": None, "layers": [], "axes": {},
        "carry": {}, "exact_by": "", "loss": "", "spread": {}, **fields,
    }  # fmt: skip
    header: dict[str, Any] = {"__metadata__": {"vledge.reference": json.dumps(described)}}
    tensor = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header |= {f"0/output/{name}": tensor for name in names}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def layers_of_a_bundle(count: int) -> bytes:
    """As many outputs, of which all but one are said to be layers'."""
    names = [f"n{i}" for i in range(count)]
    return bundle_of({"layers": names[1:]}, names)


def nested_description() -> bytes:
    return bundle_of({"carry": {"a": [[]] * 2_000_000}}, ["y"])


def reference(path: Path) -> Any:
    from vledge.validation.reference import bundle

    return repr(bundle.read(path))


ATTACKS = {
    "a bundle of 30,000 layers": Attack(
        written(lambda: layers_of_a_bundle(30_000)), reference, "loads"
    ),
    "a bundle's description of 2 M lists": Attack(written(nested_description), reference, "memory"),
    "a list of 3 M references to one tensor": Attack(
        written(lambda: references(3_000_000)), loaded, "steps"
    ),
    "a list of 400,000 references to one tensor": Attack(
        written(lambda: references(400_000)), loaded, "memory"
    ),
    "1 M dicts": Attack(written(lambda: dicts(990_000)), loaded, "memory"),
    "150 OrderedDicts of one list of pairs": Attack(
        written(lambda: ordered_dicts(50_000, 150)), loaded, "no weights"
    ),
    "20,000 OrderedDicts of one list of pairs": Attack(
        written(lambda: ordered_dicts(20_000, 20_000)), loaded, "no weights"
    ),
    "1,000 tensors with one huge extra": Attack(
        written(lambda: huge_extra(30_000, 1_000)), loaded, "beside it"
    ),
    "300 tensors with one long text": Attack(
        written(lambda: rebuilt(b"}" + text("x" * 1_000_000) + b"\x88s", 300)), loaded, "loads"
    ),
    "1,000 calls of one tuple of 400,000": Attack(
        written(lambda: huge_tail(400_000, 1_000)), loaded, "no weights"
    ),
    "1,000 arrays of one shape of 400,000": Attack(
        written(lambda: huge_shapes(400_000, 1_000)), loaded, "short tuple"
    ),
    "3,000 buffers and 300,000 names that are not saved": Attack(
        written(lambda: left_out(3_000, 300_000)), loaded, "no weights"
    ),
    "2,000 modules with one list of 5,000 names": Attack(
        written(lambda: modules_that_share_a_list(2_000, 5_000)), loaded, "loads"
    ),
    "100,000 names of 980 characters": Attack(
        written(lambda: deep_names(100_000)), loaded, "memory"
    ),
    "a legacy file of 16 MB of padding": Attack(
        written(lambda: padded_legacy(16)), loaded, "steps"
    ),
    "a global's name of 60 MB": Attack(written(lambda: long_global(60_000_000)), loaded, "memory"),
    "a global's name of 1 MB": Attack(
        written(lambda: long_global(1_000_000)), loaded, "1,000,001 characters"
    ),
    "2 M numbers": Attack(written(lambda: numbers(2_000_000)), loaded, "memory"),
    "2 M memo entries": Attack(written(lambda: memo(2_000_000)), loaded, "memory"),
    "a pickle of 60 MB, deflated": Attack(written(lambda: inflating(60_000_000)), loaded, "memory"),
    "an npz of 50,000 members": Attack(written(lambda: npz(50_000)), loaded, "loads"),
    "an npz of 3,000 large headers": Attack(written(lambda: npz_header(3_000)), loaded, "steps"),
    "an npz of 60 MB of zeros, deflated": Attack(
        written(lambda: npz_bomb(60_000_000)), loaded, "loads"
    ),
    "an npz of 400 MB of zeros, deflated": Attack(
        written(lambda: npz_bomb(400_000_000)), loaded, "memory"
    ),
    "an archive of 190,000 empty members": Attack(
        written(lambda: members(190_000)), loaded, "no weights"
    ),
    "a pt2 of 1,000 bfloat16 on one member": Attack(
        written(lambda: pt2(1_000, 600_000, 13, 1)), loaded, "memory"
    ),
    "a pt2 of 1,000 tied bfloat16": Attack(
        written(lambda: pt2(1_000, 600_000, 13, 0)), loaded, "loads"
    ),
    "a safetensors header of 8 MB of lists": Attack(
        written(lambda: safetensors(LISTS)), loaded, "memory"
    ),
    "a safetensors header of 8 MB of names": Attack(
        written(
            lambda: safetensors(b"{" + b",".join(b'"%d":0' % i for i in range(700_000)) + b"}")
        ),
        loaded,
        "memory",
    ),
    "a stream's state of a million": Attack(lambda p: state(p, "1000000"), stream, "another model"),
    "a stream's state of 5,000 digits": Attack(lambda p: state(p, "9" * 5_000), stream, "state"),
    "a model's description of empty nodes": Attack(
        written(lambda: vledge_model('{"graph":{"nodes":[' + "{}," * 700_000 + "{}]}}")),
        described,
        "memory",
    ),
    "a model's description nested 100,000 deep": Attack(
        written(lambda: vledge_model("[" * 100_000)), described, "JSON"
    ),
    "999 files of weights, widened": Attack(shards, loaded, "loads"),
}
