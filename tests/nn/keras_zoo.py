"""Keras models of every wrapping and activation, with what Keras makes of them, for a live test.

python -m tests.nn.keras_zoo FOLDER        (KERAS_BACKEND=torch or numpy)
"""

import sys
from pathlib import Path

import numpy as np

ACTIVATIONS = (
    "sigmoid",
    "tanh",
    "relu",
    "linear",
    "hard_sigmoid",
    "elu",
    "selu",
    "softsign",
    "softplus",
    "exponential",
    "silu",
    "swish",
    "gelu",
    "relu6",
    "leaky_relu",
    "hard_tanh",
)
# name → vledge's class, and what from_keras is asked for where the name is not it
WRAPPED = {
    "plain": ("LSTM", None),
    "td": ("LSTM", None),
    "tdbi": ("GRU", None),
    "stack": ("LSTM", None),
    "named_stack": ("GRU", None),
    "single": ("LSTM", None),
    "bicell": ("GRU", None),
    "own": ("LSTM", None),
    "nested": ("LSTM", ["first", "second"]),
    "tdmodel": ("GRU", "deepest"),
    "sequence": ("LSTM", ["bi_1", "bi_2"]),
    "after": ("GRU", None),
    "major": ("LSTM", None),
}


def wrapped(keras):
    """A model with an output for each name, beside layers that are in nobody's way."""
    layers = keras.layers
    x, many = keras.Input((6, 3), name="x"), keras.Input((2, 6, 3), name="many")
    images = keras.Input((2, 4, 4, 1), name="images")
    whole = {"return_sequences": True}
    outputs = {
        "plain": layers.LSTM(4, name="plain", **whole)(x),
        "td": layers.TimeDistributed(layers.LSTM(5, name="inner", **whole), name="td")(many),
        "tdbi": layers.TimeDistributed(
            layers.Bidirectional(layers.GRU(3, **whole), name="inbi"), name="tdbi"
        )(many),
        "stack": layers.RNN([layers.LSTMCell(4), layers.LSTMCell(4)], name="stack", **whole)(x),
        "named_stack": layers.RNN(
            layers.StackedRNNCells([layers.GRUCell(3, name="z"), layers.GRUCell(3, name="a")]),
            name="named_stack",
            **whole,
        )(x),
        "single": layers.RNN(layers.LSTMCell(7, name="mycell"), name="single", **whole)(x),
        "bicell": layers.Bidirectional(layers.RNN(layers.GRUCell(4), **whole), name="bicell")(x),
        "own": layers.Bidirectional(
            layers.LSTM(4, name="there", **whole),
            backward_layer=layers.LSTM(4, name="back", go_backwards=True, **whole),
            name="own",
        )(x),
        "after": layers.GRU(4, name="after", use_bias=False, **whole)(x),
        "major": layers.LSTM(4, name="major", use_bias=False, **whole)(x),
    }
    nested = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.LSTM(3, name="first", **whole),
            keras.Sequential([layers.LSTM(3, name="second", use_bias=False, **whole)], name="in2"),
        ],
        name="nested",
    )
    outputs["nested"] = nested(x)
    inner = keras.Input((6, 3))
    deep = layers.Bidirectional(layers.GRU(2, **whole), name="deepest")(inner)
    model = keras.Model(inner, deep, name="func")
    outputs["tdmodel"] = layers.TimeDistributed(model, name="tdmodel")(many)
    below = layers.Bidirectional(layers.LSTM(2, **whole), name="bi_1")(x)
    outputs["sequence"] = layers.Bidirectional(layers.LSTM(2, **whole), name="bi_2")(below)
    outputs["images"] = layers.ConvLSTM2D(4, 3, name="images_lstm")(images)
    return keras.Model([x, many, images], list(outputs.values()), name="zoo"), list(outputs)


def activated(keras, name):
    """A model with an activation in each place of each class."""
    layers, x = keras.layers, keras.Input((4, 3), name="x")
    whole, gates = {"return_sequences": True}, {"recurrent_activation": name}
    made = [
        layers.LSTM(3, activation=name, name="lstm", **whole),
        layers.GRU(3, activation=name, name="gru", **whole),
        layers.SimpleRNN(3, activation=name, name="rnn", **whole),
        layers.LSTM(3, name="lstm_gates", **gates, **whole),
        layers.GRU(3, name="gru_gates", reset_after=False, **gates, **whole),
    ]
    return keras.Model(x, [layer(x) for layer in made]), [layer.name for layer in made]


def main(folder: Path) -> None:
    import keras

    generator = np.random.default_rng(3)
    x = generator.normal(size=(3, 6, 3)).astype(np.float32)
    many = generator.normal(size=(3, 2, 6, 3)).astype(np.float32)
    images = generator.normal(size=(3, 2, 4, 4, 1)).astype(np.float32)
    arrays = {"x": x, "many": many}
    (folder / "alone").mkdir()  # weights without the others beside them

    def save(file, model, names, given):
        for variable in model.variables:
            drawn = generator.normal(size=variable.shape).astype(np.float32)
            # larger ones, and states of exponential gates grow beyond all numbers
            variable.assign(drawn / (8 if file == "exponential" else 2))
        for name, output in zip(names, model(given), strict=True):
            arrays[f"{file}.{name}"] = keras.ops.convert_to_numpy(output)
        for ending in ("keras", "h5"):
            model.save(folder / f"{file}.{ending}")
        model.save_weights(folder / "alone" / f"{file}.weights.h5")

    save("wrapped", *wrapped(keras), [x, many, images])
    for name in ACTIVATIONS:
        save(name, *activated(keras, name), x[:, :4])
    np.savez(folder / "expected.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
