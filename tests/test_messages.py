# ruff: noqa: E501
"""What users are told when something is wrong: each message says what was found and what to write.

Read the right column as a stranger: whoever must look into the source to understand a line has
found a fault. Messages of single formats, operators and graphs are in those tests; what stands here
is what is met first.
"""

import contextlib
import io
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.cli import main as vledge_main
from vledge.shipped import japanese_vowels

FOLDER = japanese_vowels.folder()
PT, ONNX = FOLDER / "model.pt", FOLDER / "model.onnx"
X = np.zeros((5, 2, 3), np.float32)
FEED = {"x": np.zeros((1, 2, 12), np.float32), "lengths": np.array([2])}


def weights():
    return vledge.load_weights(PT)


def lstm():
    layer = nn.LSTM(3, 4)
    layer.load_state_dict({n: np.zeros(d.shape, d.dtype) for n, d in layer._declared.items()})
    return layer


def both_ways():
    return nn.GRU.from_weights(weights(), "rnn.")


def session():
    pytest.importorskip("onnx")
    return vledge.InferenceSession(ONNX)


def of_weight(kind, *shape):
    return kind.from_weights({"weight": np.zeros(shape, np.float32)})


def at_the_shell(*arguments):
    """What the command says, as an error."""
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard):
        status = vledge_main([str(argument) for argument in arguments])
    raise ValueError(heard.getvalue() if status else "it went well")


def three_axes():
    path = Path(tempfile.mkdtemp()) / "three.npy"
    np.save(path, np.zeros((2, 5, 12), np.float32))
    return at_the_shell("many", PT, path)


def node(op_type, opset, attributes, *names):
    """One node with these inputs, or with as many as it wants, as a model's load sees it."""
    from tests.graph.test_operator_attributes import load

    return load(op_type, attributes, opset, inputs=list(names) or None)


def only_a_sum():
    onnx = pytest.importorskip("onnx")
    from tests.streaming.test_sessions import built

    assert onnx
    return built([("ReduceSum", ["x"], ["y"], {})], [], {"x": ["T", 3]}, {"y": [1, 1]})


MESSAGES = {
    # weights into layers
    "a prefix without its dot": (lambda: nn.GRU.from_weights(weights(), prefix="rnn"), "no rnnweight_ih_l0, which a GRU has; there is rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0, ...; a prefix ends with its dot: prefix='rnn.'"),
    "another prefix": (lambda: nn.GRU.from_weights(weights(), prefix="encoder."), "did you mean prefix='rnn.'?"),
    "no prefix": (lambda: nn.GRU.from_weights(weights()), "no weight_ih_l0, which a GRU has; there is rnn.weight_ih_l0"),
    "a path for weights": (lambda: nn.LSTM.from_weights("model.pt"), "weights is the path 'model.pt', expected a dict of arrays: vledge.load_weights('model.pt') gives it"),
    "a Path for weights": (lambda: nn.Linear.from_weights(Path("m.pt")), "weights is the path 'm.pt', expected a dict of arrays"),
    "a path for a state_dict": (lambda: lstm().load_state_dict("model.pt"), "weights is the path 'model.pt', expected a dict of arrays"),
    "a list for weights": (lambda: nn.LSTM.from_weights([X]), "weights is a list, expected a dict of arrays by name"),
    "an LSTM from a GRU's weights": (lambda: nn.LSTM.from_weights(weights(), "rnn."), "rnn.weight_hh_l0 has shape (144, 48): 3 gates of 48 units are those of GRU, not of LSTM (4): build it by nn.GRU.from_weights"),
    "an RNN from a GRU's weights": (lambda: nn.RNN.from_weights(weights(), "rnn."), "are those of GRU, not of RNN (1): build it by nn.GRU.from_weights"),
    "another layer's state_dict": (lambda: lstm().load_state_dict(weights()), "did you mean prefix='rnn.'?"),
    "a weight of another size": (lambda: lstm().load_state_dict({**lstm().state_dict(), "weight_ih_l0": np.zeros((16, 5), "f4")}), "size mismatch for weight_ih_l0: copying a param with shape (16, 5) from checkpoint, the shape in current model is (16, 3)"),
    "a layer without weights": (lambda: nn.LSTM(3, 4)(X), "LSTM has no weights yet: load them with load_state_dict() or build it with from_weights()"),
    # files
    "an LSTM from a graph of GRUs": (lambda: session() and nn.LSTM.from_onnx(ONNX), "the graph has no LSTM node; other recurrent nodes are 'rnn' (GRU): nn.GRU.from_onnx(path, 'rnn')"),
    "a layer from a graph without one": (lambda: nn.LSTM.from_onnx(only_a_sum()), "the graph has no LSTM node, and no other recurrent one: InferenceSession(path) runs the whole graph"),
    "a node that is not there": (lambda: session() and nn.GRU.from_onnx(ONNX, node="gru"), "the graph has no GRU node named 'gru'; it has 'rnn'. A node can also be named by one of its outputs"),
    "weights for a model": (lambda: vledge.InferenceSession(PT), "holds weights and no graph. Its recurrent layers are vledge.nn.LSTM, GRU and RNN: nn.LSTM.from_weights(vledge.load_weights(path))"),
    "a dict of weights for a model": (lambda: vledge.InferenceSession(weights()), "weights have no graph; nn.LSTM.from_weights(weights) makes a layer of them"),
    "a model for weights": (lambda: vledge.load_weights(ONNX), "it looks like an ONNX model: run it by vledge.InferenceSession(path)"),
    "a text for a model": (lambda: vledge.InferenceSession(__file__), "not an ONNX model, and none by `vledge convert`"),
    "a checkpoint for Keras": (lambda: nn.LSTM.from_keras(PT), "a file of Keras was expected, not torch archive (torch.save: .pt, .pth, .bin): its weights are read by"),
    "a dict for a file": (lambda: vledge.load_weights({}), "path is a dict, expected the name of a file or folder"),
    "a part that is not there": (lambda: vledge.load_weights(PT, key="state"), "no part 'state': the file holds 'rnn.weight_ih_l0'"),
    "a list to be saved": (lambda: vledge.save_weights("w.safetensors", [X]), "weights is a list, expected a dict of arrays by name"),
    "nothing to be saved": (lambda: vledge.save_weights("w.safetensors", {}), "there are no weights to save"),
    "a name of another format": (lambda: vledge.save_weights("o.pt", weights()), "o.pt: files named *.pt are torch's, and what is written is safetensors: name it o.safetensors"),
    # inputs of layers
    "float64 for float32": (lambda: lstm()(X.astype(float)), "input is float64 but the layer's weights are float32: pass input.astype(np.float32), or build the layer with dtype=np.float64"),
    "another number of features": (lambda: lstm()(X[..., :2]), "input.size(-1) must be equal to input_size. Expected 3, got 2"),
    "one axis": (lambda: lstm()(X[0, 0]), "LSTM: Expected input to be 2D or 3D, got 1D instead"),
    "None": (lambda: lstm()(None), "input is None, expected an array"),
    "a state for an LSTM": (lambda: lstm()(X, np.zeros((1, 2, 4), "f4")), "LSTM: hx must be a tuple (h_0, c_0), got a ndarray"),
    "a state of another batch": (lambda: lstm()(X, (np.zeros((1, 3, 4), "f4"),) * 2), "Expected hidden[0] size (1, 2, 4), got [1, 3, 4]"),
    "a length beyond the input": (lambda: lstm()(X, lengths=[9, 2]), "lengths[0] is 9 but the input has 5 time steps"),
    "too few lengths": (lambda: lstm()(X, lengths=[5]), "lengths must be 2 integers, one for each sequence, got shape [1] of int64"),
    "a strategy without lengths": (lambda: lstm()(X, strategy="packed"), "a padded array needs lengths [B] or a mask [B, T]"),
    "features of a Linear": (lambda: of_weight(nn.Linear, 4, 3)(X[..., :2]), "Linear: input has shape (5, 2, 2), expected [*, 3]"),
    "channels of a Conv1d": (lambda: of_weight(nn.Conv1d, 4, 3, 2)(X[0]), "Conv1d: input has shape (2, 3), expected [B, 3, T] or [3, T]"),
    "an index beyond the table": (lambda: of_weight(nn.Embedding, 4, 3)(np.array([5])), "index 5 is out of range in a table of 4 rows"),
    "an index that is no integer": (lambda: of_weight(nn.Embedding, 4, 3)(np.array([1.0])), "Embedding: expected integer indices, got dtype float64"),
    "training": (lambda: lstm().train(), "vledge runs trained models only; train with PyTorch"),
    "a GPU": (lambda: nn.LSTM(3, 4, device="cuda"), "vledge runs on the CPU only, not on device 'cuda'"),
    # steps and streams
    "a step of another size": (lambda: lstm().step(X[0, :, :2]), "x is float32 [2, 2], expected an array of float32 [batch, 3]"),
    "a step's state": (lambda: lstm().step(X[0], np.zeros((1, 2, 4), "f4")), "LSTM: state must be a tuple (h_0, c_0), got a ndarray"),
    "a step both ways": (lambda: both_ways().step(np.zeros((1, 12), "f4")), "needs the whole sequence; step() runs layers of one direction"),
    "a stream both ways": (lambda: both_ways().stream(), "with lookahead=N it begins N frames ahead, and the outputs come N frames late"),
    "a stream's frame": (lambda: lstm().stream().step(X[0]), "x is float32 [2, 3], expected an array of float32 [1, 3]"),
    # packing and plans
    "lengths out of order": (lambda: vledge.pack_padded_sequence(X, [2, 5]), "You can pass `enforce_sorted=False` to pack_padded_sequence"),
    "nothing to pack": (lambda: vledge.pack_sequence([]), "received an empty list of sequences"),
    "an array that is not packed": (lambda: vledge.pad_packed_sequence(X), "expected a PackedSequence, got ndarray"),
    "a plan for a path": (lambda: vledge.plan([1, 2], "m.pt"), "expected a recurrent layer, got the path 'm.pt': build it by nn.LSTM.from_weights(vledge.load_weights(path))"),
    "a plan for a length below 0": (lambda: vledge.plan([1, -2], lstm()), "lengths[1] is -2: lengths are whole numbers from 0"),
    "a plan for nothing": (lambda: vledge.plan([], lstm()), "there are no lengths to plan for"),
    "a plan for no steps": (lambda: vledge.plan([0, 0], lstm()), "all lengths are 0: there is nothing to run"),
    # sessions
    "an output's bare name": (lambda: session().run("logits", FEED), "output_names is 'logits', expected a list of names, or None for all: run(['logits'], feed)"),
    "an output that is not there": (lambda: session().run(["y"], FEED), "no output named 'y': there are ['logits']"),
    "an input that is missing": (lambda: session().run(None, {}), "Required inputs (['x', 'lengths']) are missing from input feed ([])."),
    "an input that is not there": (lambda: session().run(None, {**FEED, "z": 1}), "the model has no input named 'z': there are ['x', 'lengths']"),
    "inputs in a list": (lambda: session().run(None, [X]), "input_feed is a list, expected a dict with an array for each of ['x', 'lengths']"),
    "an input's dtype": (lambda: session().run(None, {**FEED, "x": FEED["x"].astype(float)}), "input 'x' has the dtype float64, expected tensor(float), which is float32"),
    "an input's shape": (lambda: session().run(None, {**FEED, "x": FEED["x"][..., :5]}), "input 'x' has the shape (1, 2, 5), expected 12 on axis 2: [B, T, 12]"),
    "providers": (lambda: vledge.InferenceSession(ONNX, providers="CPUExecutionProvider"), "providers must be a list of names, got 'CPUExecutionProvider'"),
    # arguments of layers
    "no hidden units": (lambda: nn.LSTM(3, 0), "hidden_size must be greater than zero, got 0"),
    "no layers": (lambda: nn.GRU(3, 4, 0), "num_layers must be greater than zero, got 0"),
    "units that are no number": (lambda: nn.LSTM(3, 4.0), "hidden_size should be of type int, got: float"),
    "a projection that is too wide": (lambda: nn.LSTM(3, 4, proj_size=4), "proj_size has to be smaller than hidden_size"),
    "half precision": (lambda: nn.LSTM(3, 4, dtype=np.float16), "layers run in float32 or float64, not"),
    "a nonlinearity": (lambda: nn.RNN(3, 4, nonlinearity="cube"), "cube"),
    "groups": (lambda: nn.Conv1d(3, 4, 1, groups=2), "in_channels and out_channels must be divisible by groups, got 3, 4 and groups=2"),
    "a padding's mode": (lambda: nn.Conv1d(3, 4, 1, padding_mode="wrap"), "padding_mode must be one of ['circular', 'reflect', 'replicate', 'zeros'], got 'wrap'"),
    "a padding index": (lambda: nn.Embedding(3, 4, padding_idx=3), "Padding_idx must be within num_embeddings, 3; got 3"),
    "an approximation": (lambda: nn.GELU("sigmoid"), "approximate argument must be either none or tanh, got 'sigmoid'"),
    "a bound": (lambda: nn.Hardtanh(1.0, 0.0), "max_val must be larger than min_val, got 0.0 and 1.0"),
    "a module without forward": (lambda: nn.Module()(X), "Module defines no forward()"),
    "a parameter that there is not": (lambda: lstm().get_parameter("w"), "LSTM has no parameter 'w'"),
    # states and lengths
    "half a state": (lambda: lstm()(X, (np.zeros((1, 2, 4), "f4"),)), "LSTM: hx must be a tuple (h_0, c_0), got a tuple of 1"),
    "two sources of a state": (lambda: vledge.initial_state(lstm(), 2, given=X, learned=X), "given and learned are given: a state comes from one of them"),
    "a state for how many": (lambda: vledge.initial_state(lstm()), "initial_state: say for how many sequences, initial_state(layer, sequences)"),
    "lengths and a mask": (lambda: lstm()(X, lengths=[5, 5], mask=np.ones((2, 5), bool)), "give lengths or a mask, not both"),
    "a mask of numbers": (lambda: lstm()(X, mask=np.ones((2, 5))), "mask must be of bool, True where data are, got float64"),
    "a mask of another shape": (lambda: lstm()(X, mask=np.ones((5, 2), bool)), "mask must have the shape [batch, time] = [2, 5], whatever batch_first is; got [5, 2]"),
    "a strategy that there is not": (lambda: lstm()(X, lengths=[5, 2], strategy="quick"), "strategy is 'quick', expected one of 'padded'"),
    "lengths of a list": (lambda: lstm()([X[:, 0]], lengths=[5]), "lengths and mask go with a padded array"),
    "an empty sequence": (lambda: lstm()(X, lengths=[5, 0]), "sequence 1 is empty, which torch refuses"),
    "semantics without lengths": (lambda: lstm()(X, semantics="keras"), "semantics: these go with lengths, a mask or a strategy, and none is given"),
    "semantics that there are not": (lambda: lstm()(X, lengths=[5, 2], semantics="caffe"), "semantics is 'caffe', expected a Semantics or one of"),
    # streams and plans
    "fewer than no streams": (lambda: lstm().stream(batch=-1), "a stream has 0 or more rows, got -1"),
    "a state of another stream": (lambda: setattr(lstm().stream(), "state", {"h": X}), "the state has ['c', 'h'], got ['h']"),
    "a state's shape": (lambda: setattr(lstm().stream(), "state", {"h": X, "c": X}), "expected float32 [1, 1, 4]"),
    "a row that there is not": (lambda: lstm().stream().reset([3]), "there is no row 3: the stream has 1"),
    "a chunk without time": (lambda: lstm().stream().push(X[0, 0]), "chunk is float32 [3], expected an array of float32"),
    "a plan's steps": (lambda: vledge.plan([3, 9], lstm(), steps=5), "steps is 5, below the longest length, 9"),
    "a plan for a Linear": (lambda: vledge.plan([3], of_weight(nn.Linear, 4, 3)), "Linear holds no LSTM, GRU, RNN or IndRNN"),
    "a stream of what keeps nothing": (lambda: nn.Sequential(nn.ReLU()).stream(), "Sequential has no recurrent layer and no convolution: there is no state that a stream could carry"),
    # the command
    "a file that is not there": (lambda: at_the_shell("inspect", "m.onnx"), "vledge: error: m.onnx: No such file or directory"),
    "a plan without its column": (lambda: at_the_shell("plan", __file__, "--column", "n", "--model", PT), "--column goes with a .csv file"),
    "an input that the model has not": (lambda: session() and at_the_shell("run", ONNX, "--input", "z=z.npy"), "the model has no input 'z': it has ['x', 'lengths']"),
    "an input's file": (lambda: session() and at_the_shell("run", ONNX, "--input", "x=x.npy"), "--input x=x.npy: there is no file x.npy"),
    "no inputs": (lambda: session() and at_the_shell("run", ONNX), "--input x=FILE, or --random for numbers of any kind"),
    "an option of graphs": (lambda: at_the_shell("convert", PT, "o.safetensors", "--force"), "--only and --force are for graphs, and"),
    "the model as its target": (lambda: session() and at_the_shell("convert", ONNX, ONNX), "is the model itself"),
    "a layer that is not there": (lambda: at_the_shell("run", PT, "--layer", "lstm", "--random"), "there is no recurrent layer 'lstm'; --layer has these:"),
    "no repeats": (lambda: at_the_shell("run", PT, "--random", "--repeats", "0"), "--repeats must be at least 1, got 0"),
    "a tolerance below 0": (lambda: at_the_shell("validate", PT, "--tolerance", "-1"), "--tolerance must be a number from 0, got -1"),
    "a model without its reference": (lambda: at_the_shell("validate", PT, "--reference", "none"), "none: No such file or directory"),
    "an option that there is not": (lambda: at_the_shell("run", PT, "--repeat-s", "3"), "vledge run: error: unrecognized arguments: --repeat-s 3; did you mean --repeats?"),
    "lengths that are no file": (lambda: at_the_shell("plan", "3,5", "--model", PT), "lengths come out of a file, or by `echo 3,5 | vledge plan -`"),
    "a name that is empty": (lambda: at_the_shell("run", "", "--random"), "vledge: error: '': No such file or directory"),
    "sequences of three axes": (three_axes, "sequence 0 (three) has shape [2, 5, 12], expected two axes, [steps, features], with at least one of each"),
    "a profile of no model": (lambda: at_the_shell("profile", __file__), "test_messages.py: a file of an unknown format"),
    "a profile of weights": (lambda: at_the_shell("profile", PT), "holds no graph, and `vledge profile` is for whole models"),
    # nodes of graphs, behind the model's path
    "an operator that there is not": (lambda: node("Nothing", 14, {}, "x"), "the Nothing node that makes 'y': the operator is not supported"),
    "an operator of a later set": (lambda: node("STFT", 16, {}, "x"), "the STFT node that makes 'y': the operator is not supported in operator set 16 (but in 17 up)"),
    "an attribute that there is not": (lambda: node("Relu", 14, {"alpha": 1.0}, "x"), "attribute alpha=1.0 is not supported (known: none)"),
    "an attribute beyond its range": (lambda: node("DepthToSpace", 13, {"blocksize": 0}), "the DepthToSpace node that makes 'y': blocksize is 0, expected 1 or more"),
    "an axis that no array has": (lambda: node("Softmax", 13, {"axis": 10**9}, "x"), "attribute axis is 1000000000: no array has so many axes"),
    "too few inputs of a node": (lambda: node("Gemm", 13, {}, "x"), "the node has 1 input, the operator 2 to 3"),
    "an input of a node that is absent": (lambda: node("Add", 14, {}, "", "x"), "input 0, counted from 0, is absent: the operator needs it"),
    "too many parts": (lambda: node("Split", 18, {"num_outputs": 3}, "x"), "num_outputs is 3, the node has 1 output"),
    "a random shape": (lambda: node("RandomNormal", 22, {"shape": [-1]}), "shape is [-1], expected sizes from 0"),
    "a layout": (lambda: node("LSTM", 14, {"layout": 2}), "layout is 2, expected 0 or 1"),
    # names
    "a layer's name": (lambda: vledge.LSTM, "module 'vledge' has no attribute 'LSTM': it is vledge.nn.LSTM"),
    "a layer that there is not": (lambda: nn.Transformer, "a torch module of any layers can run as a whole model, vledge.export("),
    "threads": (lambda: vledge.set_num_threads(0), "num_threads must be a whole number from 1 to 4,096, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MESSAGES)
def test_the_message_says_what_was_found_and_what_to_write(mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = MESSAGES[mistake]
    with pytest.raises(Exception) as told:
        call()
    assert message in str(told.value)
    assert not str(told.value).startswith(('"', "'"))  # as a bare KeyError shows it
    assert list(tmp_path.iterdir()) == []


def test_a_missing_weight_is_a_key_error_and_one_of_ours():
    with pytest.raises(KeyError):
        nn.GRU.from_weights(weights())
    with pytest.raises(vledge.VledgeError):
        nn.GRU.from_weights(weights())
    assert issubclass(vledge.MissingWeightError, KeyError)


def test_onnxruntimes_ways_to_ask(tmp_path):
    """No names or None are all outputs; options and bindings are taken."""
    made = session()
    expected = made.run(None, FEED)
    for names, more in (
        ([], {}),
        (["logits"], {}),
        (None, {"run_options": None}),
        ((), {"run_options": vledge.RunOptions()}),
    ):
        np.testing.assert_array_equal(made.run(names, FEED, **more)[0], expected[0])
    shutil.copy(ONNX, tmp_path / "model.onnx")
    options = {"providers": ["CPUExecutionProvider"], "provider_options": [{}]}
    again = vledge.InferenceSession(
        str(tmp_path / "model.onnx"), vledge.SessionOptions(), **options
    )
    binding = again.io_binding()
    for name, array in FEED.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("logits")
    again.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], expected[0])


# It says where, of an error or a problem that says what.
HANDS_ON = re.compile(r"\{[^}]*\b(error|problems?|why)\b[^}]*\}")


def test_no_message_is_a_bare_value():
    """Each has words of its own, or is made by a function that has them."""
    from tools.messages import messages

    every = list(messages())
    assert len(every) > 900
    bare = [
        f"{message.where}: {message.template}"
        for message in every
        if message.template is not None
        and message.error.endswith("Error")  # not a function that adds to what it is given
        and len(message.words) < 2
        and "expected" not in message.words
        and not HANDS_ON.search(message.template)
    ]
    assert bare == []


def test_a_template_keeps_the_words_that_every_message_has(tmp_path):
    from tools.messages import messages

    (tmp_path / "m.py").write_text(
        "raise KeyError(name)\n"
        "raise ValueError(f'{name} is {len({1: 2})}, ' + 'expected two')\n"
        "raise ValueError('file', f'{name}')\n"
    )
    found = list(messages(tmp_path))
    assert [message.template for message in found] == [
        None,
        "{name} is {len((1: 2))}, expected two",
        "{name}",
    ]
    assert found[1].words == ["is", "expected", "two"]


def test_a_plan_names_the_strategies_that_it_has():
    plan = vledge.plan([3, 1], lstm())
    with pytest.raises(KeyError, match=r"no strategy 'quick' in this plan: there are \['"):
        plan["quick"]
