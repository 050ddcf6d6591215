"""`from_keras`: what a Keras file holds as the layer, or the layers, of `vledge.nn` that it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from vledge.budget import Limits
from vledge.formats.keras.recurrent import ARGUMENTS, Config, layer_weights
from vledge.formats.keras.stack import BothWays, LayerWeights
from vledge.nn.recurrent.layers import GRU, LSTM, RNN
from vledge.nn.recurrent.parts import Bidirectional, Part, RecurrentStack

__all__ = ["from_keras", "layers_from_keras"]

_CLASSES: dict[str, type[LSTM] | type[GRU] | type[RNN]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


def layers_from_keras(
    path: str | os.PathLike[str],
    kind: str | None,
    layer: str | Sequence[str] | None,
    config: Config | None,
    options: Mapping[str, object],
    limits: Limits | None,
) -> list[Part]:
    """Layers one upon another: a single one, where one can be all that is asked for.

    Arguments as those of `nn.LSTM.from_keras`; ``kind`` is LSTM, GRU or RNN, or None for any.
    """
    options = dict(options)
    if "nonlinearity" in options:  # torch's word for it
        options["activation"] = options.pop("nonlinearity")
    said: dict[str, Any] = {name: options.pop(name) for name in ARGUMENTS if name in options}
    levels = layer_weights(path, kind, layer, said, config, limits)
    return [_level(level, options) for level in levels]


def from_keras(
    path: str | os.PathLike[str],
    kind: str | None,
    layer: str | Sequence[str] | None,
    config: Config | None,
    options: Mapping[str, object],
    limits: Limits | None,
) -> Part:
    """The layer, or a RecurrentStack of them where one cannot be all that is asked for."""
    layers = layers_from_keras(path, kind, layer, config, options, limits)
    return layers[0] if len(layers) == 1 else RecurrentStack(*layers)


def _level(level: LayerWeights | BothWays, options: Mapping[str, Any]) -> Part:
    if isinstance(level, BothWays):
        return Bidirectional(*(_stacked(way, options) for way in level))
    arguments: dict[str, Any] = dict(level.arguments)
    arguments["batch_first"] = not arguments.pop("time_major")
    if level.kind == "RNN":
        arguments["nonlinearity"] = arguments.pop("activation")
    return _CLASSES[level.kind].from_weights(level.weights, **{**arguments, **options})


def _stacked(layers: Sequence[LayerWeights], options: Mapping[str, object]) -> Part:
    made = [_level(layer, options) for layer in layers]
    return made[0] if len(made) == 1 else RecurrentStack(*made)
