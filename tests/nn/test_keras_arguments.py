"""What a Keras file does not say of a layer: by its Keras' version, by a config, by the caller."""

import json
import warnings

import numpy as np
import pytest

from tests import reference
from tests.peers import peer
from vledge import nn
from vledge.errors import FormatError, UnsupportedError

h5py = peer("h5py")

HARD = ("hard_sigmoid", 0.2, 0.5)
TORCH = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "gru_reset_before": (1, 0, 2), "rnn": (0,)}
CLASSES = {"LSTM": (nn.LSTM, 4), "GRU": (nn.GRU, 3), "SimpleRNN": (nn.RNN, 1)}


def drawn(class_name, inputs=3, units=4, bias=None, seed=0):
    """Weights by Keras' names; ``bias`` is its shape."""
    rng = np.random.default_rng(seed)
    columns = CLASSES[class_name.removeprefix("CuDNN")][1] * units
    shapes = {"kernel": (inputs, columns), "recurrent_kernel": (units, columns)}
    shapes["bias"] = bias or (columns,)
    return {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


def write(path, layers, version, config=None):
    """An HDF5 file of Keras 2: ``layers`` is path in the file → weights."""
    with h5py.File(path, "w") as file:
        root = file if config is None else file.create_group("model_weights")
        for attributes in {file, root}:
            attributes.attrs["keras_version"] = np.bytes_(version)
            attributes.attrs["backend"] = np.bytes_("tensorflow")
        if config is not None:
            file.attrs["model_config"] = np.bytes_(json.dumps(config))
        for group, arrays in layers.items():
            for name, array in arrays.items():
                root[f"{group}/{name}:0"] = array
    return path


def described(*layers, **more):
    """A model's config of Keras 2."""
    entries = [{"class_name": c, "config": {"name": n, **config}} for c, n, config in layers]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": entries}, **more}


def arguments(units=4, **changed):
    return {
        "units": units,
        "use_bias": True,
        "activation": "tanh",
        "recurrent_activation": "hard_sigmoid",
        "go_backwards": False,
        **changed,
    }


def defined(kind, arrays, x, activations):
    """The cell's definition in float64, of native weights."""
    gates = {"lstm": 4, "rnn": 1}.get(kind, 3)
    order = list(TORCH[kind])

    def rows(array):
        parts = array.T.reshape(gates, -1, *array.shape[:-1])
        return parts[order].reshape(array.T.shape)

    params = {"weight_ih": rows(arrays["kernel"]), "weight_hh": rows(arrays["recurrent_kernel"])}
    bias = np.asarray(arrays["bias"])
    params["bias_ih"] = rows(bias[0] if bias.ndim == 2 else bias)
    params["bias_hh"] = rows(bias[1]) if bias.ndim == 2 else np.zeros_like(params["bias_ih"])
    steps, batch, units = x.shape[1], x.shape[0], arrays["recurrent_kernel"].shape[0]
    zeros = np.zeros((batch, units))
    packed = x.transpose(1, 0, 2).reshape(steps * batch, -1)
    sizes = np.full(steps, batch)
    output, _, _ = reference.run(kind, params, packed, sizes, zeros, zeros, False, activations)
    return output.reshape(steps, batch, units).transpose(1, 0, 2)


def given(seed=9):
    return np.random.default_rng(seed).normal(size=(2, 5, 3)).astype("f4")


TANH, SIGMOID, HARD_GATE = ("tanh", 0, 0), ("sigmoid", 0, 0), ("hard_sigmoid", 0.2, 0.5)


@pytest.mark.parametrize(
    ("version", "hard"),
    [
        ("1.2.2", True),
        ("2.0.8", True),
        ("2.1.6", True),
        ("2.2.0", True),
        ("2.2.5", True),
        ("2.0.8-tf", True),
        ("2.1.6-tf", True),
        ("2.2.2-tf", True),
        ("2.2.4-tf", None),
        ("2.3.0", False),
        ("2.3.1", False),
        ("2.3.0-tf", False),
        ("2.4.0", False),
        ("2.10.0", False),
        ("2.15.0", False),
        ("3.0.5", False),
    ],
)
@pytest.mark.parametrize("class_name", ["LSTM", "GRU"])
def test_the_gates_of_a_version(tmp_path, class_name, version, hard):
    arrays = drawn(class_name)
    path = write(tmp_path / "w.h5", {"layer_1/layer_1": arrays}, version)
    cls = CLASSES[class_name][0]
    taken = "'hard_sigmoid'" if hard else "'sigmoid'"
    with pytest.warns(UserWarning, match=rf"recurrent_activation={taken}.*{version}") as caught:
        layer = cls.from_keras(path)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "activation='tanh'" in message
    assert "go_backwards=False" in message
    assert ("TensorFlow 1" in message) == (hard is None)
    kind = {"LSTM": "lstm", "GRU": "gru_reset_before"}[class_name]
    gate = HARD_GATE if hard else SIGMOID
    want = defined(kind, arrays, given(), (gate, TANH, TANH)[: 3 if kind == "lstm" else 2])
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)
    # the caller's word holds, and what is said is not asked for again
    for said, gate in (("hard_sigmoid", HARD_GATE), ("sigmoid", SIGMOID)):
        if version.startswith("3") and said == "hard_sigmoid":
            gate = ("hard_sigmoid", 1 / 6, 0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layer = cls.from_keras(
                path, activation="tanh", recurrent_activation=said, go_backwards=False
            )
        want = defined(kind, arrays, given(), (gate, TANH, TANH)[: 3 if kind == "lstm" else 2])
        np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)


def test_a_bidirectional_layer_has_one_more_thing_to_tell(tmp_path):
    layers = {f"b/b/{way}_lstm": drawn("LSTM", seed=n) for n, way in enumerate(WAYS)}
    path = write(tmp_path / "w.h5", layers, "2.3.1")
    with pytest.warns(UserWarning, match="merge_mode='concat'"):
        assert nn.LSTM.from_keras(path, "b").bidirectional
    with pytest.raises(UnsupportedError, match="merge_mode='sum', not 'concat'"):
        nn.LSTM.from_keras(path, "b", merge_mode="sum")
    with pytest.raises(UnsupportedError, match="go_backwards=True; vledge"):
        nn.LSTM.from_keras(path, "b", go_backwards=True)


WAYS = ("forward", "backward")


# ---- CuDNN


def converted_by_keras(arrays, class_name):
    """keras.engine.saving._convert_rnn_weights of Keras 2.2.4, from CuDNN."""
    gates = 4 if class_name == "LSTM" else 3

    def transform(kernel):
        return kernel.T.reshape(kernel.shape, order="F")

    kernels = np.hstack([transform(k) for k in np.hsplit(arrays["kernel"], gates)])
    recurrent = np.hstack([k.T for k in np.hsplit(arrays["recurrent_kernel"], gates)])
    if class_name == "LSTM":
        bias = np.sum(np.split(arrays["bias"], 2, axis=0), axis=0)
    else:
        bias = arrays["bias"].reshape(2, -1)
    return {"kernel": kernels, "recurrent_kernel": recurrent, "bias": bias}


@pytest.mark.parametrize("units", [4, 3])  # 3: as many as inputs
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("class_name", ["LSTM", "GRU"])
def test_cudnn_layouts(tmp_path, class_name, whole, units):
    gates = 4 if class_name == "LSTM" else 3
    arrays = drawn(class_name, units=units, bias=(2 * gates * units,))
    config = {"name": "fast", "units": units, "go_backwards": False}
    config = described((f"CuDNN{class_name}", "fast", config)) if whole else None
    path = write(tmp_path / "w.h5", {"fast/fast": arrays}, "2.1.5", config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # these have one pair of activations
        layer = CLASSES[class_name][0].from_keras(path, "fast", go_backwards=False)
    kind = {"LSTM": "lstm", "GRU": "gru"}[class_name]
    native = converted_by_keras(arrays, class_name)
    want = defined(kind, native, given(), (SIGMOID, TANH, TANH)[: 3 if kind == "lstm" else 2])
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)


def test_a_cpus_layer_that_takes_cudnns_weights(tmp_path):
    """Keras converts them, and its own config says which activations run."""
    arrays = drawn("LSTM", bias=(32,))
    config = described(("LSTM", "slow", arguments()))
    path = write(tmp_path / "w.h5", {"slow/slow": arrays}, "2.2.4", config)
    layer = nn.LSTM.from_keras(path)
    want = defined("lstm", converted_by_keras(arrays, "LSTM"), given(), (HARD_GATE, TANH, TANH))
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)


# ---- configs of other files


def test_the_config_beside_the_weights(tmp_path):
    path = write(tmp_path / "net_weights.h5", {"a/a": drawn("LSTM")}, "2.3.1")
    text = json.dumps(described(("LSTM", "a", arguments(activation="relu")), keras_version="2.2.4"))
    (tmp_path / "vocabulary.json").write_text('{"a": 1}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    relu = (HARD_GATE, ("relu", 0, 0), ("relu", 0, 0))
    want = defined("lstm", drawn("LSTM"), given(), relu)
    # the only one that describes the file is taken, and named, as its name says nothing
    (tmp_path / "net.json").write_text(text)
    with pytest.warns(UserWarning, match=r"arguments are those of net\.json beside it"):
        layer = nn.LSTM.from_keras(path)
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)
    # two may be meant
    (tmp_path / "other.json").write_text(text.replace("relu", "elu"))
    with pytest.warns(UserWarning, match=r"net\.json and other\.json beside it may both") as caught:
        nn.LSTM.from_keras(path)
    assert "taken are activation='tanh', recurrent_activation='sigmoid'" in str(caught[0].message)
    # the file's own name
    (tmp_path / "net_weights.json").write_text(text)
    whole = json.loads(text)
    for options in (
        {},
        {"config": tmp_path / "net.json"},
        {"config": whole},
        {"config": {**whole["config"], "keras_version": "2.2.4"}},  # as model.get_config()
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layer = nn.LSTM.from_keras(path, **options)
        np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "config",
    [
        described(("LSTM", "b", arguments())),  # another layer
        described(("LSTM", "a", arguments(units=5))),
        described(("GRU", "a", arguments())),
        described(("LSTM", "a", arguments(use_bias=False))),
    ],
)
def test_a_config_of_another_model(tmp_path, config):
    path = write(tmp_path / "net.h5", {"a/a": drawn("LSTM")}, "2.2.0")
    (tmp_path / "net.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"taken are .*recurrent_activation='hard_sigmoid'"):
        nn.LSTM.from_keras(path)
    with pytest.raises((FormatError, ValueError, UnsupportedError), match=r"net\.h5"):
        nn.LSTM.from_keras(path, "a", config=tmp_path / "net.json")


def test_configs_that_are_none(tmp_path):
    path = write(tmp_path / "net.h5", {"a/a": drawn("LSTM")}, "2.2.0")
    for name, content in (("a.json", "{"), ("b.json", '{"a": 1}'), ("c.json", "3")):
        (tmp_path / name).write_text(content)
        with pytest.raises(FormatError, match=rf"net\.h5: config .*{name}"):
            nn.LSTM.from_keras(path, config=tmp_path / name)
    with pytest.raises(FormatError, match="holds no description"):
        nn.LSTM.from_keras(path, config=path)
    with pytest.raises(FileNotFoundError):
        nn.LSTM.from_keras(path, config=tmp_path / "none.json")


def test_a_layout_of_two_kerases(tmp_path):
    """Keras 2.12 to 2.15 and 3 write the same, and the latter with names."""
    path = tmp_path / "w.weights.h5"
    with h5py.File(path, "w") as file:
        for number, array in enumerate(drawn("LSTM").values()):
            file[f"layers/lstm/cell/vars/{number}"] = array
    said = {"activation": "tanh", "go_backwards": False, "recurrent_activation": "hard_sigmoid"}
    with pytest.raises(UnsupportedError, match=r"='hard_sigmoid' is two functions.*Keras 3"):
        nn.LSTM.from_keras(path, **said)
    said["recurrent_activation"] = HARD
    assert nn.LSTM.from_keras(path, **said).recurrent_activation == HARD
    with h5py.File(path, "a") as file:
        file["layers/lstm/cell/vars"].attrs["name"] = "lstm_cell"
    said["recurrent_activation"] = "hard_sigmoid"
    layer = nn.LSTM.from_keras(path, **said)
    assert layer.recurrent_activation == ("hard_sigmoid", 1 / 6, 0.5)


def test_an_unpacked_archive(tmp_path):
    """config.json and metadata.json beside model.weights.h5, as they lie in a ``.keras``."""
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        for number, array in enumerate(drawn("LSTM").values()):
            file[f"layers/lstm/cell/vars/{number}"] = array
    (tmp_path / "config.json").write_text(json.dumps(described(("LSTM", "a", arguments()))))
    for version, slope in (("2.13.1", 0.2), ("3.5.0", 1 / 6)):
        (tmp_path / "metadata.json").write_text(json.dumps({"keras_version": version}))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layer = nn.LSTM.from_keras(tmp_path / "model.weights.h5")
        assert layer.recurrent_activation == ("hard_sigmoid", slope, 0.5)


# ---- shapes of Keras 2's files


def test_the_variables_of_stacked_cells_in_one_group(tmp_path):
    """Keras 2.2 numbers them: kernel, kernel_1."""
    first, second = drawn("LSTM"), drawn("LSTM", inputs=4, seed=1)
    arrays = {**first, **{f"{name}_1": array for name, array in second.items()}}
    cells = [{"class_name": "LSTMCell", "config": arguments()} for _ in range(2)]
    stacked = {"class_name": "StackedRNNCells", "config": {"cells": cells}}
    config = described(("RNN", "rnn_1", {"cell": stacked, "go_backwards": False}))
    path = write(tmp_path / "w.h5", {"rnn_1/rnn_1": arrays}, "2.2.4", config)
    layer = nn.LSTM.from_keras(path)
    assert layer.num_layers == 2
    hard = (HARD_GATE, TANH, TANH)
    want = defined("lstm", second, defined("lstm", first, given(), hard), hard)
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("class_name", ["LSTM", "GRU", "SimpleRNN"])
def test_keras_1_has_a_matrix_a_gate(tmp_path, class_name, whole):
    arrays = drawn(class_name)
    names = {"LSTM": "ifco", "GRU": "zrh", "SimpleRNN": " "}[class_name]
    path = tmp_path / "w.h5"
    own = {"name": "old_1", "output_dim": 4, "activation": "tanh"}
    if class_name != "SimpleRNN":
        own["inner_activation"] = "hard_sigmoid"
    write(path, {}, "1.2.2", described((class_name, "old_1", own)) if whole else None)
    with h5py.File(path, "a") as file:
        root = file["model_weights"] if whole else file
        for part, array in zip("WUb", arrays.values(), strict=True):
            for gate, block in zip(names, np.split(array, len(names), axis=-1), strict=True):
                root[f"old_1/old_1_{part}" + (f"_{gate}" if gate.strip() else "") + ":0"] = block
    cls = CLASSES[class_name][0]
    options = {} if whole else {"activation": "tanh", "go_backwards": False}
    if class_name != "SimpleRNN" and not whole:
        with pytest.warns(UserWarning, match="recurrent_activation='hard_sigmoid'"):
            layer = cls.from_keras(path, "old_1", **options)
    else:
        layer = cls.from_keras(path, "old_1", **options)
    kind = {"LSTM": "lstm", "GRU": "gru_reset_before", "SimpleRNN": "rnn"}[class_name]
    asked = {"lstm": (HARD_GATE, TANH, TANH), "rnn": (TANH,)}.get(kind, (HARD_GATE, TANH))
    want = defined(kind, arrays, given(), asked)
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)


def test_wrappers_that_leave_no_name(tmp_path):
    """TimeDistributed(LSTM) of Keras 2: its weights stand under the wrapper's name."""
    inner = {"class_name": "LSTM", "config": {"name": "lstm_1", **arguments()}}
    config = described(
        ("TimeDistributed", "td", {"layer": inner}),
        ("LSTM", "td_2", arguments(units=2)),
    )
    layers = {"td/td": drawn("LSTM"), "td_2/td_2": drawn("LSTM", units=2)}
    path = write(tmp_path / "w.h5", layers, "2.2.4", config)
    for name in ("td", "lstm_1", "td/td"):
        assert nn.LSTM.from_keras(path, name).hidden_size == 4
    assert nn.LSTM.from_keras(path, "td_2").hidden_size == 2


@pytest.mark.parametrize("depth", [1, 3, 20])
def test_wrappers_of_any_depth(tmp_path, depth):
    """Custom ones too: what stands among their arguments is looked into."""
    entry = {"class_name": "LSTM", "config": {"name": "deep", **arguments(activation="relu")}}
    group = ""
    for level in range(depth):
        name, key = (("TimeDistributed", "layer"), ("mine>Around", "inside"))[level % 2]
        own = {"class_name": name, "registered_name": name}
        entry = {**own, "config": {"name": f"level{level}", key: entry}}
        group = f"{key}/{group}"
    top = "time_distributed" if depth % 2 else "mine_around"
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        for number, array in enumerate(drawn("LSTM").values()):
            file[f"layers/{top}/{group}cell/vars/{number}"] = array
    config = {"class_name": "Functional", "config": {"layers": [entry]}, "keras_version": "2.15.0"}
    layer = nn.LSTM.from_keras(tmp_path / "w.weights.h5", "deep", config=config)
    assert layer.activation == "relu"
    assert layer.recurrent_activation == HARD


def test_models_nested_without_end():
    entry = {"class_name": "LSTM", "config": {"name": "deep"}}
    for _ in range(100):
        entry = {"class_name": "TimeDistributed", "config": {"name": "w", "layer": entry}}
    from vledge.formats.keras.config import descriptions

    with pytest.raises(FormatError, match="nested deeper than"):
        descriptions({"class_name": "Model", "config": {"layers": [entry]}})


def test_a_class_of_the_authors_own_is_no_lstm(tmp_path):
    """Shapes are an LSTM's; its description says that it is another. It is not in the way."""
    layers = {"a/a": drawn("LSTM"), "b/b": drawn("LSTM", seed=1)}
    config = described(("LSTM", "a", arguments()), ("PhasedLSTM", "b", arguments()))
    path = write(tmp_path / "w.h5", layers, "2.2.4", config)
    assert nn.LSTM.from_keras(path).hidden_size == 4
    with pytest.raises(UnsupportedError, match=r"'b' \(PhasedLSTM\) is no LSTM, GRU or SimpleRNN"):
        nn.LSTM.from_keras(path, "b")


@pytest.mark.parametrize(
    ("layers", "asked", "error", "match"),
    [
        ({"a/a": (3, 4), "b/b": (3, 4)}, ["a", "b"], ValueError, "'b' takes 3 features, layer 'a'"),
        (
            {"a/forward_x": (3, 4), "a/backward_x": (2, 4)},
            ["a"],
            FormatError,
            "'a': forward takes 3 features, backward 2",
        ),
        (
            {f"a/a/stacked_rnn_cells/c_{n}": sizes for n, sizes in enumerate([(3, 4), (3, 2)])},
            "a",
            ValueError,
            r"cell 'c_1' \(a/a/stacked_rnn_cells/c_1\) takes 3 features.*c_0\) gives 4",
        ),
        ({"a/a": (3, 4)}, "b", ValueError, "no recurrent layer named 'b'; it has 'a' \\(LSTM"),
    ],
)
def test_errors_are_in_keras_words(tmp_path, layers, asked, error, match):
    arrays = {
        name: drawn("LSTM", inputs=inputs, units=units) for name, (inputs, units) in layers.items()
    }
    path = write(tmp_path / "w.h5", arrays, "2.3.1")
    with pytest.raises(error, match=match) as caught:
        nn.LSTM.from_keras(path, asked)
    assert "weight_ih" not in str(caught.value)


def test_layers_of_other_widths_and_formulas_are_a_stack_of_layers(tmp_path):
    """Without Keras: as Keras 2 writes them, against the cells' definition."""
    wide, narrow = drawn("GRU", units=6, bias=(2, 18)), drawn("GRU", inputs=6, units=2, seed=1)
    config = described(
        ("GRU", "a", arguments(6, reset_after=True)),
        ("GRU", "b", arguments(2, activation="relu", recurrent_activation="sigmoid")),
    )
    path = write(tmp_path / "w.h5", {"a/a": wide, "b/b": narrow}, "2.2.4", config)
    layer = nn.GRU.from_keras(path, ["a", "b"])
    assert isinstance(layer, nn.RecurrentStack)
    assert [one.hidden_size for one in layer] == [6, 2]
    first = defined("gru", wide, given(), (HARD_GATE, TANH))
    want = defined("gru_reset_before", narrow, first, (SIGMOID, ("relu", 0, 0)))
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)
    assert nn.GRU.from_keras(path, "b").hidden_size == 2
    assert nn.GRU.from_keras(path, ["a", "b"], dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match=r"layer 'b' .* has activation='relu', not 'tanh'"):
        nn.GRU.from_keras(path, ["a", "b"], activation="tanh")


def test_weights_alone_of_layers_that_differ(tmp_path):
    layers = {"a/a/stacked_rnn_cells/c": drawn("LSTM", units=5)}
    layers |= {"a/a/stacked_rnn_cells/c_1": drawn("LSTM", inputs=5, units=2, seed=1)}
    for units, way in ((4, "forward"), (3, "backward")):
        layers[f"b/b/{way}_x"] = drawn("LSTM", units=units, seed=units)
    path = write(tmp_path / "w.h5", layers, "2.3.1")
    with pytest.warns(UserWarning, match="of 'a'.*recurrent_activation='sigmoid'") as caught:
        stack = nn.LSTM.from_keras(path, "a")
    assert caught[0].filename == __file__
    own = (SIGMOID, TANH, TANH)
    lower, upper, *_ = layers.values()
    want = defined("lstm", upper, defined("lstm", lower, given(), own), own)
    np.testing.assert_allclose(stack(given())[0], want, rtol=0, atol=2e-6)
    with pytest.warns(UserWarning, match="merge_mode='concat'"):
        sides = nn.LSTM.from_keras(path, "b")
    ahead, back = (
        defined("lstm", layers[f"b/b/{way}_x"], x, own)
        for way, x in zip(WAYS, (given(), given()[:, ::-1]), strict=True)
    )
    want = np.concatenate([ahead, back[:, ::-1]], 2)
    np.testing.assert_allclose(sides(given())[0], want, rtol=0, atol=2e-6)


def test_cells_of_several_kinds(tmp_path):
    cells = [
        {"class_name": f"{kind}Cell", "config": {"name": name, **arguments(units)}}
        for kind, name, units in (("LSTM", "x", 4), ("SimpleRNN", "y", 2))
    ]
    cell = {"class_name": "StackedRNNCells", "config": {"name": "s", "cells": cells}}
    config = described(("RNN", "a", {"cell": cell, "go_backwards": False}))
    group = "a/a/stacked_rnn_cells"
    layers = {f"{group}/x": drawn("LSTM"), f"{group}/y": drawn("SimpleRNN", inputs=4, units=2)}
    path = write(tmp_path / "w.h5", layers, "2.2.4", config)
    with pytest.raises(
        ValueError, match=r"of kind LSTM and RNN, not LSTM; nn.RecurrentStack.from_"
    ):
        nn.LSTM.from_keras(path, "a")
    for name in ("a", None):
        stack = nn.RecurrentStack.from_keras(path, name)
        first = defined("lstm", layers[f"{group}/x"], given(), (HARD_GATE, TANH, TANH))
        want = defined("rnn", layers[f"{group}/y"], first, (TANH,))
        np.testing.assert_allclose(stack(given())[0], want, rtol=0, atol=2e-6)


def test_layers_with_and_without_bias_are_a_stack(tmp_path):
    first, second = drawn("LSTM"), drawn("LSTM", inputs=4, seed=1)
    zeros = np.zeros_like(second.pop("bias"))
    path = write(tmp_path / "w.h5", {"a/a": first, "b/b": second}, "2.3.1")
    with pytest.warns(UserWarning, match="'a', 'b'"):
        layer = nn.LSTM.from_keras(path, ["a", "b"])
    own = (SIGMOID, TANH, TANH)
    want = defined("lstm", {**second, "bias": zeros}, defined("lstm", first, given(), own), own)
    np.testing.assert_allclose(layer(given())[0], want, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("activation", "taken"),
    [
        (None, "linear"),
        ({"class_name": "LeakyReLU", "config": {"negative_slope": 0.1}}, ("leaky_relu", 0.1)),
        ({"class_name": "LeakyReLU", "config": {"alpha": 0.2}}, ("leaky_relu", 0.2)),
        ({"class_name": "ELU", "config": {"alpha": 0.7}}, ("elu", 0.7)),
        ("swish", "silu"),
        ("softmax", None),
        ("mine", None),
        ({"class_name": "ReLU", "config": {"max_value": 6.0}}, None),
        ({"class_name": "LeakyReLU", "config": {"negative_slope": []}}, None),
        ({"class_name": "function", "config": "mine"}, None),
        (3, None),
        ([], None),
        ({}, None),
    ],
)
def test_activations_in_a_config(tmp_path, activation, taken):
    config = described(("LSTM", "a", arguments(activation=activation)))
    path = write(tmp_path / "w.h5", {"a/a": drawn("LSTM")}, "2.2.4", config)
    if taken is not None:
        assert nn.LSTM.from_keras(path).activation == taken
        return
    with pytest.raises((UnsupportedError, ValueError), match="activation="):
        nn.LSTM.from_keras(path)


def test_damaged_configs_are_errors_or_layers(tmp_path):
    """Any value of a description by any other."""
    inner = {"class_name": "GRU", "config": {"name": "c", **arguments()}}
    cell = {"class_name": "LSTMCell", "config": {"name": "d", **arguments()}}
    config = described(
        ("LSTM", "a", arguments()),
        ("Bidirectional", "b", {"layer": inner, "merge_mode": "concat"}),
        ("RNN", "e", {"cell": cell, "go_backwards": False}),
    )
    layers = {"a/a": drawn("LSTM"), "e/e": drawn("LSTM")}
    layers |= {f"b/b/{way}_c": drawn("GRU") for way in WAYS}
    path = write(tmp_path / "w.h5", layers, "2.2.4")
    values = (None, -1, True, "x", [], [{}], {}, {"class_name": "LSTM"})

    def places(value):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in list(items):
            yield value, key
            if isinstance(item, (dict, list)):
                yield from places(item)

    refused = 0
    for holder, key in places(config):
        before = holder[key]
        for value in values:
            holder[key] = value
            for cls, name in ((nn.LSTM, "a"), (nn.GRU, "b"), (nn.LSTM, "e")):
                try:
                    cls.from_keras(path, name, config=json.loads(json.dumps(config)))
                except (FormatError, UnsupportedError, ValueError):
                    refused += 1
        holder[key] = before
    assert refused > 100


def test_what_is_wrong_with_one_layer_stops_no_other(tmp_path):
    """A stack of unknown order, a Bidirectional without its layer, an attention's W, U, b."""
    layers = {
        "good/good": drawn("LSTM"),
        "odd/odd/stacked_rnn_cells/x": drawn("LSTM"),
        "odd/odd/stacked_rnn_cells/y": drawn("LSTM", inputs=4),
        "b/b/forward_c": drawn("GRU"),
        "b/b/backward_c": drawn("GRU"),
    }
    config = described(
        ("LSTM", "good", arguments()), ("Bidirectional", "b", {"merge_mode": "concat"})
    )
    path = write(tmp_path / "w.h5", layers, "2.2.4", config)
    with h5py.File(path, "a") as file:
        for part, array in zip("WUb", drawn("SimpleRNN").values(), strict=True):
            file[f"model_weights/attention/attention_{part}:0"] = array
    assert nn.LSTM.from_keras(path).hidden_size == 4
    with pytest.raises(UnsupportedError, match=r"'odd': .*'x', 'y', whose order the"):
        nn.LSTM.from_keras(path, "odd")
    with pytest.raises(UnsupportedError, match=r"'b': .*layer is not described"):
        nn.GRU.from_keras(path, "b")
    with pytest.raises(ValueError, match="no recurrent layer named 'attention'"):
        nn.RNN.from_keras(path, "attention")


def test_a_cell_with_more_weights_is_no_lstm(tmp_path):
    """Peepholes, a normalization within: an LSTM's three matrices, and others."""
    peephole = {**drawn("LSTM"), "input_gate_peephole_weights": np.ones(4, "f4")}
    path = write(tmp_path / "w.h5", {"a/a": peephole, "b/b": drawn("LSTM")}, "2.4.0")
    with pytest.warns(UserWarning, match="'b'"):
        nn.LSTM.from_keras(path)
    with pytest.raises(UnsupportedError, match=r"no LSTM.*input_gate_peephole_weights:0"):
        nn.LSTM.from_keras(path, "a")
    for extra in ("cell/norm/vars/0", "cell/vars/3", "vars/0", "cell/cells/lstm_cell/norm/vars/0"):
        with h5py.File(tmp_path / "new.h5", "w") as file:
            for number, array in enumerate(drawn("LSTM").values()):
                for layer in ("layers/mine", "layers/lstm"):
                    file[f"{layer}/cell/vars/{number}"] = array
            file[f"layers/mine/{extra}"] = np.ones(4, "f4")
            # what dropout draws by is no weight of the cell
            file["layers/lstm/cell/seed_generator/vars/0"] = np.ones(2, "u4")
        with pytest.warns(UserWarning, match="'lstm'"):
            nn.LSTM.from_keras(tmp_path / "new.h5")
        with pytest.raises(UnsupportedError, match="no LSTM, GRU or SimpleRNN"):
            nn.LSTM.from_keras(tmp_path / "new.h5", "mine")


def test_two_bidirectional_layers_in_one_group(tmp_path):
    layers = {
        f"m/{way}_{name}": drawn("LSTM", units=units)
        for name, units in (("x", 4), ("y", 5))
        for way in WAYS
    }
    path = write(tmp_path / "w.h5", layers, "2.3.1")
    with pytest.warns(UserWarning, match="merge_mode"):
        layer = nn.LSTM.from_keras(path, "m/forward_y")
    assert (layer.bidirectional, layer.hidden_size) == (True, 5)


@pytest.mark.parametrize("said", [None, "", "unknown", "v2.2.0"])
def test_a_file_that_says_no_version(tmp_path, said):
    path = write(tmp_path / "w.h5", {"a/a": drawn("LSTM")}, said or "2.0.0")
    with h5py.File(path, "a") as file:
        del file.attrs["keras_version"]
        if said is not None:
            file.attrs["keras_version"] = said
    with pytest.raises(UnsupportedError, match="does not say which Keras wrote it"):
        nn.LSTM.from_keras(path, "a", recurrent_activation="hard_sigmoid")
    with pytest.warns(UserWarning, match=r"recurrent_activation='sigmoid' \(Keras' default since"):
        nn.LSTM.from_keras(path, "a")
