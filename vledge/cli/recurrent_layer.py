"""The recurrent layer in a file of weights that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vledge import nn
from vledge.errors import FormatError
from vledge.formats import load_weights
from vledge.formats.source import identified, open_source
from vledge.nn.plain_weights import plain_name
from vledge.nn.recurrent import RecurrentBase

__all__ = ["keras_layer", "keras_layers", "load_layer"]

if TYPE_CHECKING:
    from vledge.formats.keras.recurrent import RecurrentSummary


def load_layer(path: str, prefix: str | None = None) -> RecurrentBase:
    """The RNN, GRU or LSTM in a file, by the prefix of its weights' names if there are several.

    A vanilla RNN's nonlinearity does not show in its weights; tanh is taken. In a Keras file,
    ``prefix`` is the layer's name.
    """
    layer = keras_layer(path, prefix)
    if layer is not None:
        return layer
    weights = load_weights(path)
    found = [layer for layer in nn.recognize(weights) if not layer.kind.endswith("Cell")]
    if prefix is not None:
        own = plain_name(prefix.rstrip(".") + ".")
        found = [layer for layer in found if layer.prefix.rstrip(".") == own.rstrip(".")]
    if len(found) != 1:
        names = ", ".join(repr(layer.prefix.rstrip(".")) for layer in found)
        raise ValueError(
            f"{path}: there are several recurrent layers, name one by --prefix: {names}"
            if found
            else f"{path}: there is no recurrent layer" + (f" {prefix!r}" if prefix else "")
        )
    torchs: RecurrentBase = getattr(nn, found[0].kind).from_weights(weights, found[0].prefix)
    return torchs


def keras_layers(path: str) -> list[RecurrentSummary] | None:
    """The recurrent layers of a Keras file that run; None for a file of another format."""
    try:
        _, module = identified(open_source(path))
    except FormatError:
        return None  # whoever reads the file says what it is
    if module != "keras.file":
        return None
    from vledge.formats.keras.recurrent import recurrent_layers

    return [layer for layer in recurrent_layers(path) if not layer.refused]


def keras_layer(path: str, name: str | None = None) -> RecurrentBase | None:
    """The layer of this name in a Keras file, or its only one; None if it is no Keras file."""
    found = keras_layers(path)
    if found is None:
        return None
    chosen = [layer for layer in found if name in (None, layer.name, layer.path)]
    if len(chosen) != 1:
        names = ", ".join(repr(layer.name) for layer in found) or "none"
        raise ValueError(f"{path}: name one of its recurrent layers: {names}")
    layer: RecurrentBase = getattr(nn, chosen[0].kind or "RecurrentStack").from_keras(
        path, chosen[0].path
    )
    return layer
