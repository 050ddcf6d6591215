"""What the cost of a recurrent layer depends on, read off a layer, a model or a file's weights."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vledge.errors import with_article
from vledge.recurrent.recognize import RecurrentLayer
from vledge.recurrent.shape import LayerShape

__all__ = ["LayerShape", "shapes_of"]


def shapes_of(model: object) -> tuple[LayerShape, ...]:
    """The recurrent layers of a layer, of a Module that holds some, of what
    :func:`vledge.nn.recognize` has found in a file, or of a list of these.

    Raises ValueError where there is none, TypeError for anything else.
    """
    if isinstance(model, list):
        return tuple(shape for one in model for shape in shapes_of(one))
    if isinstance(model, LayerShape):
        return (model,)
    if isinstance(model, RecurrentLayer):
        return (_recognized(model),)
    if isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"expected a recurrent layer, got the path {os.fspath(model)!r}: build it by "
            "nn.LSTM.from_weights(vledge.load_weights(path)), or use `vledge plan --model`"
        )
    if not hasattr(model, "modules"):
        own = _shape(model)
        if own is None:
            raise TypeError(
                f"expected a recurrent layer or a Module with one, got {type(model).__name__}"
            )
        return (own,)
    shapes = tuple(_shapes(model.modules()))
    if not shapes:
        raise ValueError(f"{type(model).__name__} holds no LSTM, GRU, RNN or IndRNN")
    return shapes


def _shapes(modules: Iterator[object]) -> Iterator[LayerShape]:
    for one in modules:
        shape = _shape(one)
        if shape is not None:
            yield shape


def _shape(model: object) -> LayerShape | None:
    """Of a recurrent layer of `vledge.nn`, or a Stack; None of anything else."""
    shape = getattr(model, "shape", None)
    return shape if isinstance(shape, LayerShape) else None


def _recognized(layer: RecurrentLayer) -> LayerShape:
    if layer.kind.endswith("Cell"):
        raise ValueError(
            f"{layer.prefix or layer.kind} is {with_article(layer.kind)}, which runs one step"
        )
    return LayerShape(
        layer.kind.lower(),
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        layer.bidirectional,
        layer.proj_size,
    )
