"""ONNX files as data: every type of tensor, broken files, and attacks by external data."""

import hashlib
import os
import re
import warnings

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge.formats.onnx.model import read, read_proto

onnx = peer("onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def info(name, type_=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, type_, shape)


def adding(tensor=None, **fields):
    """``y = x + w``."""
    tensor = tensor or onnx.numpy_helper.from_array(X, "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], name="sum")]
    graph = helper.make_graph(nodes, "graph", [info("x")], [info("y")], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **fields)


def tensor_of(model):
    return read(model.SerializeToString()).graph.initializers["w"]


TYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64"


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("dtype", [*TYPES.split(), "complex128"])
def test_tensors_of_every_type(dtype, raw, shape):
    rng = np.random.default_rng(0)
    array = np.asarray(rng.integers(-100, 100, shape)).astype(dtype)
    number = helper.np_dtype_to_tensor_dtype(array.dtype)
    data = array.tobytes() if raw else array.ravel()
    tensor = helper.make_tensor("w", number, shape, data, raw=raw)
    actual = tensor_of(adding(tensor))
    assert actual.dtype == array.dtype
    np.testing.assert_array_equal(actual, array)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_bfloat16_is_widened(raw):
    values = np.array([1.0, -2.5, np.inf, 3.140625], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    tensor = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[4])
    if raw:
        tensor.raw_data = bits.tobytes()
    else:
        tensor.int32_data.extend(bits.tolist())
    actual = tensor_of(adding(tensor))
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, values)


def test_strings_and_bytes_that_are_true():
    words = helper.make_tensor("w", TensorProto.STRING, [2], ["ä".encode(), b"b"])
    assert tensor_of(adding(words)).tolist() == ["ä", "b"]
    truths = helper.make_tensor("w", TensorProto.BOOL, [3], b"\x00\x01\xff", raw=True)
    assert tensor_of(adding(truths)).tolist() == [False, True, True]


def test_attributes_of_every_kind():
    given = {
        "f": 0.5, "i": -3, "s": "text", "fs": [0.5, 1.5], "is": [1, 2], "ss": ["a", "b"],
        "t": onnx.numpy_helper.from_array(X), "ts": [onnx.numpy_helper.from_array(X)] * 2,
    }  # fmt: skip
    model = adding()
    model.graph.node[0].attribute.extend(helper.make_attribute(k, v) for k, v in given.items())
    (node,) = read(model.SerializeToString()).graph.nodes
    for key in ("f", "i", "s", "fs", "is", "ss"):
        assert node.attributes[key] == given[key]
    np.testing.assert_array_equal(node.attributes["t"], X)
    np.testing.assert_array_equal(node.attributes["ts"][1], X)


def test_functions_are_inlined():
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = adding()
    model.graph.node[0].CopyFrom(helper.make_node("Twice", ["x"], ["y"], domain="local"))
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("local", 1))
    (result,) = vledge.InferenceSession(model.SerializeToString()).run(None, {"x": X})
    np.testing.assert_array_equal(result, X + X)


def broken(change):
    model = adding()
    change(model)
    return model.SerializeToString()


def second_node(*arguments, **attributes):
    def change(model):
        model.graph.node.append(helper.make_node(*arguments, **attributes))

    return change


def tensor_change(**fields):
    def change(model):
        for name, value in fields.items():
            setattr(model.graph.initializer[0], name, value)

    return change


BROKEN = {
    "an unknown input": (second_node("Neg", ["q"], ["z"], name="n"), r"node 'n' \(Neg\).*'q'"),
    "a node that needs its own output": (
        second_node("Add", ["z", "y"], ["z"], name="n"),
        r"node 'n' \(Add\): it needs its own output",
    ),
    "a name made twice": (second_node("Neg", ["x"], ["y"], name="n"), "'y' has been made before"),
    "an output that nobody makes": (
        lambda model: model.graph.output.append(info("nothing")),
        "no node makes its output 'nothing'",
    ),
    "two inputs of one name": (
        lambda model: model.graph.input.append(info("x")),
        "two inputs named 'x'",
    ),
    "two initializers of one name": (
        lambda model: model.graph.initializer.append(model.graph.initializer[0]),
        "two initializers named 'w'",
    ),
    "no graph": (lambda model: model.ClearField("graph"), "it has no graph"),
    "a negative size": (lambda model: model.graph.initializer[0].dims.append(-1), "its shape is"),
    "too few bytes": (tensor_change(raw_data=bytes(23)), "23 bytes, its shape .* needs 24"),
    "a size beyond everything": (
        lambda model: model.graph.initializer[0].dims.extend([1 << 40, 1 << 40]),
        "initializer 'w': its shape .* is too large",
    ),
    "an unknown element type": (tensor_change(data_type=99), "element type 99 is not one"),
    "two operator sets": (
        lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 11)),
        "imported twice",
    ),
    "an attribute twice": (second_node("Neg", ["x"], ["z"], name="n"), "given twice"),
    "a reference outside of a function": (
        second_node("Neg", ["x"], ["z"], name="n"), "outside of a function",
    ),
    "text that is not UTF-8": (second_node("Neg", ["x"], ["z"], s=b"\xff"), "not UTF-8"),
    "an attribute of no type": (second_node("Neg", ["x"], ["z"], name="n"), "unknown type"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_models(case):
    change, match = BROKEN[case]
    model = onnx.load_from_string(broken(change))
    node = model.graph.node[-1] if model.graph.node else None
    if case == "an attribute twice":
        node.attribute.extend([helper.make_attribute("alpha", 1.0)] * 2)
    elif case == "a reference outside of a function":
        node.attribute.append(onnx.AttributeProto(name="alpha", type=1, ref_attr_name="alpha"))
    elif case == "an attribute of no type":
        node.attribute.append(onnx.AttributeProto(name="alpha"))
    with pytest.raises(vledge.FormatError, match=match):
        vledge.InferenceSession(model.SerializeToString())


def test_graphs_nested_without_end():
    model = adding()
    graph = model.graph
    for _ in range(60):
        node = graph.node.add(op_type="If", input=["x"])
        graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    with pytest.raises(vledge.FormatError, match="nested deeper than 32 graphs"):
        read_proto(model)
    with pytest.raises(vledge.FormatError, match="not an ONNX model"):  # protobuf's own limit
        read(model.SerializeToString())


def test_files_that_are_none(tmp_path):
    whole = adding().SerializeToString()
    for data in (b"", b"\x08", b"not a model at all", whole[: len(whole) // 2], bytes(1000)):
        (tmp_path / "model.onnx").write_bytes(data)
        with pytest.raises(vledge.FormatError, match=r"model\.onnx: not an ONNX model"):
            vledge.InferenceSession(tmp_path / "model.onnx")


def test_cut_and_changed_files_never_surprise():
    """Whatever bytes do, the error is one of ours; most changes only change numbers."""
    from tests.graph.test_recurrent import make_inputs, make_model

    whole, _ = make_model("GRU", make_inputs("GRU"), {})
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(400):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: rng.integers(len(data))]
        else:
            start = 0 if trial % 4 < 3 else len(data) - 200  # messages are at the ends
            for place in start + rng.integers(200, size=3):
                data[place] = rng.integers(256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                vledge.InferenceSession(bytes(data))
        except (vledge.FormatError, vledge.UnsupportedError):
            refused += 1
    assert 100 < refused < 400


UNSUPPORTED = {
    "float8": (tensor_change(data_type=TensorProto.FLOAT8E4M3FN), "'w'.*float8e4m3fn"),
    "int4": (tensor_change(data_type=TensorProto.INT4), "'w'.*int4"),
    "training_info": (lambda model: model.training_info.add(), "training_info"),
    "a sparse initializer": (
        lambda model: model.graph.sparse_initializer.add().values.MergeFrom(
            onnx.numpy_helper.from_array(X, "sparse")
        ),
        "sparse initializer 'sparse'",
    ),
    "a map as input": (
        lambda model: model.graph.input.append(
            helper.make_value_info(
                "dict",
                helper.make_map_type_proto(
                    TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
                ),
            )
        ),
        "'dict' is of the type map",
    ),
    "a sequence of maps as input": (
        lambda model: model.graph.input.append(
            helper.make_value_info(
                "list",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(
                        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
                    )
                ),
            )
        ),
        "'list' is of the type sequence",
    ),
    "a sequence of numbers below a byte": (
        lambda model: model.graph.input.append(
            helper.make_tensor_sequence_value_info("list", TensorProto.INT4, None)
        ),
        r"'list' is of the type seq\(tensor\(int4\)\)",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_valid_but_not_read(case):
    change, match = UNSUPPORTED[case]
    with pytest.raises(vledge.UnsupportedError, match=match):
        vledge.InferenceSession(broken(change))


# ---- external data


def external(folder, location="weights.bin", offset=None, length=None, content=None, **more):
    """Write a model whose w lies in another file; the path of the model."""
    model = adding()
    tensor = model.graph.initializer[0]
    data = content if content is not None else tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length, **more}
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    folder.mkdir(parents=True, exist_ok=True)
    if "/" not in location and location not in ("", ".", "..") and "\0" not in location:
        (folder / location).write_bytes(data)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def loaded(path):
    return vledge.InferenceSession(path).run(None, {"x": X})[0]


def test_external_data(tmp_path):
    np.testing.assert_array_equal(loaded(external(tmp_path / "plain")), X + X)
    behind = external(tmp_path / "behind", offset=100, length=24, content=bytes(100) + X.tobytes())
    np.testing.assert_array_equal(loaded(behind), X + X)
    sha1 = hashlib.sha1(X.tobytes()).hexdigest()
    np.testing.assert_array_equal(loaded(external(tmp_path / "sum", checksum=sha1)), X + X)
    path = external(tmp_path / "deep", location="sub/w.bin")
    (tmp_path / "deep" / "sub").mkdir()
    (tmp_path / "deep" / "sub" / "w.bin").write_bytes(X.tobytes())
    np.testing.assert_array_equal(loaded(path), X + X)


def test_external_data_that_onnx_writes(tmp_path):
    onnx.save(
        adding(), tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0,
        location="all.data",
    )  # fmt: skip
    np.testing.assert_array_equal(loaded(tmp_path / "model.onnx"), X + X)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offset": 1}, "24 bytes from 1, lie outside of 'weights.bin', which has 24 bytes"),
        ({"offset": 1 << 62}, "lie outside"),
        ({"length": 23}, "are 23 bytes, its shape needs 24"),
        ({"offset": -1}, "offset of its external data is '-1', not a number"),
        ({"offset": "0x10"}, "not a number"),
        ({"length": "9" * 40}, "not a number"),
        ({"content": b""}, "lie outside"),
        ({"checksum": "0" * 40}, "SHA-1 checksum of 'weights.bin'"),
    ],
)
def test_sizes_of_external_data(tmp_path, changes, match):
    with pytest.raises(vledge.FormatError, match=f"initializer 'w': .*{match}"):
        loaded(external(tmp_path, **changes))


SECRET = X.tobytes()


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "sub/../../secret.bin",
        "{outside}/secret.bin",
        "",
        ".",
        "..",
        "a\\b",
        "a\0b",
    ],
)
def test_external_data_outside_of_the_folder(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(SECRET)
    location = location.replace("{outside}", str(tmp_path))
    with pytest.raises(vledge.FormatError, match="initializer 'w': its data are"):
        loaded(external(tmp_path / "model", location=location))


def test_external_data_behind_links(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.bin").write_bytes(SECRET)
    path = external(tmp_path / "model", location="link.bin")
    (tmp_path / "model" / "link.bin").unlink()
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "outside" / "secret.bin")
    with pytest.raises(vledge.FormatError, match=r"'link\.bin', which is or lies behind a link"):
        loaded(path)
    path = external(tmp_path / "model", location="folder/secret.bin")
    (tmp_path / "model" / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(vledge.FormatError, match="lies behind a link"):
        loaded(path)


@pytest.mark.parametrize("folder", ["0123abcd", "0123abcd/onnx"])
def test_external_data_in_hugging_faces_cache(tmp_path, folder):
    """There the model and its data are links to blobs of the same repository."""
    cache = tmp_path / "models--a--b"
    path = external(cache / "snapshots" / folder)
    (cache / "blobs").mkdir()
    for number, file in enumerate(sorted(path.parent.iterdir())):
        file.rename(cache / "blobs" / f"hash{number}")
        file.symlink_to(cache / "blobs" / f"hash{number}")
    np.testing.assert_array_equal(loaded(path), X + X)
    (data,) = (file for file in path.parent.iterdir() if file != path)
    (cache / "elsewhere").write_bytes(data.read_bytes())
    data.unlink()
    data.symlink_to(cache / "elsewhere")
    with pytest.raises(vledge.FormatError, match="is or lies behind a link"):
        loaded(path)


def test_a_model_s_own_folder_may_be_a_link(tmp_path):
    external(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    np.testing.assert_array_equal(loaded(tmp_path / "link" / "model.onnx"), X + X)


def test_external_data_of_another_kind(tmp_path):
    path = external(tmp_path, location="folder.bin")
    (tmp_path / "folder.bin").unlink()
    (tmp_path / "folder.bin").mkdir()
    with pytest.raises(vledge.FormatError, match="not a regular file"):
        loaded(path)
    path = external(tmp_path, location="pipe.bin")
    (tmp_path / "pipe.bin").unlink()
    os.mkfifo(tmp_path / "pipe.bin")
    with pytest.raises(vledge.FormatError, match="not a regular file"):
        loaded(path)  # and does not wait for someone to write
    path = external(tmp_path, location="missing.bin")
    (tmp_path / "missing.bin").unlink()
    with pytest.raises(vledge.FormatError, match=r"'missing\.bin', which cannot be opened"):
        loaded(path)


def test_external_data_of_a_model_in_memory(tmp_path):
    with pytest.raises(vledge.FormatError, match="a model given as bytes cannot have"):
        vledge.InferenceSession(external(tmp_path).read_bytes())


@pytest.mark.parametrize(
    ("word", "where"),
    [("XINPUT", "a graph"), ("WEIGHT", "a graph"), ("GRAPHNAME", "a graph"), ("ZOUT", "a graph"),
     ("YVALUE", "node 'NODENAME' (MatMul)"), ("NODENAME", r"node b'\xeeODENAME' (MatMul)"),
     ("MatMul", r"node 'NODENAME' (b'\xeeatMul')"), ("axis", "the Softmax node that makes 'ZOUT'"),
     ("SYMBOL", "the shape of 'XINPUT'"), ("some.domain", "the list of operator sets")],
)  # fmt: skip
def test_names_that_are_not_utf8(word, where):
    """protobuf gives them as bytes, which no dictionary of names finds again."""
    data = named_all_over().replace(word.encode(), b"\xee" + word.encode()[1:])
    with pytest.raises(
        vledge.FormatError, match=re.escape(f"{where} has a name that is not UTF-8 text")
    ):
        read(data)


def test_texts_about_the_model_may_be_of_another_encoding():
    words = ("PRODUCER", "VERSION", "DOMAIN", "DOCUMENTATION", "KEY", "PROPERTY")
    data = named_all_over()
    for word in words:
        data = data.replace(word.encode(), b"\xee" + word.encode()[1:])
    model = read(data)
    said = [model.producer_name, model.producer_version, model.domain, model.doc_string]
    for own in model.metadata.items():
        said += own
    assert said == [rf"\xee{word[1:]}" for word in words]


def named_all_over():
    weight = onnx.numpy_helper.from_array(np.ones((3, 3), np.float32), "WEIGHT")
    nodes = [
        helper.make_node("MatMul", ["XINPUT", "WEIGHT"], ["YVALUE"], name="NODENAME"),
        helper.make_node("Softmax", ["YVALUE"], ["ZOUT"], axis=0),
    ]
    x = helper.make_tensor_value_info("XINPUT", onnx.TensorProto.FLOAT, ["SYMBOL", 3])
    z = helper.make_tensor_value_info("ZOUT", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "GRAPHNAME", [x], [z], [weight])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("some.domain", 1)]
    about = {
        "producer_name": "PRODUCER",
        "producer_version": "VERSION",
        "domain": "DOMAIN",
        "doc_string": "DOCUMENTATION",
    }
    model = helper.make_model(graph, opset_imports=opsets, **about)
    helper.set_model_props(model, {"KEY": "PROPERTY"})
    return model.SerializeToString()
