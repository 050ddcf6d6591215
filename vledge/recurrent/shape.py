"""The sizes of a stack of recurrent layers: all that its states and its cost depend on."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from vledge.recurrent.cells import Kind, kind_of

__all__ = ["LayerShape"]

_DTYPES: Final[dict[int, np.dtype]] = {4: np.dtype(np.float32), 8: np.dtype(np.float64)}


class LayerShape(NamedTuple):
    """The sizes of a stack of recurrent layers, whether its weights are there or not."""

    cell: str  #: lstm, gru, rnn or indrnn
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    itemsize: int = 4
    reverse: bool = False  #: one direction, from a sequence's end to its start
    storage: str = ""  #: where weights are small, what they are held as: int8, int8-fast, int16

    @property
    def kind(self) -> Kind:
        """The cell's row in the table."""
        return kind_of(self.cell)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return _DTYPES[self.itemsize]

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def backwards(self) -> bool:
        """Whether one of the directions begins at a sequence's end."""
        return self.bidirectional or self.reverse

    @property
    def width(self) -> int:
        """Of h: features of one direction's output."""
        return self.proj_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.width * self.directions

    @property
    def layer_inputs(self) -> list[int]:
        """The input size of each layer of the stack."""
        return [self.input_size] + [self.output_size] * (self.num_layers - 1)

    @property
    def gates(self) -> int:
        """Blocks of rows that the weights have."""
        return len(self.kind.gates)

    @property
    def multiply_adds(self) -> int:
        """Of one step of one sequence through the whole stack."""
        recurrent = 1 if self.kind.independent else self.width
        rows = self.gates * self.hidden_size
        each = rows * recurrent + self.proj_size * self.hidden_size
        return self.directions * sum(rows * size + each for size in self.layer_inputs)

    def state_shapes(self, sequences: int) -> list[tuple[int, int, int]]:
        """``[num_layers * D, B, width]`` of h and, where there is a c, of that."""
        count = self.num_layers * self.directions
        widths = {"h": self.width, "c": self.hidden_size}
        return [(count, sequences, widths[state]) for state in self.kind.states]

    def zero_state(self, sequences: int) -> np.ndarray | tuple[np.ndarray, ...]:
        """What ``hx=None`` stands for: h, or ``(h, c)`` for an LSTM."""
        states = tuple(np.zeros(shape, self.dtype) for shape in self.state_shapes(sequences))
        return states if len(states) > 1 else states[0]

    def __str__(self) -> str:
        words = [f"{self.kind.name} {self.input_size} to {self.hidden_size}"]
        if self.proj_size:
            words.append(f"projected to {self.proj_size}")
        if self.num_layers > 1:
            words.append(f"{self.num_layers} layers")
        if self.bidirectional:
            words.append("bidirectional")
        if self.reverse:
            words.append("reverse")
        return ", ".join(words)
