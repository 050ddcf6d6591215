"""DynamicStack: torch's dynamically quantised LSTM and GRU, as `Stack` runs those of floats.

Inputs become bytes by one scale of all steps and sequences of a call, and states by one of all
sequences of a step, so that a result depends a little on what else is in the batch; with a packed
batch it is torch's. Biases, gates and states are float32.
Source: RNN.cpp and qlinear_dynamic.cpp in torch's aten/src/ATen/native.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import numpy as np

from vledge._ext.integer_matrix import IntegerMatrix, gates_in_panels
from vledge._ext.packing import running_out
from vledge._ext.program import LayerCall, Program
from vledge.packing import PackedSequence
from vledge.recurrent.cells import CELLS
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack, no_step
from vledge.recurrent.states import Initial, State, joined, reordered, split
from vledge.small_matrix import DYNAMIC, SmallMatrix

__all__ = ["DynamicDirection", "DynamicProduct", "DynamicStack", "DynamicStepper"]

_TORCHS_AXES: Final = 2  # of the handler's layouts: y [T, B, D * H]


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
        packed = [[one.matrices() for one in directions] for directions in self.layers]
        self.program, self._ragged = (_program(self.layers, packed, ends) for ends in (False, True))
        lstm = len(self.cell.kind.states) == 2
        counts = self.shape.num_layers, self.shape.directions
        sizes = first.input_size, first.hidden_size
        self.usual = LayerCall(self.program, *counts, *sizes, lstm).run
        self.step = self._one_step

    def __reduce__(self) -> tuple[type[DynamicStack], tuple[list[list[Any]]]]:
        return DynamicStack, (self.layers,)

    def _one_step(self, x: np.ndarray, h: np.ndarray | None, c: np.ndarray | None) -> Any:
        if self.backwards:
            no_step(self.shape.kind.name)
        usual = self.usual(x[None], h, c, False) if isinstance(x, np.ndarray) else None
        if usual is not None:
            return usual[0][0], *usual[1:]
        output, final = self.run_padded(np.asarray(x)[None], None, h if c is None else (h, c))
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
        shape = (int(np.max(lengths, initial=0)), len(sequences), self.shape.input_size)
        padded = np.zeros(shape, np.float32)
        for b, sequence in enumerate(sequences):
            padded[: len(sequence), b] = sequence
        output, final = self.run_padded(padded, lengths, hx)
        return [output[:n, b].copy() for b, n in enumerate(lengths)], final

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
        if not (steps * sequences if lengths is None else np.any(lengths)):
            output = np.zeros((*input.shape[:2], self.shape.output_size), np.float32)
            return output, joined(given[0], given[1] if len(given) > 1 else None)
        parts = [part for state in given for part in np.split(state, self.shape.num_layers)]
        if lengths is None:
            y, *final = self.program.run([x, *parts])
        else:
            y, *final = self._ragged.run([x, np.ascontiguousarray(lengths, np.int64), *parts])
        count = self.shape.num_layers
        h_n, *c_n = (np.concatenate(final[k : k + count]) for k in range(0, len(final), count))
        output = np.ascontiguousarray(y.swapaxes(0, 1) if batch_first else y)
        return output, joined(h_n, c_n[0] if c_n else None)


class DynamicStepper:
    """One time step of one layer: what `vledge._ext.stack.Stepper` is of other layers."""

    def __init__(self, direction: DynamicDirection) -> None:
        self._stack = DynamicStack([[direction]])
        self.step = self._stack.step

    def __reduce__(self) -> tuple[type[DynamicStepper], tuple[DynamicDirection]]:
        return DynamicStepper, (self._stack.layers[0][0],)

    def cell(self, *_: object) -> None:
        """As `vledge._ext.stack.Stepper.cell` where a call is unusual: here each takes `step`."""


def _program(
    layers: Sequence[Sequence[DynamicDirection]],
    packed: Sequence[Sequence[list[IntegerMatrix]]],
    ends: bool,
) -> Program:
    """x [T, B, I], lengths if it is to have ``ends``, and of each layer h, and of each c → y
    [T, B, D * H] and states in the same order."""
    first = layers[0][0]
    kinds = len(CELLS[first.cell].kind.states)
    count = kinds * len(layers)
    lengths = 1 if ends else -1
    before = range(1 + ends, 1 + ends + count)
    after = range(before.stop, before.stop + count)
    outputs = range(after.stop, after.stop + len(layers))
    instructions: list[tuple[object, ...]] = []
    for number, directions in enumerate(layers):
        below = [outputs[number - 1]] if number else []
        own = slice(number, None, len(layers))
        takes = [*(below or [0]), lengths, *before[own]]
        gives = [outputs[number], *after[own]]
        ints = [_TORCHS_AXES, 0, first.hidden_size, len(directions)]
        ints += [len(CELLS[first.cell].kind.gates), DYNAMIC[first.storage].levels]
        objects: list[object] = []
        for direction, matrices in zip(directions, packed[number], strict=True):
            ints.append(int(direction.reverse))
            for matrix in matrices:
                ints += matrix.ints
                objects += matrix.objects
        instructions.append(("quantised_recurrent", takes, gives, below, ints, [], objects, _unfit))
    inputs = list(range(before.stop))
    return Program(outputs.stop, {}, instructions, (0, len(layers)), inputs, [outputs[-1], *after])


def _unfit(*arrays: np.ndarray | None) -> NoReturn:
    shapes = [array.shape for array in arrays if array is not None]
    raise ValueError(f"arrays of shapes {shapes} do not fit the layer")


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
