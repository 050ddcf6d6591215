"""The recurrent layer in a file of weights that a command line names."""

from __future__ import annotations

from vledge import nn
from vledge.formats import load_weights
from vledge.nn.plain_weights import plain_name
from vledge.nn.recurrent import RecurrentBase

__all__ = ["load_layer"]


def load_layer(path: str, prefix: str | None = None) -> RecurrentBase:
    """The RNN, GRU or LSTM in a file, by the prefix of its weights' names if there are several.

    A vanilla RNN's nonlinearity does not show in its weights; tanh is taken.
    """
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
    layer: RecurrentBase = getattr(nn, found[0].kind).from_weights(weights, found[0].prefix)
    return layer
