"""Sequences of tensors and optional values: operators, sessions, and through Loop and If."""

import numpy as np
import pytest

import vledge
from tests.graph.models import helper, model_bytes, node, onnx, proto
from tests.peers import peer
from vledge.graph.session import read_model

FLOAT = onnx.TensorProto.FLOAT
X = np.arange(12, dtype=np.float32).reshape(3, 4)


def of_sequences(model, *names, optional=()):
    """The model's bytes, with these inputs and outputs declared sequences of floats."""
    for info in (*model.graph.input, *model.graph.output):
        if info.name in names:
            kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
            info.type.CopyFrom(kind)
        if info.name in optional:
            kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, None))
            info.type.CopyFrom(kind)
    return model.SerializeToString()


def both(data, feed):
    """What onnxruntime and a session here give."""
    ort = peer("onnxruntime")
    wanted = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feed)
    return vledge.InferenceSession(data).run(None, feed), wanted


def assert_same(ours, wanted):
    assert len(ours) == len(wanted)
    for left, right in zip(ours, wanted, strict=True):
        assert isinstance(left, list) == isinstance(right, list)
        if isinstance(left, list):
            assert_same(left, right)
        else:
            assert left.dtype == right.dtype
            np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


SPLITS = {
    "by one": ({}, None),
    "by one, axis gone": ({"keepdims": 0}, None),
    "by a one, axis gone": ({"axis": -1, "keepdims": 0}, np.array(1)),  # as torch's unbind
    "chunks": ({"axis": 1}, np.array(2)),
    "chunks that do not go up": ({"axis": 1}, np.array(3)),
    "chunks that are too large": ({"axis": -1}, np.array(9)),
    "sizes": ({"axis": 1}, np.array([1, 0, 3])),
    "sizes, keepdims unheeded": ({"axis": 0, "keepdims": 0}, np.array([1, 2])),
}


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "input"])
@pytest.mark.parametrize("case", SPLITS)
def test_split_to_sequence(case, constant):
    attributes, split = SPLITS[case]
    given = {} if split is None else {"split": split}
    nodes = [
        node("SplitToSequence", ["x", *given], ["parts"], **attributes),
        node("SequenceLength", ["parts"], ["count"]),
    ]
    known, feed = (given, {}) if constant else ({}, given)
    model = proto(nodes, {"x": X} | feed, ["parts", "count"], known)
    assert_same(*both(of_sequences(model, "parts"), {"x": X} | feed))


@pytest.mark.parametrize("position", [None, 0, 1, 3, -1, -3])
def test_insert_at_and_erase(position):
    given = {} if position is None else {"place": np.array(position)}
    nodes = [
        node("SequenceConstruct", ["x", "y", "x"], ["three"]),
        node("SequenceInsert", ["three", "z", *given], ["four"]),
        node("SequenceErase", ["four", *given], ["less"]),
        node("SequenceAt", ["four", "one"], ["second"]),
        node("ConcatFromSequence", ["four"], ["joined"], axis=-1),
        node("ConcatFromSequence", ["less"], ["stacked"], axis=1, new_axis=1),
    ]
    feed = {name: X + index for index, name in enumerate("xyz")}
    outputs = ["four", "less", "second", "joined", "stacked"]
    model = proto(nodes, feed, outputs, {"one": np.array(1), **given})
    assert_same(*both(of_sequences(model, "four", "less"), feed))


REFUSED = {
    "At too far": (node("SequenceAt", ["s", "two"], ["y"], name="n"), "position is 2, "),
    "At too far back": (node("SequenceAt", ["s", "low"], ["y"], name="n"), "position is -3"),
    "Erase too far": (node("SequenceErase", ["s", "two"], ["y"], name="n"), "position is 2"),
    "Insert too far": (node("SequenceInsert", ["s", "x", "three"], ["y"], name="n"),
                       "position is 3"),
    "Insert of another type": (node("SequenceInsert", ["s", "two"], ["y"], name="n"),
                               "int64 tensor cannot be in a sequence of float32"),
    "Construct of two types": (node("SequenceConstruct", ["x", "two"], ["y"], name="n"),
                               "int64 tensor cannot be in a sequence of float32"),
    "Concat of nothing": (node("ConcatFromSequence", ["e"], ["y"], name="n", axis=0), "is empty"),
    "At of a tensor": (node("SequenceAt", ["x", "two"], ["y"], name="n"), "expected"),
    "Split into wrong sizes": (node("SplitToSequence", ["x", "sizes"], ["y"], name="n"),
                               r"split is \[1, 1\], 2 in sum, but the axis has 3 elements"),
    "Split by nothing": (node("SplitToSequence", ["x", "zero"], ["y"], name="n"), "split is 0"),
    "a sequence for a tensor": (node("Relu", ["s"], ["y"], name="n"), "sequence"),
    "an optional that is absent": (node("OptionalGetElement", ["o"], ["y"], name="n"), "is absent"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    last, message = REFUSED[case]
    nodes = [
        node("SequenceEmpty", [], ["e"]),
        node("SequenceConstruct", ["x", "x"], ["s"]),
        node("Optional", [], ["o"], type=helper.make_tensor_type_proto(FLOAT, None)),
        last,
    ]
    numbers = {"zero": 0, "two": 2, "three": 3, "low": -3, "sizes": [1, 1]}
    known = {name: np.array(number) for name, number in numbers.items()}
    with pytest.raises(ValueError, match=rf"node 'n' \({last.op_type}\): .*{message}"):
        vledge.InferenceSession(model_bytes(nodes, {"x": X}, ["y"], known, opset=18)).run(
            None, {"x": X}
        )


# ---- Loop and If


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def test_a_scripted_loop_of_cells():
    """As torch writes one: each step's state is put into a sequence, which is joined at the end."""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((1, 6, 2)).astype(np.float32) for name in "WR"}
    nodes = [
        node("Gather", ["x", "i"], ["xi"], axis=0),
        node("Unsqueeze", ["xi", "zero"], ["x3"]),
        node(
            "GRU", ["x3", "W", "R", "", "", "h"], ["", "hn"], hidden_size=2, linear_before_reset=1
        ),
        node("SequenceInsert", ["q", "hn"], ["qn"]),
        node("Identity", ["going"], ["on"]),
    ]
    body = helper.make_graph(
        nodes, "body",
        [info("i", onnx.TensorProto.INT64, []), info("going", onnx.TensorProto.BOOL, []),
         info("h", FLOAT, [1, 5, 2]), helper.make_tensor_sequence_value_info("q", FLOAT, None)],
        [info("on", onnx.TensorProto.BOOL, []), info("hn", FLOAT, [1, 5, 2]),
         helper.make_tensor_sequence_value_info("qn", FLOAT, None)],
    )  # fmt: skip
    x, h = rng.standard_normal((4, 5, 2)).astype(np.float32), np.zeros((1, 5, 2), np.float32)
    model = model_bytes(
        [
            node("SequenceEmpty", [], ["none"]),
            node("Loop", ["count", "yes", "h0", "none"], ["hT", "all"], body=body),
            node("ConcatFromSequence", ["all"], ["y"], axis=0),
        ],
        {"x": x, "h0": h},
        ["y", "hT"],
        {"count": np.array(4), "yes": np.array(True), "zero": np.array([0]), **weights},
    )
    ours, wanted = both(model, {"x": x, "h0": h})
    assert_same(ours, wanted)
    whole = model_bytes(
        [node("GRU", ["x", "W", "R", "", "", "h0"], ["y", "hT"], hidden_size=2,
              linear_before_reset=1)],
        {"x": x, "h0": h}, ["y", "hT"], weights,
    )  # fmt: skip
    y, _ = vledge.InferenceSession(whole).run(None, {"x": x, "h0": h})
    np.testing.assert_allclose(ours[0], y[:, 0], atol=1e-6)


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "input"])
def test_an_if_whose_branches_give_sequences(yes, constant):
    def branch(parts):
        made = helper.make_tensor_sequence_value_info("made", FLOAT, None)
        return helper.make_graph([node("SequenceConstruct", parts, ["made"])], "b", [], [made])

    condition = {"yes": np.array(yes)}
    model = proto(
        [node("If", ["yes"], ["y"], then_branch=branch(["x", "x"]), else_branch=branch(["x"]))],
        {"x": X} | ({} if constant else condition),
        ["y"],
        condition if constant else {},
    )
    feed = {"x": X} if constant else {"x": X} | condition
    (result,) = vledge.InferenceSession(of_sequences(model, "y")).run(None, feed)
    assert_same([result], [[X, X] if yes else [X]])
    assert_same(*both(of_sequences(model, "y"), feed))


# ---- in and out of a session


def through():
    model = proto(
        [node("Identity", ["s"], ["same"]), node("SequenceInsert", ["s", "x"], ["more"])],
        {"s": X, "x": X},
        ["same", "more"],
    )
    return of_sequences(model, "s", "same", "more")


@pytest.mark.parametrize("given", [[], [X], [X, X[0], X[:0]]], ids=len)
def test_sequences_go_in_and_out_as_lists(given):
    feed = {"s": given, "x": X[:1]}
    ours, wanted = both(through(), feed)
    assert_same(ours, wanted)
    assert_same(ours, [given, [*given, X[:1]]])
    for array in (*ours[0], *ours[1]):
        array += 1  # the caller's own
    assert_same(vledge.InferenceSession(through()).run(None, feed), [given, [*given, X[:1]]])


def test_what_the_session_says_of_them():
    session = vledge.InferenceSession(through())
    theirs = peer("onnxruntime").InferenceSession(through(), providers=["CPUExecutionProvider"])
    for ours, wanted in zip(
        session.get_inputs() + session.get_outputs(),
        theirs.get_inputs() + theirs.get_outputs(),
        strict=True,
    ):
        assert ours.type == wanted.type
    assert session.get_inputs()[0].type == "seq(tensor(float))"
    with pytest.raises(vledge.UnsupportedError, match=r"'s' is of the type seq\(tensor\(float\)\)"):
        session.stream()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X, r"input 's' is a ndarray, expected a list: seq\(tensor\(float\)\)"),
        (None, "input 's' is a NoneType, expected a list"),
        ([X.astype(np.float64)], r"input 's\[0\]' has the dtype float64, expected tensor\(float\)"),
    ],
)
def test_what_is_no_sequence_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        vledge.InferenceSession(through()).run(None, {"s": given, "x": X})


def test_an_optional_input():
    model = proto(
        [node("OptionalHasElement", ["o"], ["there"]), node("Identity", ["o"], ["same"])],
        {"o": X}, ["there", "same"], opset=18,
    )  # fmt: skip
    session = vledge.InferenceSession(of_sequences(model, optional=("o", "same")))
    assert session.get_inputs()[0].type == "optional(tensor(float))"
    there, same = session.run(None, {"o": X})
    assert there.dtype == np.bool_
    assert there
    np.testing.assert_array_equal(same, X)
    there, same = session.run(None, {"o": None})
    assert not there
    assert same is None


def test_our_own_file_holds_them(tmp_path):
    from vledge.formats import vledge_model

    vledge_model.write(tmp_path / "model.safetensors", read_model(through()))
    (same, more) = vledge.InferenceSession(tmp_path / "model.safetensors").run(
        None, {"s": [X], "x": X}
    )
    assert_same([same, more], [[X], [X, X]])


def test_torch_chunk_on_an_axis_of_any_size():
    """``chunk`` of a dynamic axis is a SplitToSequence and SequenceAt in torch's exporter."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "one"], ["width"], axis=0),
        node("Div", ["width", "two"], ["half"]),
        node("SplitToSequence", ["x", "half"], ["parts"], axis=1),
        node("SequenceAt", ["parts", "zero"], ["a"]),
        node("SequenceAt", ["parts", "one"], ["b"]),
        node("Sub", ["b", "a"], ["y"]),
    ]
    known = {"zero": np.array(0), "one": np.array(1), "two": np.array(2)}
    session = vledge.InferenceSession(model_bytes(nodes, {"x": X}, ["y"], known))
    for x in (X, X[:, :2], np.tile(X, 2)):
        half = x.shape[1] // 2
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x[:, half:] - x[:, :half])


def test_a_sequence_is_shared_and_never_changed():
    """Two nodes that insert into the same sequence each make their own."""
    nodes = [
        node("SequenceConstruct", ["x"], ["s"]),
        node("SequenceInsert", ["s", "x"], ["a"]),
        node("SequenceErase", ["s"], ["b"]),
        node("SequenceLength", ["s"], ["n"]),
    ]
    model = of_sequences(proto(nodes, {"x": X}, ["a", "b", "n"]), "a", "b")
    a, b, n = vledge.InferenceSession(model).run(None, {"x": X})
    assert (len(a), len(b), n) == (2, 0, 1)


def test_a_reference_has_tensors_only(tmp_path):
    from vledge.validation.recording.record import record

    model = proto([node("SplitToSequence", ["x"], ["parts"])], {"x": X}, ["parts"])
    (tmp_path / "model.onnx").write_bytes(of_sequences(model, "parts"))
    message = r"'parts' is of the type seq\(tensor\(float\)\): a reference has tensors only"
    with pytest.raises(vledge.UnsupportedError, match=message):
        record(tmp_path / "model.onnx", [{"x": X}])
