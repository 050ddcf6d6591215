"""A model whose layers run by vledge.lengths: the graph's own numbers, refusals with reasons."""

import numpy as np
import pytest

import vledge
from vledge.lengths import strategies
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.validation import validate
from vledge.validation.reference.bundle import Case, Reference
from vledge.validation.running.layer_strategies import OPTIONS, obstacles, run_layers_by

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
T, B, F, H = 13, 5, 4, 6
LENGTHS = np.array([7, 13, 0, 1, 9], np.int32)


def model_of(
    kind, direction="forward", layout=0, states=True, dtype=np.float32, lengths=True, **attributes
):
    """One recurrent node, and values for its inputs."""
    rng = np.random.default_rng(0)
    count, rows = 1 + (direction == "bidirectional"), GATES[kind] * H

    def random(*shape):
        return rng.uniform(-0.6, 0.6, shape).astype(dtype)

    constants = {"W": random(count, rows, F), "R": random(count, rows, H)}
    constants["B"] = random(count, 2 * rows)
    shape, state = ((T, B, F), (count, B, H)) if not layout else ((B, T, F), (B, count, H))
    feed = {"x": random(*shape)} | ({"lengths": LENGTHS} if lengths else {})
    names = ["h_0", "c_0"][: 1 + (kind == "LSTM")] if states else []
    feed |= {name: random(*state) for name in names}
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (kind == "LSTM")]
    attributes |= {"hidden_size": H, "direction": direction, "layout": layout}
    given = ["x", "W", "R", "B", "lengths" if lengths else "", *names]
    node = Node(kind, given, outputs, attributes, "rnn")
    of_dtype = {np.float16: "float16", np.float32: "float", np.float64: "double"}[dtype]
    inputs = [
        ValueInfo(name, "int32" if name == "lengths" else of_dtype, array.shape)
        for name, array in feed.items()
    ]
    graph = Graph([node], inputs, [ValueInfo(o, of_dtype, None) for o in outputs], constants)
    return Model(graph, {"": 17}, 10), feed


@pytest.mark.parametrize("strategy", OPTIONS)
@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"states": False},
        {"layout": 1},
        {"lengths": False},
        {"direction": "reverse"},
        {"direction": "bidirectional"},
        {"direction": "bidirectional", "layout": 1},
        {"dtype": np.float64},
        {"dtype": np.float16, "layout": 1},
    ],
    ids=str,
)
def test_layers_give_what_the_graph_gives(kind, strategy, options, monkeypatch):
    model, feed = model_of(kind, **options)
    session = vledge.InferenceSession(model)
    expected = session.run(None, feed)
    called = []
    original = strategies.STRATEGIES[strategy]

    def counted(*arguments, **given):
        called.append(strategy)
        return original(*arguments, **given)

    monkeypatch.setitem(strategies.STRATEGIES, strategy, counted)
    found = run_layers_by(strategy, session, None, feed)
    backwards = options.get("direction", "forward") != "forward"
    assert bool(called) == (not backwards or strategy not in ("lanes", "streaming"))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        rounding = 1e-3 if theirs.dtype == np.float16 else 1e-6
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=rounding)


def test_an_lstm_with_one_state_given():
    model, feed = model_of("LSTM")
    (node,) = model.graph.nodes
    node.inputs[6:] = []
    model.graph.inputs = [info for info in model.graph.inputs if info.name != "c_0"]
    del feed["c_0"]
    session = vledge.InferenceSession(model)
    expected = session.run(None, feed)
    found = run_layers_by("packed", session, None, feed)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_constants_that_a_run_replaces_are_replaced():
    model, feed = model_of("GRU")
    h = feed.pop("h_0")
    model.graph.initializers["h_0"] = np.zeros_like(h)
    given = {**feed, "h_0": h}
    session = vledge.InferenceSession(model)
    expected = session.run(None, given)
    found = run_layers_by("padded", session, None, given)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-6)


def test_why_strategies_are_left_out():
    assert obstacles(model_of("GRU")[0]) == {}
    for direction in ("reverse", "bidirectional"):
        found = obstacles(model_of("GRU", direction)[0])
        assert set(found) == {"lanes", "streaming"}
        assert "backward direction" in found["lanes"]
    assert "clip" in obstacles(model_of("LSTM", clip=0.5)[0])["padded"]
    nothing = Graph([Node("Neg", ["x"], ["y"])], [ValueInfo("x", "float", None)],
                    [ValueInfo("y", "float", None)])  # fmt: skip
    assert "no RNN, GRU or LSTM" in obstacles(Model(nothing, {"": 17}, 10))["lanes"]


def test_a_strategy_that_is_wrong_fails_alone(monkeypatch):
    model, feed = model_of("LSTM")
    names = ["Y", "Y_h", "Y_c"]
    outputs = dict(zip(names, vledge.InferenceSession(model).run(None, feed), strict=True))
    axes = {"x": {"time": 0, "batch": 1}, "Y": {"time": 0, "batch": 2}, "lengths": {"batch": 0}}
    axes |= {name: {"batch": 1} for name in ("h_0", "c_0", "Y_h", "Y_c")}
    case = Case(feed, outputs, {}, LENGTHS.astype(np.int64))
    reference = Reference([case], {"vledge": vledge.__version__}, axes=axes)
    assert validate(model, reference).passed
    original = strategies.STRATEGIES["lanes"]

    def forgets_states(layer, batch, hx, **options):
        return original(layer, batch, None, **options)

    monkeypatch.setitem(strategies.STRATEGIES, "lanes", forgets_states)
    report = validate(model, reference)
    assert {run.path.strategy for run in report.runs if not run.passed} == {"lanes"}
    assert "one way of running it, not the export" in report.diagnosis.summary


@pytest.mark.parametrize("strategy", OPTIONS)
def test_what_cannot_runs_as_it_always_does(strategy):
    model, feed = model_of("LSTM", clip=0.5)
    session = vledge.InferenceSession(model)
    expected = session.run(None, feed)
    for ours, theirs in zip(run_layers_by(strategy, session, None, feed), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
