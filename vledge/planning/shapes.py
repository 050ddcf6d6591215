"""What the cost of a recurrent layer depends on, read off a layer, a model or a file's weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vledge._ext.weights import GATES
from vledge.nn.module import Module
from vledge.nn.recognize import RecurrentLayer
from vledge.nn.recurrent import RecurrentBase

__all__ = ["LayerShape", "shapes_of"]


@dataclass(frozen=True)
class LayerShape:
    """The sizes of a stack of recurrent layers."""

    cell: str  #: lstm, gru, rnn or indrnn
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    itemsize: int = 4
    reverse: bool = False  #: one direction, from a sequence's end to its start

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return (self.proj_size or self.hidden_size) * self.directions

    @property
    def layer_inputs(self) -> list[int]:
        """The input size of each layer of the stack."""
        return [self.input_size] + [self.output_size] * (self.num_layers - 1)

    @property
    def gates(self) -> int:
        """Blocks of rows that the weights have."""
        return {"lstm": 4, "gru": 3, "rnn": 1, "indrnn": 1}[self.cell]

    @property
    def multiply_adds(self) -> int:
        """Of one step of one sequence through the whole stack."""
        width = self.proj_size or self.hidden_size
        recurrent = 1 if self.cell == "indrnn" else width
        rows = self.gates * self.hidden_size
        each = rows * recurrent + self.proj_size * self.hidden_size
        return self.directions * sum(rows * size + each for size in self.layer_inputs)

    def __str__(self) -> str:
        name = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "indrnn": "IndRNN"}[self.cell]
        words = [f"{name} {self.input_size} to {self.hidden_size}"]
        if self.proj_size:
            words.append(f"projected to {self.proj_size}")
        if self.num_layers > 1:
            words.append(f"{self.num_layers} layers")
        if self.bidirectional:
            words.append("bidirectional")
        if self.reverse:
            words.append("reverse")
        return ", ".join(words)


def shapes_of(model: Any) -> tuple[LayerShape, ...]:
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
    if not isinstance(model, Module):
        raise TypeError(
            f"expected a recurrent layer or a Module with one, got {type(model).__name__}"
        )
    found = tuple(_built(one) for one in model.modules() if isinstance(one, RecurrentBase))
    if not found:
        raise ValueError(f"{type(model).__name__} holds no LSTM, GRU, RNN or IndRNN")
    return found


def _built(layer: RecurrentBase) -> LayerShape:
    assert layer._cell in GATES
    return LayerShape(
        layer._cell.partition("_")[0],
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        layer.bidirectional,
        layer.proj_size,
        layer._dtype.itemsize,
        layer.backwards and not layer.bidirectional,
    )


def _recognized(found: RecurrentLayer) -> LayerShape:
    if found.kind.endswith("Cell"):
        raise ValueError(f"{found.prefix or found.kind} is a {found.kind}, which runs one step")
    return LayerShape(
        found.kind.lower(),
        found.input_size,
        found.hidden_size,
        found.num_layers,
        found.bidirectional,
        found.proj_size,
    )
