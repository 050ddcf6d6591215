"""DynamicStack: torch's dynamically quantised LSTM and GRU, as `Stack` runs those of floats.

Inputs become bytes by one scale of all steps and sequences of a call, and states by one of all
sequences of a step, so that a result depends a little on what else is in the batch; with a packed
batch it is torch's. Biases, gates and states are float32.
Source: RNN.cpp and qlinear_dynamic.cpp in torch's aten/src/ATen/native.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from vledge._ext.integer_matrix import IntegerMatrix, gates_in_panels
from vledge._ext.packing import running_out
from vledge._ext.program import Program
from vledge.packing import PackedSequence
from vledge.recurrent.cells import CELLS
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack, no_step
from vledge.recurrent.states import Initial, State, joined, reordered, split
from vledge.small_matrix import DYNAMIC, SmallMatrix

__all__ = ["DynamicDirection", "DynamicProduct", "DynamicStack", "DynamicStepper"]


class DynamicDirection:
    """One direction of one layer: its weights in torch's layout."""

    def __init__(
        self,
        cell: str,
        weight_ih: SmallMatrix,
        weight_hh: SmallMatrix,
        bias_ih: np.ndarray | None = None,
        bias_hh: np.ndarray | None = None,
        reverse: bool = False,
    ) -> None:
        gates = len(CELLS[cell].kind.gates)
        hidden_size = weight_ih.shape[0] // gates
        rows = gates * hidden_size
        if weight_ih.shape[0] != rows or weight_hh.shape != (rows, hidden_size) or not rows:
            raise ValueError(
                f"weight_ih {list(weight_ih.shape)} and weight_hh {list(weight_hh.shape)} are not "
                f"those of {gates} gates"
            )
        for name, bias in (("bias_ih", bias_ih), ("bias_hh", bias_hh)):
            if bias is not None and bias.shape != (rows,):
                raise ValueError(f"{name} has shape {bias.shape}, expected {(rows,)}")
        self.cell, self.reverse, self.hidden_size = cell, reverse, hidden_size
        self.input_size = weight_ih.shape[1]
        self.proj_size = 0
        self.activations = None
        self.dtype = np.dtype(np.float32)
        self.storage = weight_hh.storage
        self._arrays: dict[str, Any] = {
            "weight_ih": weight_ih,
            "weight_hh": weight_hh,
            "bias_ih": bias_ih,
            "bias_hh": bias_hh,
        }
        self.nbytes = sum(one.nbytes for one in self._arrays.values() if one is not None)

    def stored(self, name: str) -> Any:
        """A weight as it came."""
        return self._arrays[name]

    def weight_ih(self) -> np.ndarray:
        """Of the input."""
        return np.asarray(self._arrays["weight_ih"])

    def weight_hh(self) -> np.ndarray:
        """Of the state."""
        return np.asarray(self._arrays["weight_hh"])

    def bias_ih(self) -> np.ndarray | None:
        """Beside the input's product."""
        bias: np.ndarray | None = self._arrays["bias_ih"]
        return bias

    def bias_hh(self) -> np.ndarray | None:
        """Beside the state's."""
        bias: np.ndarray | None = self._arrays["bias_hh"]
        return bias

    def matrices(self) -> list[IntegerMatrix]:
        """Both, packed for the kernels."""
        return [self._packed("ih"), self._packed("hh")]

    def _packed(self, part: str) -> IntegerMatrix:
        small, bias = self._arrays[f"weight_{part}"], self._arrays[f"bias_{part}"]

        def in_panels(by_row: np.ndarray) -> np.ndarray:
            return gates_in_panels(by_row.reshape(*by_row.shape[:-1], -1, self.hidden_size))

        return IntegerMatrix(
            in_panels(np.ascontiguousarray(small.values.T)),
            scale=in_panels(small.scales[:, 0]),
            bias=None if bias is None else in_panels(bias),
        )


class DynamicStack(Stack):
    """What a `Stack` is of floats, of `DynamicDirection`. ValueError where they do not make one."""

    layers: list[list[Any]]

    def __init__(self, layers: Sequence[Sequence[DynamicDirection]]) -> None:
        self.layers = [list(directions) for directions in layers]
        first = self.layers[0][0]
        self.cell = CELLS[first.cell]
        self.shape = LayerShape(
            self.cell.kind.key,
            first.input_size,
            first.hidden_size,
            len(self.layers),
            len(self.layers[0]) == 2,
            reverse=first.reverse and len(self.layers[0]) == 1,
            storage=first.storage,
        )
        for size, directions in zip(self.shape.layer_inputs, self.layers, strict=True):
            for one in directions:
                if (one.input_size, one.hidden_size, one.storage, one.cell) != (
                    size,
                    first.hidden_size,
                    first.storage,
                    first.cell,
                ):
                    raise ValueError("layers of a stack have one cell, size and storage")
        self._programs = [_program(directions) for directions in self.layers]
        self.usual = _unusual
        self.step = self._one_step

    def __reduce__(self) -> tuple[type[DynamicStack], tuple[list[list[Any]]]]:
        return DynamicStack, (self.layers,)

    def _one_step(self, x: np.ndarray, h: np.ndarray | None, c: np.ndarray | None) -> Any:
        if self.backwards:
            no_step(self.shape.kind.name)
        output, final = self.run_padded(x[None], None, h if c is None else (h, c))
        return output[0], *split(final)

    def run(self, packed: PackedSequence, hx: Initial = None) -> tuple[PackedSequence, State]:
        """Packed sequences ``[sum of lengths, input_size]``; states in the caller's order."""
        sizes = np.asarray(packed.batch_sizes, np.int64)
        valid = np.arange(sizes[0] if len(sizes) else 0) < sizes[:, None]
        padded = np.zeros((*valid.shape, self.shape.input_size), np.float32)
        padded[valid] = packed.data
        before, after = packed.sorted_indices, packed.unsorted_indices
        h_0, c_0 = split(hx)
        initial = reordered(h_0, before), reordered(c_0, before)
        output, final = self.run_padded(padded, valid.sum(axis=0), initial)
        h_n, c_n = split(final)
        final = joined(reordered(h_n, after), reordered(c_n, after))
        return packed._replace(data=output[valid]), final

    def run_list(
        self, sequences: list[np.ndarray], lengths: np.ndarray, hx: Initial = None
    ) -> tuple[list[np.ndarray], State]:
        """Sequences ``[L, input_size]`` that are arrays of their own, as one batch."""
        padded = np.zeros((max(lengths), len(sequences), self.shape.input_size), np.float32)
        for i, one in enumerate(sequences):
            padded[: len(one), i] = one
        output, final = self.run_padded(padded, lengths, hx)
        return [output[:length, i].copy() for i, length in enumerate(lengths)], final

    def run_in_place(
        self, steps: np.ndarray, starts: np.ndarray, lengths: np.ndarray, outputs: bool
    ) -> tuple[PackedSequence | None, State]:
        """Sequences that lie one behind the other, the longest first, from a zero state."""
        sizes = running_out(lengths, int(lengths[0]))
        places = [starts[:n] + t for t, n in enumerate(sizes)]
        packed, final = self.run(PackedSequence(steps[np.concatenate(places)], sizes))
        return packed if outputs else None, final

    def run_padded(
        self,
        input: np.ndarray,
        lengths: np.ndarray | None,
        hx: Initial = None,
        batch_first: bool = False,
    ) -> tuple[np.ndarray, State]:
        """A padded batch, as `Stack.run_padded`; what is behind a sequence's end has no part in the
        scales."""
        x = input.swapaxes(0, 1) if batch_first else input
        steps, sequences = x.shape[:2]
        shapes = self.shape.state_shapes(sequences)
        given = [
            np.zeros(shape, np.float32) if state is None else np.array(state, np.float32)
            for shape, state in zip(shapes, split(hx), strict=False)
        ]
        if lengths is None:
            lengths = np.full(sequences, steps)
        if not np.any(lengths):
            output = np.zeros((*input.shape[:2], self.shape.output_size), np.float32)
            return output, joined(given[0], given[1] if len(given) > 1 else None)
        ends = np.ascontiguousarray(lengths, np.int64)
        count = self.shape.directions
        finals = []
        for number, program in enumerate(self._programs):
            part = slice(number * count, (number + 1) * count)
            y, *final = program.run([x, ends, *(s[part] for s in given)])
            finals.append(final)
            x = y.transpose(0, 2, 1, 3).reshape(steps, sequences, self.shape.output_size)
        h_n, *c_n = (np.concatenate(parts) for parts in zip(*finals, strict=True))
        output = x.swapaxes(0, 1) if batch_first else x
        return np.ascontiguousarray(output), joined(h_n, c_n[0] if c_n else None)


class DynamicStepper:
    """One time step of one layer: what `vledge._ext.stack.Stepper` is of other layers."""

    def __init__(self, direction: DynamicDirection) -> None:
        self._stack = DynamicStack([[direction]])
        self.step = self._stack.step

    def __reduce__(self) -> tuple[type[DynamicStepper], tuple[DynamicDirection]]:
        return DynamicStepper, (self._stack.layers[0][0],)

    def cell(self, *_: object) -> None:
        """As `_unusual`."""


def _unusual(*_: object) -> None:
    """What `Stack` takes a short way for; here every call takes the whole one."""


def _program(directions: Sequence[DynamicDirection]) -> Program:
    """X, lengths and states → Y [T, D, B, H] and states, of one layer."""
    first = directions[0]
    states = len(CELLS[first.cell].kind.states)
    ints = [0, 0, first.hidden_size, len(directions), len(CELLS[first.cell].kind.gates)]
    ints.append(DYNAMIC[first.storage].levels)
    objects: list[object] = []
    for direction in directions:
        ints.append(int(direction.reverse))
        for matrix in direction.matrices():
            ints += matrix.ints
            objects += matrix.objects
    takes = list(range(2 + states))
    gives = list(range(len(takes), len(takes) + 1 + states))
    layer: tuple[object, ...] = ("quantised_recurrent", takes, gives, [], ints, [], objects, _unfit)
    return Program(len(takes) + len(gives), {}, [layer], (0, 1), takes, gives)


def _unfit(*arrays: np.ndarray) -> NoReturn:
    raise ValueError(f"arrays of shapes {[a.shape for a in arrays]} do not fit the layer")


class DynamicProduct:
    """``x W^T + b`` of torch's dynamically quantised Linear: x becomes bytes by one scale of all of
    it."""

    def __init__(self, weight: SmallMatrix, bias: np.ndarray | None = None) -> None:
        self.dtype = np.dtype(np.float32)
        self._weight, self._bias = weight, bias
        values = np.ascontiguousarray(weight.values.T)
        matrix = IntegerMatrix(values, scale=weight.scales[:, 0], bias=bias)
        ints = [DYNAMIC[weight.storage].levels, *matrix.ints]
        nothing: list[object] = []
        product = "dynamic_product", [0], [1], nothing, ints, nothing, matrix.objects, _unfit
        self._program = Program(2, {}, [product], (0, 1), [0], [1])

    def __reduce__(self) -> tuple[type[DynamicProduct], tuple[SmallMatrix, np.ndarray | None]]:
        return DynamicProduct, (self._weight, self._bias)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        (result,) = self._program.run([x])
        return result

    def weight(self) -> SmallMatrix:
        """As it came."""
        return self._weight

    def bias(self) -> np.ndarray | None:
        """As it came."""
        return self._bias
