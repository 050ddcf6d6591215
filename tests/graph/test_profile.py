"""Where time goes: each instruction that ran is in the profile, and what ran in Python says why."""

import json
import threading

import numpy as np
import pytest

import vledge
from tests.graph.models import helper, node, session
from tests.peers import peer

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)


def rows_of(nodes, feed, outputs, constants=None, runs=2, **options):
    made = session(nodes, feed, outputs, constants, options=options)
    found = made.profile(feed, runs)
    return made, {row.operators: row for row in found.rows}, found


def test_nodes_that_run_as_one_stand_together():
    nodes = [
        node("Add", ["x", "x"], ["a"], name="first"),
        node("Sigmoid", ["a"], ["s"]),
        node("Transpose", ["s"], ["y"], perm=[2, 0, 1]),
    ]
    _, rows, found = rows_of(nodes, {"x": X}, ["y"])
    assert list(rows) == [("Add", "Sigmoid"), ("Transpose",)]
    chain = rows["Add", "Sigmoid"]
    assert (chain.name, chain.handler, chain.calls, chain.python_calls) == ("first", "chain", 1, 0)
    assert chain.why == ""
    assert chain.seconds > 0
    assert chain.bytes >= 2 * X.nbytes
    assert rows["Transpose",].bytes == 0  # a view
    assert found.seconds == pytest.approx(sum(row.seconds for row in found.rows))


def test_a_decline_is_told_with_what_it_met():
    """Declared as one type, the model meets another; no handler has numbers of 9 axes."""
    x = np.zeros([1] * 9, np.float32)
    _, rows, _ = rows_of([node("Transpose", ["x"], ["y"])], {"x": x}, ["y"])
    row = rows["Transpose",]
    assert row.handler is not None
    assert row.python_calls == row.calls == 1
    assert row.why.startswith(f"{row.handler} declined: ")


def test_python_from_the_start_says_whether_the_operator_or_its_attributes_have_no_handler():
    nodes = [
        node("Det", ["x"], ["d"]),
        node("GridSample", ["c", "g"], ["u"]),
        node("Conv", ["c", "w"], ["y"]),
    ]
    feed = {
        "x": np.eye(3, dtype=np.float32),
        "c": np.zeros((1, 2, 5, 5), np.float32),
        "g": np.zeros((1, 2, 2, 2), np.float32),
        "w": np.zeros((3, 2, 3, 3), np.float32),
    }
    _, rows, _ = rows_of(nodes, feed, ["d", "u", "y"])
    for operator in ("Det", "GridSample"):
        assert rows[operator,].why == "no native handler"
    python = [row for row in rows.values() if row.python_calls]
    assert {row.operators for row in python} >= {("Det",), ("GridSample",)}
    for row in python:
        assert row.why


def test_the_fallback_s_nodes_are_pythons():
    def double(graph_node, opset):
        return lambda x: [2 * x]

    _, rows, _ = rows_of([node("Frobnicate", ["x"], ["y"])], {"x": X}, ["y"], fallback=double)
    assert rows["Frobnicate",].why == "no native handler"


def test_a_body_s_instructions_count_each_call_and_are_not_counted_twice():
    state = helper.make_tensor_value_info("s", 1, [200, 200])
    out = helper.make_tensor_value_info("t", 1, [200, 200])
    i = helper.make_tensor_value_info("i", 7, [])
    keep = helper.make_tensor_value_info("k", 9, [])
    again = helper.make_tensor_value_info("k2", 9, [])
    body = helper.make_graph(
        [node("MatMul", ["s", "m"], ["t"], name="product"), node("Identity", ["k"], ["k2"])],
        "body",
        [i, keep, state],
        [again, out],
    )
    feed = {
        "n": np.array(5),
        "yes": np.array(True),
        "x": np.eye(200, dtype=np.float32),
        "m": np.eye(200, dtype=np.float32),
    }
    nodes = [node("Loop", ["n", "yes", "x"], ["y"], body=body)]
    _, rows, found = rows_of(nodes, feed, ["y"], runs=5)
    assert rows["MatMul",].calls == 5
    assert rows["MatMul",].operations == 5 * 2 * 200**3
    assert rows["Loop",].calls == 1
    # were its body's time the loop's too, it would have the larger share
    assert rows["Loop",].seconds < rows["MatMul",].seconds
    names = [event["name"] for event in found.trace()["traceEvents"] if event["ph"] == "X"]
    assert names.count("product") == 5


def test_a_handler_that_declines_at_some_calls_says_at_how_many():
    """A loop in which the state gains an axis each time: handlers read at most 8."""
    given = [helper.make_tensor_value_info(*info) for info in (("i", 7, []), ("k", 9, []))]
    state = helper.make_tensor_value_info("s", 1, None)
    made = [helper.make_tensor_value_info("k2", 9, []), helper.make_tensor_value_info("t", 1, None)]
    body = helper.make_graph(
        [node("Unsqueeze", ["s", "first"], ["t"], name="wider"), node("Identity", ["k"], ["k2"])],
        "body",
        [*given, state],
        made,
    )
    feed = {"n": np.array(4), "yes": np.array(True), "x": np.zeros([2] * 6, np.float32)}
    nodes = [node("Loop", ["n", "yes", "x"], ["y"], body=body)]
    _, rows, _ = rows_of(nodes, feed, ["y"], {"first": np.array([0])})
    row = rows["Unsqueeze",]
    assert (row.calls, row.python_calls) == (4, 2)
    assert row.why.startswith("unsqueeze declined at 2 of 4 calls: float32[1, 1, 2, 2")


@pytest.mark.filterwarnings("ignore")  # of how onnx makes its cases
def test_onnx_s_backend_models_are_profiled_and_python_is_never_silent():
    case_module = peer("onnx.backend.test.case.node")
    counts = {"models": 0, "native": 0, "python": 0}
    for case in case_module.collect_testcases(None):
        try:
            made = vledge.InferenceSession(case.model.SerializeToString())
        except vledge.VledgeError:
            continue
        inputs = case.data_sets[0][0]
        feed = {info.name: array for info, array in zip(made.get_inputs(), inputs, strict=False)}
        try:
            made.run(None, feed)
        except (ValueError, TypeError):  # inputs of types that onnx's own door converts
            continue
        found = made.profile(feed, 1)
        json.dumps(found.trace())
        counts["models"] += 1
        for row in found.rows:
            assert bool(row.why) == bool(row.python_calls), (case.name, row)
            assert row.seconds >= 0
            counts["python" if row.python_calls else "native"] += 1
    assert counts["models"] > 1200
    assert counts["native"] > 5 * counts["python"]


def weights(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("made", "feed", "constants", "operations"),
    [
        (node("Conv", ["x", "w"], ["y"]), (1, 4, 9, 9), (6, 4, 3, 3), 2 * 6 * 49 * 36),
        (node("Conv", ["x", "w"], ["y"], group=2), (2, 4, 9), (6, 2, 3), 2 * 2 * 6 * 7 * 6),
        (
            node("ConvTranspose", ["x", "w"], ["y"], strides=[2]),
            (1, 4, 9),
            (4, 5, 3),
            2 * 4 * 9 * 5 * 3,
        ),
        (node("MatMul", ["x", "w"], ["y"]), (2, 5, 8), (8, 3), 2 * 2 * 5 * 8 * 3),
        (node("Gemm", ["x", "w"], ["y"], transA=1), (8, 5), (8, 3), 2 * 5 * 8 * 3),
        (
            node("GRU", ["x", "w", "r"], ["y"], hidden_size=8),
            (7, 2, 5),
            (1, 24, 5),
            2 * 7 * 2 * 24 * 13,
        ),
        (
            node("LSTM", ["x", "w", "r"], ["y"], hidden_size=8, direction="bidirectional"),
            (7, 2, 5),
            (2, 32, 5),
            2 * 7 * 2 * 2 * 32 * 13,
        ),
        (node("Relu", ["x"], ["y"]), (3, 4), (1,), 0),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)
@pytest.mark.parametrize("known", [True, False])
def test_arithmetic_is_counted(made, feed, constants, operations, known):
    """By the definition, whether the weights are constants, packed in a handler, or inputs."""
    arrays = {"w": weights(*constants)}
    if made.op_type in ("GRU", "LSTM"):
        arrays["r"] = weights(*constants[:2], 8)
    given = {"x": weights(*feed)} | ({} if known else arrays)
    if made.op_type == "Relu":
        given, arrays = {"x": given["x"]}, {}
    _, rows, _ = rows_of([made], given, ["y"], arrays if known else None)
    (row,) = (row for row in rows.values() if made.op_type in row.operators)
    assert row.operations == operations


def test_a_pool_in_a_convolution_s_instruction_has_seen_more():
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    feed = {"x": weights(1, 4, 10, 10)}
    _, rows, _ = rows_of(nodes, feed, ["y"], {"w": weights(6, 4, 3, 3)})
    assert sum(row.operations for row in rows.values()) == 2 * 6 * 64 * 36


def test_lengths_leave_the_arithmetic_of_a_recurrence_open():
    made = node("GRU", ["x", "w", "r", "", "lengths"], ["y"], hidden_size=8)
    feed = {"x": weights(7, 2, 5), "lengths": np.array([7, 3], np.int32)}
    _, rows, _ = rows_of([made], feed, ["y"], {"w": weights(1, 24, 5), "r": weights(1, 24, 8)})
    assert rows["GRU",].operations == 0


def test_a_trace_is_json_whose_events_lie_one_after_the_other():
    nodes = [node("Gemm", ["x", "w"], ["g"], name="g"), node("Softmax", ["g"], ["y"])]
    feed = {"x": weights(3, 8)}
    _, _, found = rows_of(nodes, feed, ["y"], {"w": weights(8, 5)})
    read = json.loads(json.dumps(found.trace()))["traceEvents"]
    spans = [event for event in read if event["ph"] == "X"]
    assert spans[0]["name"] == "g"
    assert spans[0]["ts"] == 0
    assert all(span["dur"] > 0 for span in spans)
    ends = [span["ts"] + span["dur"] for span in spans]
    assert all(span["ts"] >= end for span, end in zip(spans[1:], ends, strict=False))
    assert spans[0]["args"]["inputs"][0] == "float32[3, 8]"
    assert spans[0]["cat"] == "native"
    counters = [event["args"]["frame"] for event in read if event["ph"] == "C"]
    assert max(counters) > 0


def test_what_cannot_be_profiled(monkeypatch):
    made = session([node("Relu", ["x"], ["y"])], {"x": X}, ["y"])
    with pytest.raises(ValueError, match="runs must be at least 1, got 0"):
        made.profile({"x": X}, 0)
    with pytest.raises(ValueError, match=r"Required inputs \(\['x'\]\) are missing"):
        made.profile({})
    with pytest.raises(ValueError, match="expected tensor\\(float\\)"):
        made.profile({"x": X.astype(np.float64)})
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    without = session([node("Relu", ["x"], ["y"])], {"x": X}, ["y"])
    with pytest.raises(vledge.UnsupportedError, match="VLEDGE_PROGRAM=0"):
        without.profile({"x": X})


def test_a_failing_node_is_named_as_in_a_run():
    made = session([node("MatMul", ["x", "z"], ["y"], name="bad")], {"x": X, "z": X}, ["y"])
    with pytest.raises(ValueError, match="bad"):
        made.profile({"x": X, "z": X})


def test_others_may_run_the_session_meanwhile():
    made = session([node("Sigmoid", ["x"], ["y"])], {"x": X}, ["y"])
    (expected,) = made.run(None, {"x": X})
    wrong = []

    def run():
        for _ in range(50):
            if not np.array_equal(made.run(None, {"x": X})[0], expected):
                wrong.append(1)

    runner = threading.Thread(target=run)
    runner.start()
    for _ in range(20):
        made.profile({"x": X}, 2)
    runner.join()
    assert not wrong
