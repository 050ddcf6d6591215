"""The recurrent layer in a file of any kind, by its name where there are several.

Weights name it by the prefix of their names, a Keras file by the layer's name, a graph by the
node's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vledge import nn
from vledge.budget import Limits
from vledge.errors import FormatError, UnsupportedError
from vledge.formats import holds_graph, load_weights
from vledge.formats.source import identified, open_source
from vledge.nn.recurrent import RecurrentBase
from vledge.recurrent.cells import OPERATORS
from vledge.weights.plain import plain_name

__all__ = ["keras_layers", "load_layer"]

if TYPE_CHECKING:
    from vledge.formats.keras.recurrent import RecurrentSummary

_T = TypeVar("_T")


def load_layer(path: str, name: str | None = None, nonlinearity: str = "tanh") -> RecurrentBase:
    """The RNN, GRU or LSTM in a file, by its name if there are several.

    A vanilla RNN's ``nonlinearity`` does not show in its weights. Raises ValueError if there is no
    such layer or more than one, UnsupportedError if no layer of ours can be a graph's node.
    """
    if holds_graph(path):
        return _of_graph(path, name)
    keras = keras_layers(path)
    if keras is not None:
        named = [layer for layer in keras if name in (None, layer.name, layer.path)]
        chosen = _one(path, named, [layer.name for layer in keras], name)
        kind: type[RecurrentBase] = getattr(nn, chosen.kind or "RecurrentStack")
        layer: RecurrentBase = kind.from_keras(path, chosen.path)
        return layer
    weights = load_weights(path)
    layers = [layer for layer in nn.recognize(weights) if not layer.kind.endswith("Cell")]
    prefixes = [layer.prefix.rstrip(".") for layer in layers]
    if name is not None:
        own = plain_name(name.rstrip(".") + ".").rstrip(".")
        layers = [layer for layer in layers if layer.prefix.rstrip(".") == own]
    recognized = _one(path, layers, prefixes, name)
    options = {"nonlinearity": nonlinearity} if recognized.kind == "RNN" else {}
    torchs: RecurrentBase = getattr(nn, recognized.kind).from_weights(
        weights, recognized.prefix, **options
    )
    return torchs


def _one(path: str, fitting: list[_T], every: list[str], asked: str | None) -> _T:
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(map(repr, every))
    if not every:
        raise ValueError(
            f"{path}: there is no recurrent layer in it; `vledge inspect {path}` lists what is"
        )
    if fitting:
        raise ValueError(f"{path}: there are several recurrent layers, say which: layer={listed}")
    raise ValueError(f"{path}: there is no recurrent layer {asked!r}; layer= has these: {listed}")


def _of_graph(path: str, name: str | None) -> RecurrentBase:
    """The layer that one recurrent node of a graph is."""
    # A graph stands above layers and is imported only by who has one.
    from vledge.graph.layers import summaries
    from vledge.graph.plan import simplified
    from vledge.graph.session import read_model

    nodes = [
        n
        for n in summaries(simplified(read_model(path)))
        if n.kind.removesuffix("Cell") in OPERATORS
    ]
    fitting = [node for node in nodes if name in (None, node.name)]
    node = _one(path, fitting, [node.name for node in nodes], name)
    kind: type[RecurrentBase] = getattr(nn, node.kind.removesuffix("Cell"))
    try:
        layer: RecurrentBase = kind.from_onnx(path, node.name)
    except UnsupportedError as error:
        raise UnsupportedError(f"{error}. `vledge run {path}` runs the whole graph") from None
    return layer


def keras_layers(path: str, limits: Limits | None = None) -> list[RecurrentSummary] | None:
    """The recurrent layers of a Keras file that run; None for a file of another format."""
    try:
        _, module = identified(open_source(path, limits))
    except (FormatError, IsADirectoryError):
        return None  # whoever reads the file says what it is
    if module != "keras.file":
        return None
    from vledge.formats.keras.recurrent import recurrent_layers

    return [layer for layer in recurrent_layers(path, limits) if not layer.refused]
