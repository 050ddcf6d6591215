"""Each preset against its ecosystem: torch, onnxruntime, Keras live; TF 1 by its written rule."""

import os
from dataclasses import replace

import numpy as np
import pytest

import vledge
from tests.lengths.cases import assert_same, each, make_layer, make_sequences, make_state, rectangle
from tests.peers import peer
from vledge import nn
from vledge.lengths import PRESETS, Semantics

TOLERANCE = 3e-6
WITH_EMPTY = (5, 0, 9, 3, 0, 1)
HOLES = np.array(
    [
        [1, 1, 0, 1, 0, 0, 1, 1],  # inside
        [0, 0, 1, 1, 1, 0, 1, 0],  # at both ends
        [1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 0, 0, 0, 0, 0],  # a length
    ],
    bool,
)


def strategies(bidirectional=False):
    names = ("padded", "packed", "masked", "bucketed")
    return names if bidirectional else (*names, "lanes")


def rectangle_of(lengths, steps=10):
    generator = np.random.default_rng(3)
    return generator.standard_normal((len(lengths), steps, 5)).astype("f4")


# ---- torch


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_relu"])
def test_torch(kind, bidirectional):
    torch = peer("torch")
    rnn = torch.nn.utils.rnn
    ours = make_layer(kind, 2, bidirectional)
    options = {"nonlinearity": kind[4:]} if kind.startswith("rnn") else {}
    theirs = getattr(torch.nn, type(ours).__name__)(
        5, 7, 2, batch_first=True, bidirectional=bidirectional, **options
    )
    theirs.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
    lengths = (5, 2, 9, 3, 9, 1)
    x, hx = rectangle_of(lengths), make_state(ours, len(lengths))
    with torch.no_grad():
        packed = rnn.pack_padded_sequence(
            torch.from_numpy(x), torch.tensor(lengths), True, enforce_sorted=False
        )
        output, state = theirs(packed, each(hx, torch.from_numpy))
        want = rnn.pad_packed_sequence(output, batch_first=True)[0].numpy()
        state = each(state, lambda s: s.numpy())
    assert want.shape[1] == 9 < x.shape[1]
    for strategy in strategies(bidirectional):
        for semantics in (None, "torch", PRESETS["torch"]):
            got, end = ours(x, hx, lengths=lengths, strategy=strategy, semantics=semantics)
            assert_same(got, want, TOLERANCE)
            assert_same(end, state, TOLERANCE)


def test_torch_refuses_an_empty_sequence():
    torch = peer("torch")
    with pytest.raises(RuntimeError, match="greater than 0"):
        torch.nn.utils.rnn.pack_padded_sequence(
            torch.zeros(2, 3, 5), torch.tensor([3, 0]), True, enforce_sorted=False
        )
    layer = make_layer("gru")
    for strategy in strategies():
        with pytest.raises(ValueError, match="sequence 1 is empty"):
            layer(rectangle_of((3, 0)), lengths=(3, 0), strategy=strategy)


# ---- onnxruntime

ONNX_ROWS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def onnx_model(layer, kind):
    """One recurrent node with the layer's weights, its outputs Y, Y_h and, of an LSTM, Y_c."""
    from tests.graph.models import model_bytes, node

    suffixes = ("l0", "l0_reverse") if layer.bidirectional else ("l0",)

    def rows(name):
        gates = np.split(getattr(layer, name), len(ONNX_ROWS[kind]))
        return np.concatenate([gates[g] for g in ONNX_ROWS[kind]])

    weights = {
        "W": np.stack([rows(f"weight_ih_{s}") for s in suffixes]),
        "R": np.stack([rows(f"weight_hh_{s}") for s in suffixes]),
        "B": np.stack(
            [np.concatenate((rows(f"bias_ih_{s}"), rows(f"bias_hh_{s}"))) for s in suffixes]
        ),
    }
    states = ["initial_h", "initial_c"] if kind == "lstm" else ["initial_h"]
    outputs = ["Y", "Y_h", "Y_c"][: len(states) + 1]
    attributes = {"linear_before_reset": 1} if kind == "gru" else {}
    if layer.bidirectional:
        attributes["direction"] = "bidirectional"
    made = node(
        kind.upper(), ["X", "W", "R", "B", "lengths", *states], outputs, hidden_size=7, **attributes
    )
    inputs = {"X": np.zeros((0, 0, 0), "f4"), "lengths": np.zeros(0, "i4")}
    inputs.update({name: np.zeros((0, 0, 0), "f4") for name in states})
    return model_bytes([made], inputs, outputs, weights)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_onnx(kind, bidirectional):
    ort = peer("onnxruntime")
    layer = make_layer(kind, 1, bidirectional, batch_first=False)
    x, lengths = rectangle_of(WITH_EMPTY).swapaxes(0, 1).copy(), np.array(WITH_EMPTY)
    hx = make_state(layer, len(lengths))
    states = hx if isinstance(hx, tuple) else (hx,)
    feed = {"X": x, "lengths": lengths.astype("i4")}
    feed.update(zip(("initial_h", "initial_c"), states, strict=False))
    session = ort.InferenceSession(onnx_model(layer, kind), providers=["CPUExecutionProvider"])
    y, *ends = session.run(None, feed)
    want = y.swapaxes(1, 2).reshape(*x.shape[:2], -1)
    assert not ends[0][:, lengths == 0].any()
    for strategy in strategies(bidirectional):
        got, end = layer(x, hx, lengths=lengths, strategy=strategy, semantics="onnx")
        assert_same(got, want, 2e-5)
        assert_same(end if isinstance(end, tuple) else (end,), tuple(ends), 2e-5)


# ---- TF 1


def dynamic_rnn(layer, x, lengths, hx):
    """TF 1's rule: past a sequence's length zeros come out and the state is copied through."""
    outputs, state = [], hx
    for t in range(x.shape[1]):
        going = t < lengths
        y, after = layer.step(np.ascontiguousarray(x[:, t]), state)
        outputs.append(np.where(going[:, None], y, 0))
        pairs = zip(after, state, strict=True) if isinstance(hx, tuple) else [(after, state)]
        chosen = [np.where(going[:, None], new, old) for new, old in pairs]
        state = tuple(chosen) if isinstance(hx, tuple) else chosen[0]
    return np.stack(outputs, axis=1), state


def reverse_sequence(x, lengths):
    """TF 1's: the first steps of each row turned round, the rest left where they are."""
    turned = x.copy()
    for b, n in enumerate(lengths):
        turned[b, :n] = x[b, :n][::-1]
    return turned


def one_direction(layer, reverse):
    """Half of a bidirectional layer as a layer that runs forwards."""
    half = make_layer("lstm" if isinstance(layer, nn.LSTM) else "gru")
    end = "l0_reverse" if reverse else "l0"
    half.load_state_dict({n: getattr(layer, n.replace("l0", end)) for n in half.state_dict()})
    return half


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_tf1_dynamic_rnn(kind):
    layer, lengths = make_layer(kind, 2), np.array(WITH_EMPTY)
    x, hx = rectangle_of(lengths), make_state(layer, len(lengths))
    want, state = dynamic_rnn(layer, x, lengths, hx)
    assert_same(each(state, lambda s: s[:, 1]), each(hx, lambda s: s[:, 1]), 0)
    for strategy in strategies():
        got, end = layer(x, hx, lengths=lengths, strategy=strategy, semantics="tf1")
        assert_same(got, want, TOLERANCE)
        assert_same(end, state, TOLERANCE)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_tf1_bidirectional_dynamic_rnn(kind):
    layer, lengths = make_layer(kind, 1, bidirectional=True), np.array(WITH_EMPTY)
    x, hx = rectangle_of(lengths), make_state(layer, len(lengths))
    halves = [each(hx, lambda s, d=d: s[d : d + 1].copy()) for d in (0, 1)]
    forward, first = dynamic_rnn(one_direction(layer, False), x, lengths, halves[0])
    backward, second = dynamic_rnn(
        one_direction(layer, True), reverse_sequence(x, lengths), lengths, halves[1]
    )
    want = np.concatenate((forward, reverse_sequence(backward, lengths)), axis=2)
    for strategy in strategies(True):
        got, end = layer(x, hx, lengths=lengths, strategy=strategy, semantics="tf1")
        assert_same(got, want, TOLERANCE)
        pairs = zip(first, second, strict=True) if kind == "lstm" else [(first, second)]
        ends = tuple(np.concatenate(pair) for pair in pairs)
        assert_same(end, ends if kind == "lstm" else ends[0], TOLERANCE)


# ---- Keras


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    peer("torch")
    return peer("keras")


def keras_layer(keras, layer, kind, reverse=False, **options):
    """Keras' layer with our first layer's weights of one direction, called once to be built."""
    name = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "SimpleRNN"}[kind]
    theirs = getattr(keras.layers, name)(7, return_sequences=True, return_state=True, **options)
    theirs.build((None, None, 5))
    end = "l0_reverse" if reverse else "l0"
    parts = [getattr(layer, f"{n}_{end}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if kind == "gru":  # r, z, n is Keras' z, r, h
        parts = [np.concatenate([np.split(p, 3)[g] for g in (1, 0, 2)]) for p in parts]
    bias = np.stack(parts[2:]) if kind == "gru" else parts[2] + parts[3]
    theirs.set_weights([parts[0].T, parts[1].T, bias])
    return theirs


def keras_run(keras, theirs, x, mask, states):
    # cuDNN's path wants masks without holes, and no GPU runs tests
    outputs = theirs(x, mask=mask, initial_state=[s.copy() for s in states])
    output, *ends = (keras.ops.convert_to_numpy(o) for o in outputs)
    return output, ends


@pytest.mark.parametrize("zero_output_for_mask", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_keras_mask_with_holes(keras, kind, zero_output_for_mask):
    layer = make_layer(kind)
    x, hx = rectangle_of(HOLES, 8), make_state(layer, len(HOLES))
    states = [s[0] for s in (hx if kind == "lstm" else (hx,))]
    theirs = keras_layer(keras, layer, kind, zero_output_for_mask=zero_output_for_mask)
    want, ends = keras_run(keras, theirs, x, HOLES, states)
    for strategy in (None, *strategies()):
        got, end = layer(
            x, hx, mask=HOLES, strategy=strategy, zero_output_for_mask=zero_output_for_mask
        )
        assert_same(got, want, TOLERANCE)
        assert_same([s[0] for s in (end if kind == "lstm" else (end,))], ends, TOLERANCE)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_keras_lengths_repeat_the_last_output(keras, kind):
    layer, lengths = make_layer(kind), np.array([5, 2, 9, 1])
    x, hx = rectangle_of(lengths), make_state(layer, len(lengths))
    states = [s[0] for s in (hx if kind == "lstm" else (hx,))]
    mask = np.arange(10) < lengths[:, None]
    want, _ = keras_run(keras, keras_layer(keras, layer, kind), x, mask, states)
    assert np.array_equal(want[1, 2:], np.repeat(want[1, 1:2], 8, axis=0))
    for strategy in (None, *strategies()):
        got, _ = layer(x, hx, lengths=lengths, strategy=strategy, semantics="keras")
        assert_same(got, want, TOLERANCE)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_keras_bidirectional(keras, kind):
    layer = make_layer(kind, bidirectional=True)
    x = rectangle_of(HOLES, 8)
    theirs = keras.layers.Bidirectional(
        keras_layer(keras, layer, kind),
        backward_layer=keras_layer(keras, layer, kind, reverse=True, go_backwards=True),
    )
    theirs.build((None, None, 5))
    for own, reverse in ((theirs.forward_layer, False), (theirs.backward_layer, True)):
        own.set_weights(keras_layer(keras, layer, kind, reverse).get_weights())
    want, *ends = (keras.ops.convert_to_numpy(o) for o in theirs(x, mask=HOLES))
    count = len(ends) // 2
    state = tuple(np.stack((ends[i], ends[count + i])) for i in range(count))
    for strategy in (None, *strategies(True)):
        got, end = layer(x, mask=HOLES, strategy=strategy)
        assert_same(got, want, TOLERANCE)
        assert_same(end if kind == "lstm" else (end,), state, TOLERANCE)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_keras_go_backwards(keras, kind):
    """A layer that only runs backwards leaves its output in the order of processing."""
    layer = make_layer(kind, bidirectional=True)
    x, hx = rectangle_of(HOLES, 8), make_state(layer, len(HOLES))
    states = [s[1] for s in (hx if kind == "lstm" else (hx,))]
    theirs = keras_layer(keras, layer, kind, reverse=True, go_backwards=True)
    want, ends = keras_run(keras, theirs, x, HOLES, states)
    rules = replace(PRESETS["keras"], order="processing")
    got, end = layer(x, hx, mask=HOLES, semantics=rules)
    assert_same(got[..., 7:], want, TOLERANCE)
    assert_same([s[1] for s in (end if kind == "lstm" else (end,))], ends, TOLERANCE)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_repeat_state_shows_the_initial_state_before_the_first_step(bidirectional):
    """The rule of Keras' JAX and NumPy backends: it differs from repeat_output there only."""
    layer = make_layer("gru", 2, bidirectional)
    x, hx = rectangle_of(HOLES, 8), make_state(layer, len(HOLES))
    outputs, _ = layer(x, hx, mask=HOLES, semantics=PRESETS["keras"])
    rules = replace(PRESETS["keras"], fill="repeat_state")
    states, _ = layer(x, hx, mask=HOLES, semantics=rules)
    last = hx[-2:] if bidirectional else hx[-1:]
    before = np.maximum.accumulate(HOLES, axis=1) == 0
    after = np.maximum.accumulate(HOLES[:, ::-1], axis=1)[:, ::-1] == 0
    for d, none_yet in enumerate((before, after)[: len(last)]):
        half = slice(7 * d, 7 * d + 7)
        want = np.where(none_yet[..., None], last[d][:, None], outputs[..., half])
        assert_same(states[..., half], want, 0)
        assert not outputs[..., half][none_yet].any()


# ---- the switches


@pytest.mark.parametrize("strategy", strategies())
def test_a_batch_of_empty_sequences_only(strategy):
    layer, lengths = make_layer("lstm"), (0, 0)
    hx = make_state(layer, 2)
    x = rectangle_of(lengths)
    for semantics, state in (("tf1", hx), ("onnx", each(hx, np.zeros_like)), ("keras", hx)):
        output, end = layer(x, hx, lengths=lengths, strategy=strategy, semantics=semantics)
        assert output.shape == (2, 10, 7)
        assert not output.any()
        assert_same(end, state, 0)
    assert end[0] is not hx[0]


def test_empty_arrays_in_a_list():
    layer, sequences = make_layer("gru"), make_sequences((3, 0, 2))
    output, state = layer(sequences, strategy="packed", semantics="tf1")
    assert [len(o) for o in output] == [3, 0, 2]
    assert not state[:, 1].any()
    with pytest.raises(ValueError, match="sequence 1 is empty"):
        layer(sequences, strategy="packed")


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"fill": "nothing"}, "fill is 'nothing', expected one of 'zero'"),
        ({"steps": 3}, "steps is 3, expected one of 'longest', 'input'"),
        ({"fill": "repeat_output"}, 'fill="repeat_output" needs reverse="whole"'),
        ({"fill": "repeat_state", "reverse": "whole", "empty": "zero"}, 'which empty="zero" drops'),
        ({"reverse": "whole", "steps": "longest"}, 'which steps="longest" cuts off'),
        ({"order": "processing"}, 'order="processing" is defined for reverse="whole" only'),
    ],
)
def test_unknown_combinations_raise(switches, message):
    with pytest.raises(ValueError, match=message):
        Semantics(**switches)


def test_wrong_arguments():
    layer, x = make_layer("gru"), rectangle_of((3, 2))
    for arguments, message in (
        ({"lengths": (3, 2), "semantics": "pytorch"}, "semantics is 'pytorch', expected"),
        ({"lengths": (3, 2), "strategy": "paked"}, "strategy is 'paked', expected one of 'padded'"),
        ({"lengths": (3, 11)}, r"lengths\[1\] is 11 but the input has 10 time steps"),
        ({"lengths": (-1, 3)}, r"lengths\[0\] is -1"),
        ({"lengths": (3,)}, "lengths must be 2 integers"),
        ({"lengths": (3.0, 2.0)}, "lengths must be 2 integers.*float64"),
        ({"strategy": "packed"}, "a padded array needs lengths"),
        ({"mask": np.ones((2, 10))}, "mask must be of bool"),
        ({"mask": np.ones((10, 2), bool)}, r"\[batch, time\] = \[2, 10\]"),
        ({"mask": np.ones((2, 10), bool), "lengths": (1, 2)}, "lengths or a mask, not both"),
        ({"mask": np.ones((2, 10), bool), "semantics": "torch"}, "a mask has none"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(x, **arguments)
    with pytest.raises(TypeError, match="semantics: these go with lengths"):
        layer(x, semantics="torch")
    with pytest.raises(TypeError, match="rows: not an option of strategy='padded'"):
        layer(x, lengths=(3, 2), rows=3)
    with pytest.raises(ValueError, match="2 dimension"):
        layer(x[0], lengths=(3,))
    with pytest.raises(ValueError, match="empty list"):
        layer([], strategy="packed")
    with pytest.raises(ValueError, match="have no masked steps"):
        layer(make_sequences((3, 2)), strategy="masked")
    packed = vledge.pack_sequence(make_sequences((3, 2)))
    with pytest.raises(ValueError, match="lengths of their own"):
        layer(packed, lengths=(3, 2))


@pytest.mark.parametrize("strategy", strategies())
def test_a_wrong_state_is_refused(strategy):
    layer, x = make_layer("lstm"), rectangle_of((3, 2))
    h, c = make_state(layer, 2)
    run = {"lengths": (3, 2), "strategy": strategy}
    with pytest.raises(TypeError, match=r"hx must be a tuple \(h_0, c_0\)"):
        layer(x, h, **run)
    with pytest.raises(
        RuntimeError, match=r"Expected hidden\[1\] size \(1, 2, 7\), got \[1, 1, 7\]"
    ):
        layer(x, (h, c[:, :1]), **run)
    with pytest.raises(ValueError, match="h_0"):
        layer(x, (h.astype("f8"), c), **run)


def test_what_is_past_the_end_never_counts():
    """NaN in the padding: rectangle() is full of it, and a mask's holes are here."""
    layer = make_layer("lstm", 2)
    sequences = make_sequences((4, 1, 6))
    got, _ = layer(rectangle(sequences), lengths=(4, 1, 6), strategy="masked", semantics="onnx")
    assert np.isfinite(got).all()
    x = rectangle_of(HOLES, 8)
    want, state = layer(x, mask=HOLES)
    x[~HOLES] = np.nan
    got, end = layer(x, mask=HOLES)
    assert_same(got, want, 0)
    assert_same(end, state, 0)
