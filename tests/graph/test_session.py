"""InferenceSession as its user meets it: names, types, shapes, errors, threads."""

import threading

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node, onnx, proto, session
from tests.graph.test_recurrent import UNSORTED, make_inputs, make_model
from tests.peers import peer

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def doubled(**named):
    return session(
        [node("Add", ["x", "x"], ["y"], name="twice")],
        {"x": (onnx.TensorProto.FLOAT, ["batch", 3])},
        ["y"],
        **named,
    )


def test_inputs_and_outputs_are_described_as_onnxruntime_does():
    model = proto(
        [node("Add", ["x", "x"], ["y"]), node("Add", ["n", "n"], ["m"])],
        {"x": (onnx.TensorProto.FLOAT, ["batch", 3, None]), "n": (onnx.TensorProto.INT64, [])},
        ["y", "m"],
    )
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3, None])
    )
    model.graph.output[1].CopyFrom(
        onnx.helper.make_tensor_value_info("m", onnx.TensorProto.INT64, [])
    )
    ours = vledge.InferenceSession(model.SerializeToString())
    theirs = peer("onnxruntime").InferenceSession(model.SerializeToString())
    for kind in ("get_inputs", "get_outputs"):
        actual = [(i.name, i.type, i.shape) for i in getattr(ours, kind)()]
        assert actual == [(i.name, i.type, i.shape) for i in getattr(theirs, kind)()]
    assert ours.get_providers() == ["CPUExecutionProvider"]


def test_metadata():
    model = proto([node("Add", ["x", "x"], ["y"])], {"x": X}, ["y"], producer_name="maker")
    onnx.helper.set_model_props(model, {"labels": "a,b"})
    meta = vledge.InferenceSession(model.SerializeToString()).get_modelmeta()
    assert meta.producer_name == "maker"
    assert meta.custom_metadata_map == {"labels": "a,b"}
    assert meta.opset_imports == {"": 17}


def test_outputs_by_name_and_order():
    both = session(
        [node("Add", ["x", "x"], ["y"]), node("Mul", ["x", "x"], ["z"])], {"x": X}, ["y", "z"]
    )
    y, z = both.run(None, {"x": X})
    np.testing.assert_array_equal(y, X + X)
    np.testing.assert_array_equal(z, X * X)
    z, y = both.run(["z", "y"], {"x": X})
    np.testing.assert_array_equal(z, X * X)
    np.testing.assert_array_equal(y, X + X)
    with pytest.raises(ValueError, match=r"no output named 'w': there are \['y', 'z'\]"):
        both.run(["w"], {"x": X})


@pytest.mark.parametrize(
    ("feed", "match"),
    [
        ({}, r"Required inputs \(\['x'\]\) are missing from input feed \(\[\]\)"),
        ({"z": X}, r"Required inputs \(\['x'\]\) are missing from input feed \(\['z'\]\)"),
        ({"x": X, "z": X}, r"the model has no input named 'z': there are \['x'\]"),
        ({"x": X.astype("f8")}, r"'x' has the dtype float64, expected tensor\(float\)"),
        ({"x": X[0]}, r"'x' has the shape \(3,\), expected 2 axes: \[batch, 3\]"),
        ({"x": X[:, :2]}, r"'x' has the shape \(2, 2\), expected 3 on axis 1: \[batch, 3\]"),
    ],
)
def test_inputs_that_are_not_as_declared(feed, match):
    with pytest.raises(ValueError, match=match):
        doubled().run(None, feed)


def test_inputs_in_other_forms():
    expected = X + X
    swapped = X.astype(X.dtype.newbyteorder())
    for x in (X.tolist(), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], swapped):
        (y,) = doubled().run(None, {"x": x})
        np.testing.assert_array_equal(y, expected)
        assert y.dtype == np.float32


def test_arguments():
    with pytest.raises(ValueError, match="fallback must be"):
        doubled(options={"fallback": "onnxruntime"})
    with pytest.raises(ValueError, match="empty_state must be"):
        doubled(options={"empty_state": "one"})
    options = {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    np.testing.assert_array_equal(doubled(options=options).run(None, {"x": X})[0], X + X)
    with pytest.raises(FileNotFoundError):
        vledge.InferenceSession("/nowhere/model.onnx")


def test_results_are_the_caller_s():
    """Outputs that are an input, a constant, or views of one array, may all be written to."""
    constant = np.ones(3, np.float32)
    passing = session(
        [
            node("Identity", ["x"], ["same"]),
            node("Identity", ["c"], ["constant"]),
            node("Add", ["x", "x"], ["sum"]),
            node("Identity", ["sum"], ["again"]),
        ],
        {"x": X},
        ["same", "constant", "sum", "again"],
        {"c": constant},
    )
    x = X.copy()
    first = passing.run(None, {"x": x})
    for array in first:
        array += 100
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(first[3], X + X + 100)
    for actual, expected in zip(
        passing.run(None, {"x": x}), (X, constant, X + X, X + X), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_all_operators_that_cannot_run_are_told_at_load():
    nodes = [
        node("Add", ["x", "x"], ["a"]),
        node("Frobnicate", ["a"], ["b"], name="first", domain="example"),
        node("Add", ["b", "x"], ["c"]),
        node("TfIdfVectorizer", ["c"], ["y"], name="second", mode="TF"),
        node("Frobnicate", ["x"], ["unused"], name="dead", domain="example"),
    ]
    with pytest.raises(vledge.UnsupportedError) as caught:
        session(nodes, {"x": X}, ["y"], domains=["example"])
    text = str(caught.value)
    assert "node 'first' (example.Frobnicate): the operator is not supported" in text
    assert "node 'second' (TfIdfVectorizer): the operator is not supported" in text
    assert "dead" not in text


def test_unsupported_attribute_is_told_at_load():
    with pytest.raises(vledge.UnsupportedError, match=r"node 'n' \(Add\): attribute axis=1 is not"):
        session([node("Add", ["x", "x"], ["y"], name="n", axis=1)], {"x": X}, ["y"])


def test_opsets():
    with pytest.raises(vledge.UnsupportedError, match=r"operator set 99; the newest .* is 28"):
        doubled(opset=99)
    with pytest.raises(vledge.UnsupportedError, match=r"operator set 6.*onnx\.version_converter"):
        doubled(opset=6)
    with pytest.raises(vledge.FormatError, match=r"node 'n'.*imports no operator set 'other'"):
        session([node("Add", ["x", "x"], ["y"], name="n", domain="other")], {"x": X}, ["y"])


def test_a_run_that_fails_names_the_node():
    adding = session(
        [node("Add", ["a", "a"], ["c"]), node("Add", ["c", "b"], ["y"], name="sum")],
        {"a": X, "b": X},
        ["y"],
    )
    with pytest.raises(ValueError, match=r"node 'sum' \(Add\): .*broadcast"):
        adding.run(None, {"a": X, "b": X.T.copy()})


def test_initializers_that_an_input_may_replace():
    model = proto(
        [node("Add", ["x", "offset"], ["y"])],
        {"x": X, "offset": np.zeros(3, np.float32)},
        ["y"],
        {"offset": np.ones(3, np.float32)},
    )
    replaceable = vledge.InferenceSession(model.SerializeToString())
    assert [info.name for info in replaceable.get_inputs()] == ["x"]
    assert [info.name for info in replaceable.get_overridable_initializers()] == ["offset"]
    two = np.full(3, 2, np.float32)
    np.testing.assert_array_equal(replaceable.run(None, {"x": X})[0], X + 1)
    np.testing.assert_array_equal(replaceable.run(None, {"offset": two, "x": X})[0], X + 2)
    np.testing.assert_array_equal(replaceable.run(None, {"x": X, "offset": 2 * two})[0], X + 4)
    np.testing.assert_array_equal(replaceable.run(None, {"x": X})[0], X + 1)
    model.ir_version = 3  # when every initializer had to be among the inputs
    fixed = vledge.InferenceSession(model.SerializeToString())
    assert fixed.get_overridable_initializers() == []
    with pytest.raises(ValueError, match="no input named 'offset'"):
        fixed.run(None, {"x": X, "offset": two})


def test_fallback_runs_what_we_have_not():
    nodes = [
        node("Add", ["x", "x"], ["a"]),
        node("TfIdfVectorizer", ["ids"], ["b"], mode="TF", min_gram_length=1, max_gram_length=1,
             max_skip_count=0, ngram_counts=[0], ngram_indexes=[0, 1], pool_int64s=[7, 8]),
        node("Add", ["a", "b"], ["y"]),
    ]  # fmt: skip
    x, ids = np.zeros(2, np.float32), np.array([7, 8, 7])
    model = model_bytes(nodes, {"x": x, "ids": ids}, ["y"])
    with pytest.raises(vledge.UnsupportedError, match="TfIdfVectorizer"):
        vledge.InferenceSession(model)
    running = vledge.InferenceSession(model, fallback="reference")
    np.testing.assert_array_equal(running.run(None, {"x": x, "ids": ids})[0], [2, 1])
    unknown = [node("Frobnicate", ["x"], ["y"], name="n", domain="example")]
    with pytest.raises(vledge.UnsupportedError, match="neither vledge nor onnx's reference"):
        session(unknown, {"x": x}, ["y"], domains=["example"], options={"fallback": "reference"})


def test_fallback_may_be_ones_own():
    nodes = [node("Frobnicate", ["x"], ["y"], name="n", domain="example", by=3.0)]
    given = []

    def frobnicate(unknown, opset):
        given.append((unknown.op_type, opset))
        if unknown.op_type != "Frobnicate":
            raise vledge.UnsupportedError(f"{unknown}: no such thing")
        return lambda x: x * np.float32(unknown.attributes["by"])

    options = {"fallback": frobnicate}
    own = session(nodes, {"x": X}, ["y"], domains=["example"], options=options)
    np.testing.assert_array_equal(own.run(None, {"x": X})[0], 3 * X)
    assert ("Frobnicate", 1) in given
    other = [node("Blur", ["x"], ["y"], name="n", domain="example")]
    with pytest.raises(vledge.UnsupportedError, match="no such thing"):
        session(other, {"x": X}, ["y"], domains=["example"], options=options)


def test_threads_share_a_session():
    models = []
    for op_type in ("LSTM", "GRU"):
        inputs = make_inputs(op_type, "bidirectional", states=True, lengths=UNSORTED)
        attributes = {"direction": "bidirectional"}
        if op_type == "GRU":
            attributes["clip"] = 0.5  # the generic path
        model, feed = make_model(op_type, inputs, attributes)
        running = vledge.InferenceSession(model)
        feeds = [{**feed, "X": feed["X"] * scale} for scale in np.linspace(0.5, 1, 4, dtype="f4")]
        models.append((running, feeds, [running.run(None, f) for f in feeds]))
    problems = []

    def work(offset):
        try:
            for i in range(40):
                running, feeds, expected = models[i % 2]
                which = (i + offset) % len(feeds)
                for ours, theirs in zip(
                    running.run(None, feeds[which]), expected[which], strict=True
                ):
                    np.testing.assert_array_equal(ours, theirs)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


@pytest.mark.parametrize(("producer", "before", "warns"), [
    ("pytorch", 0, True), ("pytorch", 1, False), ("tf2onnx", 0, False),
])  # fmt: skip
def test_warns_of_the_grus_that_an_exporter_wrote_wrongly(producer, before, warns, recwarn):
    inputs = make_inputs("GRU")
    model, _ = make_model("GRU", inputs, {"linear_before_reset": before})
    written = onnx.load_from_string(model)
    written.producer_name, written.producer_version = producer, "2.10.0"
    vledge.InferenceSession(written.SerializeToString())
    messages = [str(w.message) for w in recwarn if w.category is vledge.ModelWarning]
    assert len(messages) == warns
    if warns:
        assert "node 'rnn' (GRU) has linear_before_reset=0" in messages[0]
        assert "torch 2.10.0" in messages[0]
