"""RNN, GRU and LSTM nodes: every attribute against the float64 definition, and onnxruntime.

onnxruntime is compared where it is right: not with layout 1 (which it refuses), nor with float64.
"""

import itertools

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.recurrent_definition import GATES, PARAMETERS, run
from tests.peers import peer

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
OUTPUTS = {"RNN": ["Y", "Y_h"], "GRU": ["Y", "Y_h"], "LSTM": ["Y", "Y_h", "Y_c"]}
OPS = ("RNN", "GRU", "LSTM")
DIRECTIONS = ("forward", "reverse", "bidirectional")
STEPS, SEQUENCES, FEATURES, HIDDEN = 7, 5, 6, 9
UNSORTED = np.array([3, 7, 1, 7, 2], np.int32)
WITH_EMPTY = np.array([0, 4, 7, 0, 1], np.int32)


def make_inputs(
    op_type,
    direction="forward",
    layout=0,
    bias=True,
    states=False,
    lengths=None,
    peepholes=False,
    dtype=np.float32,
    steps=STEPS,
    sequences=SEQUENCES,
    scale=0.6,
):
    rng = np.random.default_rng(len(op_type) + len(direction))
    d, rows = (2 if direction == "bidirectional" else 1), GATES[op_type] * HIDDEN

    def some(*shape):
        return rng.uniform(-scale, scale, shape).astype(dtype)

    batch = (sequences, steps) if layout else (steps, sequences)
    state = (sequences, d, HIDDEN) if layout else (d, sequences, HIDDEN)
    inputs = {
        "X": 3 * some(*batch, FEATURES),
        "W": some(d, rows, FEATURES),
        "R": some(d, rows, HIDDEN),
    }
    if bias:
        inputs["B"] = some(d, 2 * rows)
    if lengths is not None:
        inputs["sequence_lens"] = lengths
    if states:
        inputs["initial_h"] = some(*state)
        if op_type == "LSTM":
            inputs["initial_c"] = some(*state)
    if peepholes:
        inputs["P"] = some(d, 3 * HIDDEN)
    return inputs


def make_model(op_type, inputs, attributes, opset=14, constant=("W", "R", "B", "P"), outputs=None):
    names = [name if name in inputs else "" for name in INPUTS]
    while not names[-1]:
        names.pop()
    outputs = outputs or OUTPUTS[op_type]
    recurrent = node(op_type, names, outputs, name="rnn", hidden_size=HIDDEN, **attributes)
    feed = {name: a for name, a in inputs.items() if name not in constant}
    constants = {name: a for name, a in inputs.items() if name in constant}
    wanted = [name for name in outputs if name]
    return model_bytes([recurrent], feed, wanted, constants, opset=opset), feed


def check(op_type, inputs, attributes, tolerance=2e-6, opset=14, onnxruntime=True, **named):
    """Ours against the definition, and against onnxruntime unless told otherwise."""
    model, feed = make_model(op_type, inputs, attributes, opset, **named)
    actual = vledge.InferenceSession(model).run(None, feed)
    expected = run(op_type, inputs, _as_in_a_file(attributes))
    assert len(actual) == len(expected)
    for ours, reference in zip(actual, expected, strict=True):
        assert ours.shape == reference.shape
        assert ours.dtype == inputs["X"].dtype
        np.testing.assert_allclose(ours, reference, rtol=0, atol=tolerance)
    if onnxruntime:
        compare_with_onnxruntime(model, feed, actual)
    return actual


def _as_in_a_file(attributes):
    """Numbers of attributes are float32."""
    return {k: float(np.float32(v)) if isinstance(v, float) else v for k, v in attributes.items()}


def compare_with_onnxruntime(model, feed, actual, tolerance=1e-5):
    runtime = peer("onnxruntime")
    theirs = runtime.InferenceSession(model).run(None, feed)
    for ours, reference in zip(actual, theirs, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=tolerance)


@pytest.mark.parametrize("lengths", [None, UNSORTED, WITH_EMPTY], ids=["full", "unsorted", "empty"])
@pytest.mark.parametrize("states", [False, True], ids=["zeros", "states"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op_type", OPS)
def test_lengths_states_and_directions(op_type, direction, states, lengths):
    inputs = make_inputs(op_type, direction, states=states, lengths=lengths)
    actual = check(op_type, inputs, {"direction": direction})
    if lengths is not None:
        for sequence, length in enumerate(lengths):
            assert not actual[0][length:, :, sequence].any()


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "fed"])
@pytest.mark.parametrize("lengths", [None, WITH_EMPTY], ids=["full", "empty"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op_type", OPS)
def test_batch_first_layout(op_type, direction, lengths, constant):
    inputs = make_inputs(op_type, direction, layout=1, states=True, lengths=lengths)
    attributes = {"direction": direction, "layout": 1}
    weights = ("W", "R", "B") if constant else ()
    check(op_type, inputs, attributes, onnxruntime=False, constant=weights)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op_type", OPS)
def test_weights_as_inputs_of_a_run(op_type, direction, bias):
    inputs = make_inputs(op_type, direction, bias=bias, lengths=UNSORTED)
    check(op_type, inputs, {"direction": direction}, constant=())


@pytest.mark.parametrize("opset", [1, 3, 7, 13, 14, 22])
@pytest.mark.parametrize("op_type", OPS)
def test_every_opset(op_type, opset):
    attributes = {"output_sequence": 1} if opset < 7 else {}
    if op_type == "GRU" and opset >= 3:
        attributes["linear_before_reset"] = 1
    inputs = make_inputs(op_type, states=True, lengths=UNSORTED)
    check(op_type, inputs, attributes, opset=opset, onnxruntime=opset >= 7)


@pytest.mark.parametrize("lengths", [None, WITH_EMPTY], ids=["full", "empty"])
@pytest.mark.parametrize("clip", [None, 0.4])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gru_resets(direction, before, clip, lengths):
    attributes = {"direction": direction, "linear_before_reset": before}
    attributes |= {} if clip is None else {"clip": clip}
    check("GRU", make_inputs("GRU", direction, states=True, lengths=lengths), attributes)


@pytest.mark.parametrize("lengths", [None, WITH_EMPTY], ids=["full", "empty"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("input_forget", "peepholes", "clip"),
    [case for case in itertools.product([0, 1], [False, True], [None, 0.4]) if any(case)],
)
def test_lstm_variants(direction, input_forget, peepholes, clip, lengths):
    attributes = {"direction": direction, "input_forget": input_forget}
    attributes |= {} if clip is None else {"clip": clip}
    inputs = make_inputs("LSTM", direction, states=True, lengths=lengths, peepholes=peepholes)
    check("LSTM", inputs, attributes)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_rnn_clip(direction):
    inputs = make_inputs("RNN", direction, states=True, lengths=UNSORTED)
    check("RNN", inputs, {"direction": direction, "clip": 0.4})


ALPHA_BETA = {"alpha": 0.7, "beta": 0.3}
NAMES = (
    "Relu Tanh Sigmoid Affine LeakyRelu ThresholdedRelu ScaledTanh HardSigmoid Elu Softsign "
    "Softplus"
)


def parameters_of(names):
    given = {}
    for key in ("alpha", "beta"):
        values = [ALPHA_BETA[key] for name in names if key in PARAMETERS.get(name, {})]
        if values:
            given[f"activation_{key}"] = values
    return given


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize(
    ("op_type", "place"),
    [("RNN", 0), ("GRU", 0), ("GRU", 1), ("LSTM", 0), ("LSTM", 1), ("LSTM", 2)],
)
def test_every_activation_at_every_place(op_type, place, name):
    names = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
    chosen = names[op_type].copy()
    chosen[place] = name
    inputs = make_inputs(op_type, states=True, lengths=UNSORTED, scale=0.2)
    check(op_type, inputs, {"activations": chosen, **parameters_of(chosen)})


@pytest.mark.parametrize("name", ["LeakyRelu", "HardSigmoid", "Elu"])
def test_default_parameters_of_activations(name):
    attributes = {"activations": [name, "Tanh"]}
    check("GRU", make_inputs("GRU", scale=0.2), attributes)


@pytest.mark.parametrize("name", ["Affine", "ThresholdedRelu"])
def test_default_parameters_are_the_operators_where_onnxruntime_has_zero(name):
    attributes = {"activations": [name, "Tanh"]}
    check("GRU", make_inputs("GRU", scale=0.2), attributes, onnxruntime=False)


@pytest.mark.parametrize("op_type", OPS)
def test_activations_of_both_directions_differ(op_type):
    names = {
        "RNN": ["Relu", "LeakyRelu"],
        "GRU": ["HardSigmoid", "Relu", "sigmoid", "TANH"],
        "LSTM": ["HardSigmoid", "Affine", "Tanh", "Sigmoid", "LeakyRelu", "Softsign"],
    }[op_type]
    inputs = make_inputs(op_type, "bidirectional", lengths=UNSORTED, scale=0.2)
    attributes = {"direction": "bidirectional", "activations": names}
    attributes |= parameters_of([name for name in names if name in NAMES.split()])
    check(op_type, inputs, attributes)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_relu_rnn(direction):
    names = ["Relu"] * (2 if direction == "bidirectional" else 1)
    inputs = make_inputs("RNN", direction, lengths=UNSORTED, scale=0.2)
    check("RNN", inputs, {"direction": direction, "activations": names})


@pytest.mark.parametrize("clip", [None, 0.4])
@pytest.mark.parametrize("op_type", OPS)
def test_float64(op_type, clip):
    inputs = make_inputs(op_type, states=True, lengths=UNSORTED, dtype=np.float64)
    attributes = {} if clip is None else {"clip": clip}
    check(op_type, inputs, attributes, tolerance=1e-14, onnxruntime=False)


@pytest.mark.parametrize("op_type", OPS)
def test_float16_is_computed_in_float32(op_type):
    inputs = make_inputs(op_type, states=True, lengths=UNSORTED, dtype=np.float16)
    check(op_type, inputs, {}, tolerance=6e-4, onnxruntime=False)


@pytest.mark.parametrize("peepholes", [False, True])
def test_empty_state_switch(peepholes):
    inputs = make_inputs("LSTM", states=True, lengths=WITH_EMPTY, peepholes=peepholes)
    model, feed = make_model("LSTM", inputs, {})
    zero = vledge.InferenceSession(model).run(None, feed)
    initial = vledge.InferenceSession(model, empty_state="initial").run(None, feed)
    expected = run("LSTM", inputs, {"empty_state": "initial"})
    for ours, reference in zip(initial, expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=2e-6)
    assert not zero[1][:, 0].any()
    np.testing.assert_array_equal(initial[1][:, 0], inputs["initial_h"][:, 0])
    np.testing.assert_array_equal(initial[2][:, 3], inputs["initial_c"][:, 3])
    np.testing.assert_array_equal(initial[0], zero[0])


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize(("steps", "sequences"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("op_type", OPS)
def test_no_steps_or_no_sequences(op_type, steps, sequences, lengths):
    inputs = make_inputs(
        op_type,
        "bidirectional",
        states=True,
        lengths=np.zeros(sequences, np.int32) if lengths else None,
        steps=steps,
        sequences=sequences,
    )
    check(op_type, inputs, {"direction": "bidirectional"}, onnxruntime=False)


def test_all_sequences_empty():
    inputs = make_inputs("GRU", states=True, lengths=np.zeros(SEQUENCES, np.int32))
    y, y_h = check("GRU", inputs, {})
    assert not y.any()
    assert not y_h.any()


@pytest.mark.parametrize("outputs", [["Y"], ["", "Y_h"], ["", "", "Y_c"], ["Y", "", "Y_c"]])
def test_absent_outputs(outputs):
    inputs = make_inputs("LSTM", lengths=UNSORTED)
    model, feed = make_model("LSTM", inputs, {}, outputs=outputs)
    actual = vledge.InferenceSession(model).run(None, feed)
    everything = dict(zip(OUTPUTS["LSTM"], run("LSTM", inputs, {}), strict=True))
    for name, ours in zip([name for name in outputs if name], actual, strict=True):
        np.testing.assert_allclose(ours, everything[name], rtol=0, atol=2e-6)


def test_one_step_carries_its_state():
    """What a streaming model does: T=1, the state of one run fed to the next."""
    inputs = make_inputs("LSTM", states=True)
    whole = run("LSTM", inputs, {})
    model, feed = make_model("LSTM", inputs, {})
    session = vledge.InferenceSession(model)
    h, c = feed["initial_h"], feed["initial_c"]
    for t in range(STEPS):
        y, h, c = session.run(None, {"X": feed["X"][t : t + 1], "initial_h": h, "initial_c": c})
        np.testing.assert_allclose(y[0], whole[0][t], rtol=0, atol=2e-6)
    np.testing.assert_allclose(c, whole[2], rtol=0, atol=2e-6)


def test_nan_stays_in_its_sequence():
    """onnxruntime's clip takes NaN for the threshold; a NaN that went in must come out."""
    inputs = make_inputs("GRU", lengths=UNSORTED)
    inputs["X"][1, 1] = np.nan
    model, feed = make_model("GRU", inputs, {"clip": 0.4})
    y, _ = vledge.InferenceSession(model).run(None, feed)
    assert np.isnan(y[1:, :, 1]).all()
    assert np.isfinite(y[0, :, 1]).all()
    assert np.isfinite(np.delete(y, 1, axis=2)).all()


def test_weights_are_not_kept_twice():
    inputs = make_inputs("LSTM")
    model, _ = make_model("LSTM", inputs, {})
    session = vledge.InferenceSession(model)
    held = [
        value
        for value in session._plan.run.__globals__.values()
        if isinstance(value, np.ndarray) and value.size > 1
    ]
    assert held == []


class TestErrors:
    def refused(self, error, match, attributes=None, op_type="LSTM", **changes):
        inputs = {**make_inputs(op_type), **changes}
        with pytest.raises(error, match=match):
            vledge.InferenceSession(make_model(op_type, inputs, attributes or {})[0])

    def fails(self, match, op_type="LSTM", constant=("W", "R", "B"), **changes):
        inputs = {**make_inputs(op_type, states=True, lengths=UNSORTED), **changes}
        model, feed = make_model(op_type, inputs, {}, constant=constant)
        session = vledge.InferenceSession(model)
        with pytest.raises(ValueError, match=rf"node 'rnn' \({op_type}\): .*{match}"):
            session.run(None, feed)

    def test_directions(self):
        self.refused(vledge.FormatError, "direction is 'backward'", {"direction": "backward"})
        self.refused(vledge.FormatError, "W has the shape", {"direction": "bidirectional"})

    def test_activations(self):
        self.refused(vledge.FormatError, "'swish' is not one", {"activations": ["Swish"] * 3})
        self.refused(vledge.FormatError, "2 names, expected 3", {"activations": ["Tanh"] * 2})
        self.refused(
            vledge.FormatError, "needs activation_alpha", {"activations": ["ScaledTanh"] * 3}
        )

    def test_attributes(self):
        self.refused(vledge.FormatError, "layout is 2", {"layout": 2})
        self.refused(vledge.FormatError, r"clip is -1", {"clip": -1.0})
        self.refused(vledge.UnsupportedError, r"node 'rnn'.*linear=1", {"linear": 1})
        self.refused(vledge.UnsupportedError, "input_forget", {"input_forget": 1}, "GRU")

    def test_weights(self):
        self.refused(vledge.FormatError, "hidden_size is 9, but R", R=np.zeros((1, 36, 8), "f4"))
        self.refused(vledge.FormatError, "W has the shape", W=np.zeros((1, 35, 6), "f4"))
        self.refused(vledge.FormatError, "B has the shape", B=np.zeros((1, 36), "f4"))
        self.refused(vledge.FormatError, "P has the shape", P=np.zeros((1, 36), "f4"))
        self.refused(
            vledge.FormatError, "R is float64, expected float32 as W is", R=np.zeros((1, 36, 9))
        )

    def test_inputs(self):
        self.fails(r"sequence_lens\[1\] is 8", sequence_lens=np.array([1, 8, 1, 1, 1], "i4"))
        self.fails(r"sequence_lens\[0\] is -1", sequence_lens=np.array([-1, 1, 1, 1, 1], "i4"))
        self.fails(r"sequence_lens has the shape \(4,\)", sequence_lens=np.ones(4, "i4"))
        self.fails("initial_h has the shape", initial_h=np.zeros((1, 4, 9), "f4"))
        self.fails("initial_c has the shape", initial_c=np.zeros((2, 5, 9), "f4"))
        self.fails("X has the shape", X=np.zeros((7, 5, 4), "f4"))
        self.fails("W has the shape", constant=(), W=np.zeros((1, 35, 6), "f4"))
