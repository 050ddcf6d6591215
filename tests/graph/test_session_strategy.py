"""``session.run(…, strategy=…)``: recurrent nodes with sequence_lens, by every strategy."""

import inspect
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.test_quantized_recurrent import quantized
from tests.graph.test_recurrent import (
    DIRECTIONS,
    HIDDEN,
    OPS,
    UNSORTED,
    WITH_EMPTY,
    compare_with_onnxruntime,
    make_inputs,
    make_model,
)
from tests.lengths.spies import spied
from tests.peers import peer
from vledge.planning.bound import Guess
from vledge.planning.choice import forget

WHOLE = {"padded": {}, "packed": {}, "masked": {}, "bucketed": {"rows": 2}, "auto": {}}
FORWARDS = {"lanes": {"lanes": 2}, "streaming": {"window": 3}}
FULL = np.full(5, 7, np.int32)


@pytest.fixture
def ran(monkeypatch):
    """The strategies that run, as they do."""
    names = []
    spied(monkeypatch, lambda name, *_: names.append(name))
    return names


def same(actual, expected, tolerance=1e-6):
    assert len(actual) == len(expected)
    for ours, reference in zip(actual, expected, strict=True):
        assert (ours.shape, ours.dtype) == (reference.shape, reference.dtype)
        np.testing.assert_allclose(ours, reference, rtol=0, atol=tolerance)


@pytest.mark.parametrize("lengths", [UNSORTED, WITH_EMPTY, FULL], ids=["unsorted", "empty", "full"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op_type", OPS)
def test_every_strategy_has_the_same_numbers(ran, op_type, direction, layout, lengths):
    for states, empty_state in itertools.product([False, True], ["zero", "initial"]):
        inputs = make_inputs(op_type, direction, layout, states=states, lengths=lengths)
        model, feed = make_model(op_type, inputs, {"direction": direction, "layout": layout})
        session = vledge.InferenceSession(model, empty_state=empty_state)
        expected = session.run(None, feed)
        assert ran == []
        chosen = WHOLE | FORWARDS if direction == "forward" else WHOLE
        for strategy, options in chosen.items():
            same(session.run(None, feed, strategy=strategy, **options), expected)
            assert ran.pop() == strategy or strategy == "auto"


@pytest.mark.parametrize("reset", [0, 1])
@pytest.mark.parametrize("strategy", WHOLE | FORWARDS)
def test_as_onnxruntime(strategy, reset):
    inputs = make_inputs("GRU", states=True, lengths=WITH_EMPTY)
    model, feed = make_model("GRU", inputs, {"linear_before_reset": reset})
    session = vledge.InferenceSession(model)
    options = (WHOLE | FORWARDS)[strategy]
    compare_with_onnxruntime(model, feed, session.run(None, feed, strategy=strategy, **options))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("constant", [("W", "R", "B"), ()], ids=["constant", "fed"])
@pytest.mark.parametrize("strategy", WHOLE | FORWARDS)
def test_other_dtypes_and_weights_that_are_fed(ran, strategy, constant, dtype):
    inputs = make_inputs("LSTM", states=True, lengths=WITH_EMPTY, dtype=dtype)
    del inputs["initial_h"]  # the cell state alone
    model, feed = make_model("LSTM", inputs, {}, constant=constant)
    session = vledge.InferenceSession(model)
    options = (WHOLE | FORWARDS)[strategy]
    actual = session.run(None, feed, strategy=strategy, **options)
    same(actual, session.run(None, feed), 1e-3 if dtype is np.float16 else 1e-14)
    assert len(ran) == 1


def test_relu():
    inputs = make_inputs("RNN", "bidirectional", lengths=UNSORTED, scale=0.2)
    attributes = {"direction": "bidirectional", "activations": ["Relu", "Relu"]}
    model, feed = make_model("RNN", inputs, attributes)
    session = vledge.InferenceSession(model)
    same(session.run(None, feed, strategy="packed"), session.run(None, feed))


@pytest.mark.parametrize(("steps", "sequences"), [(0, 3), (4, 0)])
def test_no_steps_or_no_sequences(steps, sequences):
    lengths = np.zeros(sequences, np.int32)
    inputs = make_inputs("GRU", lengths=lengths, steps=steps, sequences=sequences)
    model, feed = make_model("GRU", inputs, {})
    session = vledge.InferenceSession(model)
    same(session.run(None, feed, strategy="packed"), session.run(None, feed))


def two_nodes(second_lengths="sequence_lens"):
    """An LSTM with sequence_lens, the mean of whose directions goes into a GRU."""
    first = make_inputs("LSTM", "bidirectional", lengths=UNSORTED)
    second = make_inputs("GRU")
    second["W"] = second["W"][:, :, :1].repeat(HIDDEN, axis=2)
    names = ["X", "W", "R", "B", "sequence_lens"]
    nodes = [
        node("LSTM", names, ["Y"], name="one", hidden_size=HIDDEN, direction="bidirectional"),
        node("ReduceMean", ["Y"], ["mean"], axes=[1], keepdims=0),
        node(
            "GRU", ["mean", "W2", "R2", "B2", second_lengths], ["Z", "Z_h"], name="two",
            hidden_size=HIDDEN,
        ),
    ]  # fmt: skip
    feed = {"X": first["X"], "sequence_lens": first["sequence_lens"]}
    weights = {name: first[name] for name in "WRB"} | {name + "2": second[name] for name in "WRB"}
    return model_bytes(nodes, feed, ["Z", "Z_h"], weights), feed


def test_every_node_with_lengths(ran):
    session, feed = vledge.InferenceSession(two_nodes()[0]), two_nodes()[1]
    want = session.run(None, feed)
    same(session.run(None, feed, strategy="bucketed", rows=2), want)
    assert ran == ["bucketed", "bucketed"]


def test_a_node_without_lengths_runs_as_ever(ran):
    model, feed = two_nodes(second_lengths="")
    session = vledge.InferenceSession(model)
    want = session.run(None, feed)
    same(session.run(None, feed, strategy="packed"), want)
    assert ran == ["packed"]


def test_nodes_inside_of_a_branch(ran):
    inputs = make_inputs("GRU", lengths=UNSORTED)
    model, feed = make_model("GRU", inputs, {})
    graph = peer("onnx").load_from_string(model).graph
    names = [value.name for value in graph.output]
    branches = []
    for name in ("then_branch", "else_branch"):
        branch = type(graph)()
        branch.CopyFrom(graph)
        branch.name = name
        del branch.input[:]
        branches.append(branch)
    outer = node("If", ["yes"], names, then_branch=branches[0], else_branch=branches[1])
    nested = {**feed, "yes": np.array(True)}
    session = vledge.InferenceSession(model_bytes([outer], nested, names))
    same(
        session.run(None, nested, strategy="packed"), vledge.InferenceSession(model).run(None, feed)
    )
    assert ran == ["packed"]


def test_auto_runs_what_the_plan_ranks_first_within_its_limit():
    lengths = np.array([300] + [2] * 63, np.int32)
    inputs = make_inputs("GRU", lengths=lengths, steps=300, sequences=64)
    model, feed = make_model("GRU", inputs, {}, outputs=["", "Y_h"])
    session = vledge.InferenceSession(model)
    limit = 2_000_000
    best = vledge.plan(
        lengths, vledge.nn.GRU(6, HIDDEN), form="padded", memory_limit=limit
    ).best.strategy
    tried = []
    with pytest.MonkeyPatch.context() as patch:
        spied(patch, lambda name, *_: tried.append(name))
        actual = session.run(None, feed, strategy="auto", memory_limit=limit)
    assert tried == [best]
    same(actual, session.run(None, feed))
    with pytest.raises(MemoryError, match="memory_limit=1,000"):
        session.run(None, feed, strategy="auto", memory_limit=1000)


@pytest.mark.parametrize("strategy", FORWARDS)
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_a_backward_direction_is_refused_by_name(ran, direction, strategy):
    model, feed = make_model(
        "GRU", make_inputs("GRU", direction, lengths=UNSORTED), {"direction": direction}
    )
    session = vledge.InferenceSession(model)
    want = session.run(None, feed)
    message = rf"node 'rnn' \(GRU\): strategy=\"{strategy}\".*cannot run the backward direction"
    with pytest.raises(ValueError, match=message):
        session.run(None, feed, strategy=strategy, **FORWARDS[strategy])
    ran.clear()
    same(session.run(None, feed), want, 0)  # the strategy is gone with the run that failed
    assert ran == []


@pytest.mark.parametrize("variant", ["peepholes", "clip", "input_forget", "quantized"])
def test_other_equations_run_padded_only(tmp_path, variant):
    attributes = {"clip": {"clip": 0.4}, "input_forget": {"input_forget": 1}}
    inputs = make_inputs("LSTM", states=True, lengths=WITH_EMPTY, peepholes=variant == "peepholes")
    model, feed = make_model("LSTM", inputs, attributes.get(variant, {}))
    if variant == "quantized":
        model, feed = quantized(tmp_path, inputs, {}, "QInt8", False)
    session = vledge.InferenceSession(model)
    want = session.run(None, feed)
    for strategy in ("auto", "padded"):
        # a strategy runs in Python, whose tanh is not the native program's to the last bit
        tolerance = 1e-6 if variant == "quantized" else 0
        same(session.run(None, feed, strategy=strategy), want, tolerance)
    with pytest.raises(ValueError, match=r"node .*\(.*LSTM\): strategy='packed' runs"):
        session.run(None, feed, strategy="packed")


def test_what_has_nothing_to_choose_is_refused():
    x = np.ones((2, 3), np.float32)
    session = vledge.InferenceSession(model_bytes([node("Relu", ["x"], ["y"])], {"x": x}, ["y"]))
    with pytest.raises(ValueError, match=r"'auto' has nothing to run.*no RNN, GRU or LSTM node"):
        session.run(None, {"x": x}, strategy="auto")
    model, feed = make_model("GRU", make_inputs("GRU"), {})
    session = vledge.InferenceSession(model)
    with pytest.raises(ValueError, match="none of its 1 recurrent nodes is given sequence_lens"):
        session.run(None, feed, strategy="packed")


def test_wrong_strategies_and_options():
    model, feed = make_model("GRU", make_inputs("GRU", lengths=UNSORTED), {})
    session = vledge.InferenceSession(model)
    with pytest.raises(
        ValueError, match="strategy is 'pakced', expected one of 'padded', 'packed'"
    ):
        session.run(None, feed, strategy="pakced")
    with pytest.raises(TypeError, match="rows: not an option of strategy='packed', which has none"):
        session.run(None, feed, strategy="packed", rows=2)
    with pytest.raises(TypeError, match=r"strategy='streaming': .*'window'"):
        session.run(None, feed, strategy="streaming")
    with pytest.raises(TypeError, match="rows: options go with a strategy"):
        session.run(None, feed, rows=2)
    with pytest.raises(ValueError, match=r"node 'rnn' \(GRU\): rows must be at least 1"):
        session.run(None, feed, strategy="bucketed", rows=0)


def test_threads_have_a_strategy_each():
    model, feed = make_model("LSTM", make_inputs("LSTM", states=True, lengths=WITH_EMPTY), {})
    session = vledge.InferenceSession(model)
    want = session.run(None, feed)

    def call(index):
        strategy, options = list((WHOLE | FORWARDS).items())[index % 7]
        same(session.run(None, feed, strategy=strategy, **options), want)
        same(session.run(None, feed), want, 0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(200)))


def test_a_node_keeps_its_weights_once(monkeypatch):
    """The stack that a strategy runs is the one that runs without."""
    model, feed = make_model("GRU", make_inputs("GRU", "bidirectional", lengths=UNSORTED),
                             {"direction": "bidirectional"})  # fmt: skip
    session = vledge.InferenceSession(model)
    ran = []
    spied(monkeypatch, lambda name, stack, _: ran.append(stack))
    session.run(None, feed, strategy="packed")
    (held,) = [
        value.weights
        for value in inspect.unwrap(session._plan.function).__globals__.values()
        if hasattr(value, "weights")
    ]
    assert ran == [held.stack]


@pytest.mark.parametrize("op_type", OPS)
def test_auto_leaves_out_what_a_reverse_node_cannot(op_type, monkeypatch):
    inputs = make_inputs(op_type, "reverse", lengths=UNSORTED)
    model, feed = make_model(op_type, inputs, {"direction": "reverse"})
    made = []

    def plan(*arguments, **named):
        made.append(vledge.plan(*arguments, **named))
        return made[-1]

    monkeypatch.setattr("vledge.planning.choice.short_steps", lambda shape: 0)
    monkeypatch.setattr(
        "vledge.planning.choice.without_a_plan", lambda *arguments: Guess(None, 1, 1)
    )
    monkeypatch.setattr("vledge.planning.choice.plan", plan)
    forget()
    session = vledge.InferenceSession(model)
    same(session.run(None, feed, strategy="auto"), session.run(None, feed))
    assert {"lanes", "streaming"} == set(made[0].left_out)
    assert str(made[0].shapes[0]) == f"{op_type} 6 to 9, reverse"
