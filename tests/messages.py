# ruff: noqa: E501
"""What users are told when something is wrong: each message says what was found and what to write.

Read the right column as a stranger: whoever must look into the source to understand a line has
found a fault. Messages of single formats, operators and graphs are in those tests; what stands here
is what is met first.
"""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

import vledge
from vledge import nn, validation
from vledge.cli import main as vledge_main
from vledge.shipped import japanese_vowels

FOLDER = japanese_vowels.folder()
PT, ONNX = FOLDER / "model.pt", FOLDER / "model.onnx"
BUNDLE = FOLDER / "classifier.reference.safetensors"
KERAS = Path(__file__).parent / "golden" / "keras" / "model.keras"
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


def file(name, content, **options):
    """What reading it says."""
    path = Path(tempfile.mkdtemp()) / name
    path.write_bytes(content)
    return vledge.load_weights(path, **options)


def safetensors(header, size):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def empty_folder():
    folder = Path(tempfile.mkdtemp())
    (folder / "notes.txt").touch()
    return folder


def threads():
    options = vledge.SessionOptions()
    options.intra_op_num_threads = -1
    return options


def table(**columns):
    import pyarrow as pa

    return pa.table(columns)


def scorer(*arguments, **options):
    pytest.importorskip("pyarrow")
    from vledge.integrations.arrow import Scorer

    return Scorer(*arguments, **options)


def plain(layer, **arrays):
    layer.load_state_dict({name: np.asarray(array, "f4") for name, array in arrays.items()})
    return layer


def batch_norm():
    ones = np.ones(3)
    return plain(nn.BatchNorm1d(3), weight=ones, bias=ones, running_mean=ones, running_var=ones)


def layer_norm():
    return plain(nn.LayerNorm(3), weight=np.ones(3), bias=np.ones(3))


def cell():
    layer = nn.GRUCell(3, 4)
    return plain(layer, **{name: np.zeros(one.shape) for name, one in layer._declared.items()})


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
    "torch's word for reading": (lambda: vledge.load("model.pt"), "module 'vledge' has no attribute 'load', a name of torch's: weights are read by vledge.load_weights(path)"),
    "torch's word for an array": (lambda: vledge.tensor([1]), "module 'vledge' has no attribute 'tensor', a name of torch's: arrays are NumPy's, and so is what works on them"),
    "a command that is not spelled right": (lambda: at_the_shell("inspct", "a.onnx"), "vledge: error: 'inspct' is no command; did you mean inspect?"),
    "a command that there is not": (lambda: at_the_shell("train"), "vledge: error: 'train' is no command; there are bench, calibrate, "),
    "a Keras model for a session": (lambda: vledge.InferenceSession(KERAS), "Keras archive (.keras) holds weights and no graph. Its recurrent layers are vledge.nn.LSTM, GRU and RNN: nn.LSTM.from_keras(path, name of the layer); a whole Keras model becomes one by model.export("),
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
    # small weights
    "one array to calibrate with": (lambda: vledge.quantize(lstm(), calibrate=X), "calibrate is one array [5, 2, 3], expected a list of inputs that the model is called with: [x]"),
    "a file to calibrate with": (lambda: vledge.quantize(lstm(), calibrate="data.npz"), "calibrate is str, expected a list of inputs that the model is called with: [x]"),
    "a number to calibrate with": (lambda: vledge.quantize(lstm(), calibrate=3), "calibrate is int, expected a list of inputs: [x]"),
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
    "a profile of no model": (lambda: at_the_shell("profile", __file__), "messages.py: a file of an unknown format"),
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
    # files of each format
    "a damaged archive": (lambda: file("m.pt", b"PK\x03\x04" + bytes(60)), "a zip archive without its end: the file is truncated"),
    "a truncated safetensors": (lambda: file("w.safetensors", (300).to_bytes(8, "little") + b"{"), "a header of 300 bytes in a file of 9"),
    "a safetensors without JSON": (lambda: file("w.safetensors", (8).to_bytes(8, "little") + b"{'a': 1}"), "the file's header is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    "a tensor beyond the file": (lambda: file("w.safetensors", safetensors({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, 8)), "tensor 'w': it lies at bytes 0 to 36, expected it to begin at 0 and to end by 8"),
    "a dtype that there is not": (lambda: file("w.safetensors", safetensors({"w": {"dtype": "F3", "shape": [2], "data_offsets": [0, 8]}}, 8)), "tensor 'w': dtype 'F3' is none of the format's"),
    "an empty file": (lambda: file("w.safetensors", b""), "the file is empty"),
    "a file of another kind": (lambda: file("w.pt", b"%PDF-1.7 and so on"), "a file of an unknown format, beginning with the bytes b'%PDF-1.7'. Weights are read from: torch archive (torch.save: .pt, .pth, .bin); "),
    "a damaged HDF5 file": (lambda: pytest.importorskip("h5py") and file("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(40)), "the HDF5 file is damaged or truncated: "),
    "a folder without weights": (lambda: vledge.load_weights(empty_folder()), "a folder without a file of weights or an index of them (*.safetensors, *.bin, *.index.json); it holds notes.txt"),
    "objects for weights": (lambda: file("w.npz", npz(w=np.array([{}], dtype=object))), "the file holds no weights, only 'w': an array of dtype object, which is none of numbers"),
    "a part of a .npz": (lambda: file("w.npz", npz(w=np.zeros(3)), key="w"), "key='w' names no part: a .npz file has only one"),
    "a file that costs too much": (lambda: vledge.load_weights(PT, limits=vledge.Limits(memory=1000)), "bytes of memory with what was read before; the limit that was set is 1,000 bytes. For a file that you trust: limits=vledge.Limits(memory="),
    "limits of another kind": (lambda: vledge.load_weights(PT, limits=1000), "limits is a value of the type int, expected vledge.Limits"),
    "a layer of a checkpoint's graph": (lambda: nn.LSTM.from_onnx(PT), "torch archive (torch.save: .pt, .pth, .bin) holds weights and no graph. Its recurrent layers are vledge.nn.LSTM, GRU and RNN: nn.LSTM.from_weights(vledge.load_weights(path)); a whole torch module becomes a model by vledge.export, where torch is"),
    # modules and functions
    "a child that there is not": (lambda: nn.Sequential(nn.ReLU()).get_submodule("a.b"), "Sequential has no sub-module 'a'"),
    "a place beyond a Sequential": (lambda: nn.Sequential(nn.ReLU())[3], "index 3 is out of range: there are 1"),
    "channels of a BatchNorm1d": (lambda: batch_norm()(np.zeros((2, 4, 5), "f4")), "BatchNorm1d: input has shape (2, 4, 5), expected [B, 3] or [B, 3, T]"),
    "a LayerNorm's shape": (lambda: layer_norm()(np.zeros((2, 4), "f4")), "LayerNorm: input has shape (2, 4), expected [*, 3]"),
    "a window longer than its input": (lambda: nn.MaxPool1d(9)(np.zeros((1, 2, 4), "f4")), "MaxPool1d: 4 steps, padded by 0, are fewer than the window of 9"),
    "a padding that is too wide": (lambda: nn.MaxPool1d(2, padding=2)(np.zeros((1, 2, 4), "f4")), "pad should be at most half of effective kernel size, but got pad=2, kernel_size=2"),
    "a text for an array": (lambda: nn.functional.relu("x"), "ReLU: input is <U1, expected float32 or float64"),
    "weights of another width": (lambda: nn.functional.linear(X, np.zeros((4, 5), "f4")), "Linear: input has shape (5, 2, 3), expected [*, 5]"),
    "a cell of no units": (lambda: nn.LSTMCell(3, 0), "hidden_size must be greater than zero, got 0"),
    "an input of a cell": (lambda: cell()(np.zeros((2, 5), "f4")), "input has inconsistent input_size: got 5 expected 3"),
    "unknown names in a state_dict": (lambda: lstm().load_state_dict({**lstm().state_dict(), "extra": X}), "Unexpected key(s) in state_dict: \"extra\"."),
    "a name that is missing": (lambda: lstm().load_state_dict({n: w for n, w in lstm().state_dict().items() if n != "bias_hh_l0"}), "Missing key(s) in state_dict: \"bias_hh_l0\"."),
    "an input that cannot be read": (lambda: lstm()([[1.0, [2.0]]]), "input[0] is a list that cannot be read as an array: "),
    "an out without lengths": (lambda: lstm()(X, out=np.zeros((5, 2, 3), "f4")), "out: a recurrent layer's call has no such keyword"),
    "an out with lengths": (lambda: lstm()(X, lengths=[5, 2], out=X), "out: not an option of strategy='padded', which has none"),
    "an out with a mask": (lambda: lstm()(X, mask=np.ones((2, 5), bool), out=X), "out: not an option of strategy='masked', which has none"),
    "an option of another strategy": (lambda: lstm()(X, lengths=[5, 2], strategy="bucketed", lanes=3), "lanes: not an option of strategy='bucketed', which has rows, memory_limit"),
    "an option without a strategy": (lambda: lstm()(X, rows=3), "rows: these go with lengths, a mask or a strategy, and none is given"),
    # sequences
    "lengths for another batch": (lambda: vledge.pack_padded_sequence(X, [5]), "Expected `len(lengths)` to be equal to batch_size, but got 1 (batch_size=2)"),
    "a length of 0 to pack": (lambda: vledge.pack_padded_sequence(X, [5, 0]), "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0: 0"),
    "sequences of other features": (lambda: vledge.pack_sequence([np.zeros((3, 2)), np.zeros((2, 3))]), "sequences[1] has shape (2, 3), which differs from sequences[0]'s (3, 2) in more than the length"),
    "a side of padding": (lambda: vledge.pad_sequence([np.zeros(3)], padding_side="top"), "Expected padding_side to be one of left or right, but got top."),
    "a padding value": (lambda: vledge.pad_sequence([np.zeros(3)], padding_value="x"), "padding_value must be a number, got str"),
    "no permutation": (lambda: vledge.invert_permutation(np.array([0, 0])), "permutation is not a permutation: 1 is missing"),
    "a sequence without features": (lambda: lstm()([X[:, 0], X[0, 0]], lengths=None), "input[1] has the shape [3], expected [L, 3]: a list holds one sequence an item; give a padded batch as one array"),
    "a mean over no step": (lambda: vledge.mean_over_steps(X, [5, 0]), "sequence 1 has no step to take"),
    "windows of no size": (lambda: vledge.windows(X, 0), "size and hop must be at least 1, got 0 and 0"),
    "a window's tail": (lambda: vledge.windows(X, 2, tail="cut"), "tail is 'cut', expected \"keep\" or \"drop\""),
    "no lanes": (lambda: list(vledge.run_many(lstm(), [X[:, 0]], lanes=0)), "lanes must be at least 1, got 0"),
    "another way through many": (lambda: list(vledge.run_many(lstm(), [X[:, 0]], strategy="quick")), "strategy is 'quick', expected \"lanes\" or \"bucketed\""),
    "features among many": (lambda: list(vledge.run_many(lstm(), [X[:, 0], X[:, 0, :2]])), "sequence 1 has 2 features of float32, those before it 3 of float32"),
    "states of other sequences": (lambda: vledge.initial_state(lstm(), 2, given=(X, X)), "Expected hidden[0] size (1, 2, 4), got [5, 2, 3]"),
    # sessions and streams
    "no fallback": (lambda: vledge.InferenceSession(ONNX, fallback="python"), "fallback must be None, 'reference' or a function, got 'python'"),
    "threads of a session": (lambda: vledge.InferenceSession(ONNX, threads()), "intra_op_num_threads must be a whole number from 0, got -1"),
    "options of another kind": (lambda: vledge.InferenceSession(ONNX, 3), "sess_options must be a vledge.SessionOptions or None, got int"),
    "a device of a binding": (lambda: session().io_binding().bind_input("x", "cuda", 0, np.float32, [1], 0), "all runs are on the CPU, there is no device 'cuda'"),
    "no output of a binding": (lambda: session().run_with_iobinding(session().io_binding()), "no outputs are bound: bind_output(name) first"),
    "an output of a binding": (lambda: session().io_binding().bind_output("y"), "no output named 'y': there are ['logits']"),
    "a stream of a model both ways": (lambda: session().stream(), "output 'logits' is not the same frame by frame as in the whole run, from frame 0 on: node 'rnn' (GRU) has direction='bidirectional': its reverse direction begins at the end of the sequence, which a stream has not seen; taken out of the graph (nn.GRU.from_onnx), the layer can run with lookahead="),
    "a stream's batch": (lambda: lstm().stream(batch=1.5), "batch is 1.5, expected a whole number of streams"),
    "a stream of the layer by hand": (lambda: vledge.Stream(lstm()), "a Stream is made by a model's own method, model.stream(batch=1), not of LSTM"),
    "a lookahead that has no use": (lambda: lstm().stream(lookahead=2), "LSTM has one direction and looks at nothing ahead: stream it without lookahead="),
    "a state's file": (lambda: vledge.Stream.load(PT, lstm()), "no safetensors file: its first bytes, b'PK"),
    "a dict for a stream": (lambda: setattr(lstm().stream(), "state", 3), "the state is a int, expected arrays by name"),
    # small weights
    "a storage": (lambda: vledge.quantize(lstm(), "int4"), "storage 'int4' is not one of int8, int8-fast, int16"),
    "an error without data": (lambda: vledge.quantize(lstm(), max_error=0.1), "max_error is measured on inputs: calibrate=[…] has none"),
    "data for weights by name": (lambda: vledge.quantize(weights(), calibrate=[X]), "calibrate and max_error go with a Module, which the inputs run through"),
    "a layer that cannot be small": (lambda: vledge.quantize(nn.Sequential(lstm()), layers="lstm"), "no layer that could be quantized is called 'lstm'; there are '0'"),
    "nothing to be small": (lambda: vledge.quantize(nn.ReLU()), "there is no layer with float32 weights under torch's names that could be quantized"),
    "weights that are not finite": (lambda: vledge.quantize({"a.weight": np.full((4, 40), np.nan, "f4")}), "layer 'a': weights that are NaN or infinite cannot be stored small"),
    "a list to be small": (lambda: vledge.quantize([X]), "expected a Module of vledge.nn, weights by name or the path of an ONNX file, which a session is made of; found a value of the type list"),
    "a session to be small": (lambda: vledge.quantize(session()), "expected a Module of vledge.nn, weights by name or the path of an ONNX file, which a session is made of; found a value of the type InferenceSession"),
    "an ONNX model in 16 bits": (lambda: vledge.quantize(ONNX, "int16"), "an ONNX model's weights can be int8, not int16"),
    "no node to be small": (lambda: vledge.quantization.quantize_onnx(only_a_sum()), "there is no node that could be quantized: of MatMul, Gemm, Conv, LSTM, GRU, RNN, Gather those with 1,024 float32 weights and more"),
    "a report of a path": (lambda: vledge.quantization.report(lstm(), PT), "after is a value of the type PosixPath, expected a Module of vledge.nn or weights by name; of an ONNX model quantize_onnx gives the report"),
    "a report of two models": (lambda: vledge.quantization.report(lstm(), weights()), "the two have different names: report compares a model with its quantized"),
    # archives
    "a model of another type": (lambda: scorer([X]), "model is a list, expected a file, a recurrent layer, or the Model that vledge.graph.session.read_model gives"),
    "a column for two inputs": (lambda: scorer(lstm(), {"y": "frames"}), "a recurrent layer's input is named 'x', and not 'y'"),
    "an output of a layer": (lambda: scorer(lstm(), "frames", "logits"), "the model has no output 'logits': it has ['last', 'output', 'h_n', 'c_n']"),
    "rows that are bad": (lambda: scorer(lstm(), "frames", on_bad="drop"), "on_bad is 'drop', expected one of 'error', 'null', 'skip'"),
    "time without ids": (lambda: scorer(lstm(), "frames", time="t"), "time= orders the steps of a long table: give id=, whose steps, too"),
    "no memory": (lambda: scorer(lstm(), "frames", memory=0), "memory must be at least 1, got 0"),
    "an input that is left": (lambda: session() and scorer(ONNX, {"y": "frames"}), "the model has no input 'y': it has ['x', 'lengths']"),
    "no column": (lambda: scorer(lstm(), "frames")(table(x=[1])), "there is no column 'frames', which the input 'x' should be read from; there are ['x']"),
    "a column of texts": (lambda: scorer(lstm(), "x")(table(x=["a"])), "column 'x' is string, which is nothing for the input 'x': expected 3 features a step: "),
    "a column twice": (lambda: scorer(lstm(), "x")(table(x=[[[1.0, 2.0, 3.0]]], last=[1])), "there is a column 'last' already: outputs={'another name': 'last'}, or --output-column \"another name=last\", gives the output another one"),
    # validation
    "a model without its bundle": (lambda: validation.validate(PT), "make it by `vledge record` or vledge.export, or say where it is, reference=FILE"),
    "weights for a bundle": (lambda: validation.read(PT), "no safetensors file: its first bytes, b'PK"),
    "a reference of no run": (lambda: validation.Reference([], {}), "cases is empty: a reference is of one run and more"),
    "a bundle of another model": (lambda: validation.validate(PT, BUNDLE), "the file holds weights but no graph, and they are not those of one RNN, GRU or LSTM without a projection alone (recurrent layers: GRU 'rnn.'). Write model and reference by vledge.export, or convert the model's ONNX file"),
    "a graph that is not there": (lambda: validation.validate("none.onnx", BUNDLE), "[Errno 2] No such file or directory: 'none.onnx'"),
    "a tolerance that is none": (lambda: at_the_shell("validate", PT, "--tolerance", "nan"), "--tolerance must be a number from 0, got nan"),
    # the command
    "a file that it cannot write": (lambda: at_the_shell("quantize", PT, "none/small.safetensors"), "none/small.safetensors: No such file or directory"),
    "weights named as a model": (lambda: at_the_shell("quantize", PT, "small.onnx"), "holds weights, which go into a *.safetensors, not small.onnx"),
    "a state named as NumPy's": (lambda: at_the_shell("stream", PT, "--state", "s.npz"), "s.npz: files named *.npz are NumPy's, and what is written is safetensors: name it s.safetensors"),
    "an option of whole models": (lambda: at_the_shell("stream", PT, "--hop", "2"), "a recurrent layer is streamed by itself"),
    "a number that is none": (lambda: session() and at_the_shell("stream", ONNX, "--set", "lengths=two"), "--set lengths=two: expected a number"),
    "an input without its form": (lambda: session() and at_the_shell("run", ONNX, "--random", "x=a"), "'x=a': expected NAME=SHAPE such as x=8x?x40, or ids=8x?:5000"),
    "no steps": (lambda: at_the_shell("bench", PT, "--steps", "0"), "--steps must be at least 1, got 0"),
    "no runs": (lambda: session() and at_the_shell("profile", ONNX, "--runs", "0"), "--runs must be at least 1, got 0"),
    "an archive's file": (lambda: pytest.importorskip("pyarrow") and at_the_shell("score", "--model", PT, __file__, "--output", "o"), "expected a file whose name ends in .parquet, .parq, .pq, .arrow, .feather, .ipc, .arrows, .npz"),
    "torch for a graph": (lambda: at_the_shell("record", FOLDER / "classifier.safetensors"), "is vledge's own file: onnxruntime needs the ONNX file"),
    "an attribute of the package": (lambda: vledge.validate, "module 'vledge' has no attribute 'validate': it is vledge.validation.validate"),
    # names
    "a layer's name": (lambda: vledge.LSTM, "module 'vledge' has no attribute 'LSTM': it is vledge.nn.LSTM"),
    "a layer that there is not": (lambda: nn.Transformer, "a torch module of any layers can run as a whole model, vledge.export("),
    "threads": (lambda: vledge.set_num_threads(0), "num_threads must be a whole number from 1 to 4,096, got 0"),
}  # fmt: skip
