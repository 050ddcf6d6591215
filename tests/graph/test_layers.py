"""Recurrent layers taken out of ONNX graphs: `vledge.nn.LSTM.from_onnx` and its siblings."""

from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.recurrent_definition import run as run_definition
from tests.graph.test_recurrent import HIDDEN, make_inputs, make_model
from tests.peers import peer
from vledge.formats.vledge_model import write
from vledge.graph.layers import summaries
from vledge.graph.plan import simplified
from vledge.graph.session import read_model

JAPANESE_VOWELS = Path(__file__).parents[2] / "models" / "japanese_vowels" / "model.onnx"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
def test_layer_gives_what_the_node_gives(op_type, direction, bias, dtype):
    inputs = make_inputs(op_type, direction, states=True, bias=bias, dtype=dtype)
    attributes = {"direction": direction} | ({"linear_before_reset": 1} if op_type == "GRU" else {})
    model, feed = make_model(op_type, inputs, attributes)
    expected = vledge.InferenceSession(model).run(None, feed)
    layer = getattr(vledge.nn, op_type).from_onnx(model)
    assert layer.bias == bias
    states = feed["initial_h"]
    if op_type == "LSTM":
        states = (states, feed["initial_c"])
    output, final = layer(feed["X"], states)
    steps, directions, sequences, size = expected[0].shape
    y = expected[0].transpose(0, 2, 1, 3).reshape(steps, sequences, directions * size)
    np.testing.assert_array_equal(output, y)
    finals = final if op_type == "LSTM" else (final,)
    for ours, theirs in zip(finals, expected[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_relu_and_batch_first_are_kept():
    inputs = make_inputs("RNN", layout=1)
    model, feed = make_model("RNN", inputs, {"activations": ["Relu"], "layout": 1})
    layer = vledge.nn.RNN.from_onnx(model, node="rnn")
    assert layer.nonlinearity == "relu"
    assert layer.batch_first
    y, _ = vledge.InferenceSession(model).run(None, feed)
    np.testing.assert_array_equal(layer(feed["X"])[0], y[:, :, 0])


def stack():
    """Two layers, one on top of the other, the second's weights put together in the graph."""
    first = make_inputs("LSTM")
    rng = np.random.default_rng(1)
    halves = rng.uniform(-0.5, 0.5, (2, 1, 2 * HIDDEN, HIDDEN)).astype(np.float32)
    constants = {name: first[name] for name in "WRB"} | {"w0": halves[0], "w1": halves[1]}
    nodes = [
        node("LSTM", ["X", "W", "R", "B"], ["Y"], name="lstm1", hidden_size=HIDDEN),
        node("Concat", ["w0", "w1"], ["W2"], axis=1),
        node("Constant", [], ["axes"], value_ints=[1]),
        node("Squeeze", ["Y", "axes"], ["s"]),
        node("LSTM", ["s", "W2", "R", "B"], ["Y2"], name="lstm2", hidden_size=HIDDEN),
    ]
    return model_bytes(nodes, {"X": first["X"]}, ["Y2"], constants), first["X"]


def test_nodes_by_name_by_output_and_as_a_stack():
    model, x = stack()
    (expected,) = vledge.InferenceSession(model).run(None, {"X": x})
    both = vledge.nn.LSTM.from_onnx(model, node=["lstm1", "Y2"])
    assert both.num_layers == 2
    np.testing.assert_array_equal(both(x)[0], expected[:, 0])
    first = vledge.nn.LSTM.from_onnx(model, node="lstm1")
    second = vledge.nn.LSTM.from_onnx(model, node="lstm2")
    np.testing.assert_array_equal(second(first(x)[0])[0], expected[:, 0])


def test_the_shipped_model():
    layer = vledge.nn.GRU.from_onnx(JAPANESE_VOWELS)
    weights = vledge.load_weights(JAPANESE_VOWELS.with_name("model.pt"))
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, weights[f"rnn.{name}"])


def test_torch_s_export(tmp_path):
    peer("torch")
    from tests.graph.torch_export import Network, Spec, export

    spec = Spec("LSTM", 2, True, False)
    export(spec, tmp_path / "network.onnx", dynamo=False)
    model = read_model(tmp_path / "network.onnx")
    names = [layer.name for layer in summaries(simplified(model))]
    layer = vledge.nn.LSTM.from_onnx(tmp_path / "network.onnx", node=names)
    for name, tensor in Network(spec).rnn.state_dict().items():
        np.testing.assert_array_equal(layer.state_dict()[name], tensor.numpy())


def test_the_gru_that_resets_before():
    """linear_before_reset=0, the operator's default, which torch has not."""
    model, feed = make_model(
        "GRU", make_inputs("GRU", "bidirectional", states=True), {"direction": "bidirectional"}
    )
    expected = vledge.InferenceSession(model).run(None, feed)
    layer = vledge.nn.GRU.from_onnx(model)
    assert not layer.reset_after
    output, h_n = layer(feed["X"], feed["initial_h"])
    np.testing.assert_array_equal(output, np.concatenate([*expected[0].transpose(1, 0, 2, 3)], -1))
    np.testing.assert_array_equal(h_n, expected[1])


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(
    ("op_type", "activations", "options", "written"),
    [
        (
            "LSTM",
            ["HardSigmoid", "Softsign", "Softsign"],
            {},
            {"recurrent_activation": ("hard_sigmoid", 0.2, 0.5), "activation": "softsign"},
        ),
        (
            "GRU",
            ["HardSigmoid", "Tanh"],
            {"activation_alpha": [0.25], "activation_beta": [0.4], "linear_before_reset": 1},
            {"recurrent_activation": ("hard_sigmoid", 0.25, 0.4), "activation": "tanh"},
        ),
        (
            "GRU",
            ["Sigmoid", "ScaledTanh"],
            {"activation_alpha": [1.5], "activation_beta": [0.5]},
            {"recurrent_activation": "sigmoid", "activation": ("scaled_tanh", 1.5, 0.5)},
        ),
        ("RNN", ["Elu"], {}, {"nonlinearity": "elu"}),
        ("RNN", ["Relu"], {}, {"nonlinearity": "relu"}),
    ],
)
def test_activations_of_its_own(op_type, activations, options, written, direction):
    count = 2 if direction == "bidirectional" else 1
    attributes = {"direction": direction, "activations": activations * count}
    for name, value in options.items():
        attributes[name] = value if isinstance(value, int) else value * count
    model, feed = make_model(op_type, make_inputs(op_type, direction, states=True), attributes)
    expected = vledge.InferenceSession(model).run(None, feed)
    (summary,) = summaries(simplified(read_model(model)))
    assert summary.path == "kernel"
    layer = getattr(vledge.nn, op_type).from_onnx(model)
    for name, value in written.items():
        got = getattr(layer, name)
        assert np.allclose(got[1:], value[1:]) if isinstance(value, tuple) else got == value
    state = feed["initial_h"]
    if op_type == "LSTM":
        state = state, feed["initial_c"]
    output, _ = layer(feed["X"], state)
    np.testing.assert_array_equal(output, np.concatenate([*expected[0].transpose(1, 0, 2, 3)], -1))


def test_which_node_is_meant():
    model, _ = stack()
    with pytest.raises(ValueError, match=r"2 LSTM nodes \('lstm1', 'lstm2'\): name one"):
        vledge.nn.LSTM.from_onnx(model)
    with pytest.raises(ValueError, match="no LSTM node named 'lstm3'"):
        vledge.nn.LSTM.from_onnx(model, node="lstm3")
    with pytest.raises(ValueError, match=r"0 GRU nodes \(none\)"):
        vledge.nn.GRU.from_onnx(model)


@pytest.mark.parametrize(
    ("op_type", "attributes", "match"),
    [
        ("LSTM", {"direction": "reverse"}, "only reverse"),
        ("LSTM", {"clip": 1.0}, "no clip"),
        ("LSTM", {"input_forget": 1}, "input_forget"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Relu"]}, "one activation in all"),
    ],
)
def test_what_no_layer_can_be(op_type, attributes, match):
    model, _ = make_model(op_type, make_inputs(op_type), attributes)
    with pytest.raises(vledge.UnsupportedError, match=rf"node 'rnn' \({op_type}\): .*{match}"):
        getattr(vledge.nn, op_type).from_onnx(model)


def test_weights_that_are_inputs():
    model, _ = make_model("LSTM", make_inputs("LSTM"), {}, constant=())
    with pytest.raises(vledge.UnsupportedError, match="made at run time"):
        vledge.nn.LSTM.from_onnx(model)


def test_summaries():
    inputs = make_inputs("GRU", "bidirectional", lengths=np.ones(5, np.int32))
    model, _ = make_model("GRU", inputs, {"direction": "bidirectional", "clip": 2.0})
    (summary,) = summaries(simplified(read_model(model)))
    assert (summary.kind, summary.direction, summary.path) == ("GRU", "bidirectional", "generic")
    assert (summary.input_size, summary.hidden_size, summary.lengths) == (6, 9, True)
    assert summary.notes == ["clip=2.0"]
    model, _ = make_model("GRU", inputs, {"direction": "bidirectional"}, constant=())
    (summary,) = summaries(simplified(read_model(model)))
    assert (summary.input_size, summary.path) == (None, "kernel")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("op_type", ["LSTM", "GRU"])
def test_hard_sigmoid_goes_wherever_a_model_goes(op_type, dtype, tmp_path):
    """Our own format, strategies for lengths, a layer."""
    tail = ["Tanh", "Tanh"] if op_type == "LSTM" else ["Tanh"]
    attributes = {"activations": ["HardSigmoid", *tail]}
    lengths = np.array([3, 7, 0, 5, 7], np.int32)
    inputs = make_inputs(op_type, lengths=lengths, dtype=dtype)
    model, feed = make_model(op_type, inputs, attributes)
    session = vledge.InferenceSession(model)
    expected = session.run(None, feed)
    want = run_definition(op_type, inputs, attributes)
    tolerance = {np.float16: 2e-3, np.float32: 2e-6, np.float64: 1e-12}[dtype]
    for got, right in zip(expected, want, strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=tolerance)
    write(tmp_path / "own.safetensors", read_model(model))
    for again in (session, vledge.InferenceSession(tmp_path / "own.safetensors")):
        for strategy in (None, "packed", "lanes", "bucketed"):
            options = {} if strategy is None else {"strategy": strategy}
            for got, right in zip(again.run(None, feed, **options), expected, strict=True):
                np.testing.assert_allclose(got, right, rtol=0, atol=min(tolerance, 1e-6))
    layer = getattr(vledge.nn, op_type).from_onnx(tmp_path / "own.safetensors")
    assert layer.recurrent_activation == ("hard_sigmoid", 0.2, 0.5)
