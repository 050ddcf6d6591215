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
# layers that no one layer of torch's form can be: name → vledge's class, what it is asked for, and
# what comes of it
UNEQUAL = {
    "grow": ("LSTM", None, "RecurrentStack"),
    "formulas": ("GRU", None, "RecurrentStack"),
    "mixed": ("RecurrentStack", None, "RecurrentStack"),
    "timed": ("GRU", None, "RecurrentStack"),
    "sides": ("LSTM", None, "Bidirectional"),
    "moods": ("GRU", None, "Bidirectional"),
    "towers": ("LSTM", None, "Bidirectional"),
    "patchwork": ("RecurrentStack", None, "Bidirectional"),
    "upper": ("LSTM", ["lower", "upper"], "RecurrentStack"),
    "narrow": ("LSTM", ["wide", "narrow"], "RecurrentStack"),
    "zigzag": ("RecurrentStack", ["zig", "zag", "zigzag"], "RecurrentStack"),
    "relus": ("RNN", ["plain", "relus"], "RecurrentStack"),
}


def unequal(keras):
    """A model with an output for each name, whose layers differ in widths, arguments or kinds."""
    layers = keras.layers
    x, many = keras.Input((6, 3), name="x"), keras.Input((2, 6, 3), name="many")
    whole = {"return_sequences": True}

    def stack(*cells):
        return layers.RNN([getattr(layers, f"{kind}Cell")(**own) for kind, own in cells], **whole)

    def named(layer, name):
        layer.name = name
        return layer

    turned = {"go_backwards": True, **whole}
    outputs = {
        "grow": named(stack(*[("LSTM", {"units": units}) for units in (4, 6, 2)]), "grow")(x),
        "formulas": named(
            stack(
                ("GRU", {"units": 4}),
                ("GRU", {"units": 4, "activation": "relu", "reset_after": False}),
                ("GRU", {"units": 4, "recurrent_activation": "hard_sigmoid", "use_bias": False}),
            ),
            "formulas",
        )(x),
        "mixed": named(
            stack(
                ("LSTM", {"units": 4}),
                ("GRU", {"units": 4}),
                ("SimpleRNN", {"units": 3, "activation": "softsign"}),
            ),
            "mixed",
        )(x),
        "timed": layers.TimeDistributed(
            named(stack(("GRU", {"units": 2}), ("GRU", {"units": 5})), "inside"), name="timed"
        )(many),
        "sides": layers.Bidirectional(
            layers.LSTM(4, **whole), backward_layer=layers.LSTM(6, **turned), name="sides"
        )(x),
        "moods": layers.Bidirectional(
            layers.GRU(3, **whole),
            backward_layer=layers.GRU(3, activation="softsign", **turned),
            name="moods",
        )(x),
        "towers": layers.Bidirectional(
            stack(("LSTM", {"units": 3}), ("LSTM", {"units": 5})), name="towers"
        )(x),
        "patchwork": layers.Bidirectional(
            layers.GRU(3, **whole), backward_layer=layers.LSTM(2, **turned), name="patchwork"
        )(x),
        "upper": layers.LSTM(3, name="upper", **whole)(layers.LSTM(5, name="lower", **whole)(x)),
        "narrow": layers.LSTM(3, name="narrow", **whole)(
            layers.Bidirectional(layers.LSTM(4, **whole), name="wide")(x)
        ),
        "relus": layers.SimpleRNN(4, activation="relu", name="relus", **whole)(
            layers.SimpleRNN(4, name="plain", **whole)(x)
        ),
    }
    zig = layers.Bidirectional(layers.LSTM(3, **whole), name="zig")(x)
    zag = layers.GRU(4, reset_after=False, name="zag", **whole)(zig)
    outputs["zigzag"] = layers.SimpleRNN(2, name="zigzag", **whole)(zag)
    return keras.Model([x, many], [outputs[name] for name in UNEQUAL], name="unequal")


def masked(keras):
    """Layers of two widths on masked steps, and the last states of one of them."""
    layers, x = keras.layers, keras.Input((6, 3), name="x")
    mask = keras.Input((6,), dtype="bool", name="mask")
    whole = {"return_sequences": True}
    grow = layers.RNN(
        [layers.LSTMCell(4), layers.LSTMCell(2)], name="masked_grow", return_state=True, **whole
    )
    sides = layers.Bidirectional(
        layers.GRU(4, **whole),
        backward_layer=layers.GRU(2, go_backwards=True, **whole),
        name="masked_sides",
    )
    output, *states = grow(x, mask=mask)
    flat = keras.tree.flatten(states)
    return keras.Model([x, mask], [output, *flat, sides(x, mask=mask)], name="masked")


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
    save("unequal", unequal(keras), UNEQUAL, [x, many])
    arrays["mask"] = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1]], bool)
    names = ["masked_grow", "h_0", "c_0", "h_1", "c_1", "masked_sides"]
    save("masked", masked(keras), names, [x, arrays["mask"]])
    np.savez(folder / "expected.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
