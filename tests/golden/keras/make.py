"""Make Keras files of every layout, with what Keras computes: for machines without Keras.

python -m tests.golden.keras.make [FOLDER SEED]        (keras 3.15.1, KERAS_BACKEND=torch)

One model: each recurrent layer sees the same input, and its output is an output of the model.
"""

import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FILES = ("model.keras", "model.weights.h5", "model.h5")
INPUT_SIZE = 3
# name of the layer -> class, arguments, whether it is Bidirectional
LAYERS = {
    "forward": ("LSTM", {"units": 4}, False),
    "both": ("LSTM", {"units": 2}, True),
    "after": ("GRU", {"units": 4}, False),
    "before": ("GRU", {"units": 3, "reset_after": False}, True),
    "bare": ("GRU", {"units": 3, "reset_after": False, "use_bias": False}, False),
    "plain": ("SimpleRNN", {"units": 4, "activation": "relu"}, False),
}


def main(folder: Path = HERE, seed: int = 5) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    generator = np.random.default_rng(seed)
    given = keras.Input((None, INPUT_SIZE), name="x")
    outputs = []
    for name, (kind, arguments, bidirectional) in LAYERS.items():
        make = getattr(keras.layers, kind)
        if bidirectional:
            inner = make(return_sequences=True, **arguments)
            layer = keras.layers.Bidirectional(inner, name=name)
        else:
            layer = make(return_sequences=True, name=name, **arguments)
        outputs.append(layer(given))
    nested = keras.Sequential(
        [
            keras.Input((None, INPUT_SIZE)),
            keras.layers.LSTM(2, return_sequences=True, name="first"),
            keras.layers.LSTM(2, return_sequences=True, name="second"),
        ],
        name="nested",
    )
    outputs.append(nested(given))
    model = keras.Model(given, outputs, name="golden")
    for variable in model.variables:
        variable.assign(generator.normal(size=variable.shape).astype(np.float32) / 2)
    x = generator.normal(size=(3, 6, INPUT_SIZE)).astype(np.float32)
    arrays = {"x": x}
    for name, output in zip([*LAYERS, "nested"], model(x), strict=True):
        arrays[f"output.{name}"] = keras.ops.convert_to_numpy(output)
    for variable in model.trainable_variables:
        arrays[f"weight.{variable.path}"] = keras.ops.convert_to_numpy(variable)
    np.savez_compressed(folder / "expected.npz", **arrays)
    for file in FILES:
        if file.endswith(".weights.h5"):
            model.save_weights(folder / file)
        else:
            model.save(folder / file)


if __name__ == "__main__":
    main(*([Path(sys.argv[1]), int(sys.argv[2])] if sys.argv[1:] else []))
