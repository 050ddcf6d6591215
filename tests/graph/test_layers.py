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
    with pytest.raises(ValueError, match=r"the graph has no GRU node"):
        vledge.nn.GRU.from_onnx(model)


@pytest.mark.parametrize(
    ("op_type", "attributes", "match"),
    [
        ("LSTM", {"direction": "reverse"}, "forward or both ways"),
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
    with pytest.raises(vledge.UnsupportedError, match="computed when the model runs"):
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


# ---- names are the file's, whatever the passes do to the graph


def gru_weights(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"W": (1, 3 * HIDDEN, 3), "R": (1, 3 * HIDDEN, HIDDEN)}
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


X = np.random.default_rng(5).standard_normal((4, 2, 3)).astype(np.float32)
ZERO, YES = np.array(0, np.float32), np.array(True)
GRU = {"hidden_size": HIDDEN, "linear_before_reset": 1}


def inner(*nodes):
    outputs = [onnx_helper().make_tensor_value_info(nodes[-1].output[0], 0, None)]
    return onnx_helper().make_graph(list(nodes), "inner", [], outputs)


def onnx_helper():
    return peer("onnx").helper


def gru(outputs, x="X", w="W", name=""):
    return node("GRU", [x, w, "R"], list(outputs), name=name, **GRU)


def found_in_file():
    """A graph -> names by which its one GRU is to be found."""
    h = onnx_helper()
    scan_body = h.make_graph(
        [gru(["Y", "Yh"], x="x3"), node("Identity", ["Yh"], ["out"])], "body",
        [h.make_tensor_value_info("x3", 1, [4, 2, 3])], [h.make_tensor_value_info("out", 1, None)],
    )  # fmt: skip
    return {
        "an output that is declared and unused": ([gru(["Y", "Yh"])], ["Yh"], ["Y", "Yh"]),
        "a node that nobody uses": (
            [gru(["Y", "Yh"], name="n"), node("Neg", ["X"], ["z"])], ["z"], ["Y", "Yh", "n"],
        ),
        "behind an Identity": (
            [gru(["Y", "Yh"]), node("Identity", ["Y"], ["Z"])], ["Z"], ["Y"],
        ),
        "weights behind nodes": (
            [node("Identity", ["W"], ["W1"]), node("Add", ["W1", "zero"], ["W2"]),
             gru(["Y"], w="W2")], ["Y"], ["Y"],
        ),
        "in the branch taken": (
            [node("If", ["yes"], ["Z"], then_branch=inner(gru(["Y", "Yh"], name="n")),
                  else_branch=inner(node("Neg", ["X"], ["q"])))], ["Z"], ["Y", "Yh", "n"],
        ),
        "in a branch that is not taken": (
            [node("If", ["yes"], ["Z"], then_branch=inner(node("Neg", ["X"], ["q"])),
                  else_branch=inner(node("Add", ["W", "zero"], ["V"]),
                                    gru(["Y", "Yh"], w="V", name="n")))],
            ["Z"], ["Y", "Yh", "n"],
        ),
        "in a branch chosen at run time": (
            [node("If", ["condition"], ["Z"], then_branch=inner(node("Neg", ["X"], ["q"])),
                  else_branch=inner(gru(["Y", "Yh"])))], ["Z"], ["Y", "Yh"],
        ),
        "all that it needs is constant": ([gru(["Y", "Yh"], x="known")], ["Yh"], ["Y", "Yh"]),
        "in a Scan": (
            [node("Unsqueeze", ["X", "at"], ["X4"]),
             node("Scan", ["X4"], ["Z"], body=scan_body, num_scan_inputs=1)], ["Z"], ["Y", "Yh"],
        ),
        "its output's name has been taken before, in another graph": (
            [node("If", ["condition"], ["Z1"], then_branch=inner(node("Neg", ["X"], ["Y"])),
                  else_branch=inner(node("Abs", ["X"], ["Y"]))),
             node("If", ["condition"], ["Z2"], then_branch=inner(gru(["Y", "Yh"])),
                  else_branch=inner(node("Abs", ["X"], ["q"])))], ["Z1", "Z2"], ["Y", "Yh"],
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", found_in_file())
def test_a_node_is_found_by_what_the_file_calls_it(case):
    nodes, outputs, names = found_in_file()[case]
    weights = gru_weights()
    known = {"zero": ZERO, "yes": YES, "known": X, "at": np.array([0]), **weights}
    model = model_bytes(nodes, {"X": X, "condition": YES}, outputs, known)
    alone = model_bytes([gru(["Y"])], {"X": X}, ["Y"], weights)
    (wanted,) = vledge.InferenceSession(alone).run(None, {"X": X})
    for name in [*names, None]:
        layer = vledge.nn.GRU.from_onnx(model, name)
        np.testing.assert_array_equal(layer(X)[0], wanted[:, 0])
    with pytest.raises(ValueError, match=r"no GRU node named ''; it has"):
        vledge.nn.GRU.from_onnx(model, "")
    with pytest.raises(ValueError, match="is no LSTM"):
        vledge.nn.LSTM.from_onnx(model, names[0])


def test_a_name_that_two_graphs_have():
    branches = {"then_branch": inner(gru(["Y"])), "else_branch": inner(gru(["Y"], w="V"))}
    known = {**gru_weights(), "V": gru_weights(1)["W"]}
    model = model_bytes(
        [node("If", ["yes"], ["Z"], **branches)], {"X": X, "yes": YES}, ["Z"], known
    )
    with pytest.raises(ValueError, match=r"more than one GRU .* 'Y': name it 'Y~1' or 'Y~2'"):
        vledge.nn.GRU.from_onnx(model, "Y")
    # onnx.helper puts the else_branch first in the file
    second, first = (vledge.nn.GRU.from_onnx(model, f"Y~{number}") for number in (1, 2))
    session = vledge.InferenceSession(model)
    (taken,) = session.run(None, {"X": X, "yes": YES})
    (other,) = session.run(None, {"X": X, "yes": ~YES})
    np.testing.assert_array_equal(first(X)[0], taken[:, 0])
    np.testing.assert_array_equal(second(X)[0], other[:, 0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_cell_that_was_taken_apart_is_a_layer(kind, tmp_path):
    """`vledge inspect` lists it, and by that name it is found."""
    torch = peer("torch")
    torch.manual_seed(0)
    cell = getattr(torch.nn, f"{kind}Cell")(3, 4)
    x, h = torch.randn(2, 3), torch.zeros(2, 4)
    states = (x, (h, h)) if kind == "LSTM" else (x, h)
    torch.onnx.export(cell, states, tmp_path / "cell.onnx", dynamo=False)
    (summary,) = summaries(simplified(read_model(tmp_path / "cell.onnx")))
    assert summary.kind == f"{kind}Cell"
    for name in (summary.name, None):
        layer = getattr(vledge.nn, kind).from_onnx(tmp_path / "cell.onnx", name)
        for part in ("weight_ih", "weight_hh"):
            np.testing.assert_array_equal(
                layer.state_dict()[f"{part}_l0"], getattr(cell, part).detach().numpy()
            )
        with torch.no_grad():  # the biases' sums, however they are shared out
            wanted = cell(*states)
        (y, *_) = layer(x.numpy()[None])
        wanted = wanted[0] if kind == "LSTM" else wanted
        np.testing.assert_allclose(y[0], wanted.numpy(), rtol=0, atol=1e-6)


def test_a_quantized_node_is_refused_for_the_true_reason():
    arrays = {
        "W": np.ones((1, 3, 8), np.uint8), "R": np.ones((1, 2, 8), np.uint8),
        "ws": np.ones(1, np.float32), "wz": np.zeros(1, np.uint8),
        "rs": np.ones(1, np.float32), "rz": np.zeros(1, np.uint8),
    }  # fmt: skip
    inputs = ["X", "W", "R", "", "", "", "", "", "ws", "wz", "rs", "rz"]
    nodes = [node("DynamicQuantizeLSTM", inputs, ["Y", "Yh"], domain="com.microsoft")]
    model = model_bytes(nodes, {"X": X}, ["Yh"], arrays, domains=["com.microsoft"])
    (summary,) = summaries(simplified(read_model(model)))
    assert summary.kind == "DynamicQuantizeLSTM"
    for name in (summary.name, "Y", "Yh"):
        with pytest.raises(
            vledge.UnsupportedError, match=r"DynamicQuantizeLSTM.*: its weights are integers"
        ):
            vledge.nn.LSTM.from_onnx(model, name)
    with pytest.raises(ValueError, match=r"the graph has no LSTM node.*\(DynamicQuantizeLSTM\)"):
        vledge.nn.LSTM.from_onnx(model)


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
