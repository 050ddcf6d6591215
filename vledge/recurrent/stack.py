"""Stack: recurrent layers one upon another, of one or two directions each, as they run.

It trusts its arguments: ``inputs`` and ``states`` check them where callers come in. States are
``hx`` as torch has it (see ``states``); output and input are arrays of the weights' dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

import numpy as np

from vledge._ext import recurrent as kernels
from vledge._ext import stack as compiled_stack
from vledge._ext.packing import running_out, total
from vledge._ext.weights import Direction
from vledge.array_like import contiguous
from vledge.packing import PackedSequence, by_length
from vledge.recurrent.cells import CELLS
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.states import Initial, State, joined, reordered, split
from vledge.small_matrix import FORMS

__all__ = ["Stack", "no_step"]

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # output, h_n, c_n
Data = TypeVar("Data", np.ndarray, list[np.ndarray])  # what layers hand on to one another


class Stack:
    """Layers of one cell and size, as weights laid out for the kernels.

    Parameters
    ----------
    layers : for each layer its forward Direction, its reverse one, or both
        ValueError where they do not make a stack. Weights are shared, not copied.

    A stack is what has one, too: whatever takes a layer for its ``stack``, ``shape`` and
    ``batch_first`` takes this.
    """

    batch_first = False
    #: What takes no more steps in all is short: ``strategy="auto"`` needs no plan for it. The
    #: planner says, when it is first asked.
    short_steps = 0

    def __init__(self, layers: Sequence[Sequence[Direction]]) -> None:
        self.layers = [list(directions) for directions in layers]
        compiled = compiled_stack.Stack(self.layers)
        first = self.layers[0][0]
        self.cell = CELLS[first.cell]
        bidirectional = len(self.layers[0]) == 2
        self.shape = LayerShape(
            self.cell.kind.key,
            first.input_size,
            first.hidden_size,
            len(self.layers),
            bidirectional,
            first.proj_size,
            first.dtype.itemsize,
            first.reverse and not bidirectional,
            first.storage if first.storage in FORMS else "",
        )
        #: ``(x, h, c, batch_first)``, arrays as they lie in memory → ``(output, h_n, c_n)``; None
        #: where anything is unusual, of which nothing is said. What most calls are.
        self.usual: Callable[[object, object, object, bool], Any] = compiled.run
        #: ``(x [B, input_size], h, c)`` → ``(y, h, c)``: one time step.
        self.step: Callable[[np.ndarray, np.ndarray | None, np.ndarray | None], Any] = (
            partial(no_step, self.cell.kind.name)
            if bidirectional
            else compiled_stack.Stepper(self.directions).step
        )

    def __reduce__(self) -> tuple[type[Stack], tuple[list[list[Direction]]]]:
        return Stack, (self.layers,)

    @property
    def stack(self) -> Stack:
        """Itself."""
        return self

    @property
    def directions(self) -> list[Direction]:
        """Of all layers, forward before reverse."""
        return [direction for layer in self.layers for direction in layer]

    @property
    def nbytes(self) -> int:
        """Bytes that the weights take, laid out for the kernels."""
        return sum(direction.nbytes for direction in self.directions)

    @property
    def backwards(self) -> bool:
        """Whether one of the directions begins at a sequence's end: bidirectional layers, and ONNX
        nodes that are only reverse."""
        return self.shape.backwards

    def zero_state(self, sequences: int) -> State:
        """What ``hx=None`` stands for with so many sequences."""
        return self.shape.zero_state(sequences)

    def run(self, packed: PackedSequence, hx: Initial = None) -> tuple[PackedSequence, State]:
        """Packed sequences ``[sum of lengths, input_size]``; states in the caller's order."""
        batch_sizes = np.ascontiguousarray(packed.batch_sizes, np.int64)

        def one(layer: int, data: np.ndarray, h: np.ndarray | None, c: np.ndarray | None) -> Arrays:
            return kernels.run(self.layers[layer], data, batch_sizes, h, c)

        data, before, after = packed.data, packed.sorted_indices, packed.unsorted_indices
        h_0, c_0 = split(hx)
        h_0, c_0 = reordered(h_0, before), reordered(c_0, before)
        data, h_n, c_n = self._through(one, contiguous(data), h_0, c_0)
        final = joined(reordered(h_n, after), reordered(c_n, after))
        return packed._replace(data=data), final

    def run_list(
        self, sequences: list[np.ndarray], lengths: np.ndarray, hx: Initial = None
    ) -> tuple[list[np.ndarray], State]:
        """Sequences ``[L, input_size]`` that are arrays of their own, read where they lie; outputs
        and states in their order."""
        order, batch_sizes = by_length(lengths)
        outputs, h_n, c_n = self._through(
            lambda layer, data, h, c: kernels.run_list(
                self.layers[layer], data, batch_sizes, order, h, c
            ),
            sequences,
            *split(hx),
        )
        return outputs, joined(h_n, c_n)

    def run_in_place(
        self, steps: np.ndarray, starts: np.ndarray, lengths: np.ndarray, outputs: bool
    ) -> tuple[PackedSequence | None, State]:
        """Sequences that lie one behind the other, the longest first, from a zero state.

        Parameters
        ----------
        steps : ndarray [N, input_size]
        starts, lengths : ndarrays of int64 [B], ``lengths`` falling
        outputs : whether the output, packed, is wanted
        """
        batch_sizes = running_out(lengths, int(lengths[0]))
        data = contiguous(steps)
        h_n: list[np.ndarray] = []
        c_n: list[np.ndarray | None] = []
        for i, directions in enumerate(self.layers):
            last = i == len(self.layers) - 1
            data, h, c = kernels.run(
                directions, data, batch_sizes,
                starts=starts if i == 0 else None, outputs=outputs or not last,
            )  # fmt: skip
            h_n.append(h)
            c_n.append(c)
        cells = [c for c in c_n if c is not None]
        final = joined(np.concatenate(h_n), np.concatenate(cells) if cells else None)
        return PackedSequence(data, batch_sizes) if outputs else None, final

    def run_padded(
        self,
        input: np.ndarray,
        lengths: np.ndarray | None,
        hx: Initial = None,
        batch_first: bool = False,
    ) -> tuple[np.ndarray, State]:
        """A padded batch as it lies in memory; rows that have ended are skipped.

        Parameters
        ----------
        input : ndarray [T, B, input_size], or [B, T, input_size] with ``batch_first``
        lengths : ndarray of int64 [B], each from 0 to T; None where all are T
        hx : the initial state, None for zeros

        Returns
        -------
        output : ndarray, as input; zeros past each sequence's end
        hx : the state at each sequence's own end; the initial state of one of length 0
        """
        sequences, steps = input.shape[:2] if batch_first else input.shape[1::-1]
        if lengths is None:
            order, batch_sizes = None, np.full(steps, sequences, np.int64)
        else:
            order, batch_sizes = by_length(lengths)

        # no padding between layers
        packs = lengths is not None and total(lengths) < steps * sequences
        last = len(self.layers) - 1

        def one(layer: int, data: np.ndarray, h: np.ndarray | None, c: np.ndarray | None) -> Arrays:
            return kernels.run_padded(
                self.layers[layer], data, batch_sizes, order, h, c, batch_first,
                pack=packs and layer < last,
                unpack=steps if packs and layer else None,
            )  # fmt: skip

        output, h_n, c_n = self._through(one, contiguous(input), *split(hx))
        return output, joined(h_n, c_n)

    def _through(
        self,
        one: Callable[
            [int, Data, np.ndarray | None, np.ndarray | None],
            tuple[Data, np.ndarray, np.ndarray | None],
        ],
        data: Data,
        h_0: np.ndarray | None,
        c_0: np.ndarray | None,
    ) -> tuple[Data, np.ndarray, np.ndarray | None]:
        """One layer after another."""
        if len(self.layers) == 1:
            return one(0, data, h_0, c_0)
        h_n: list[np.ndarray] = []
        c_n: list[np.ndarray | None] = []
        count = self.shape.directions
        for i in range(len(self.layers)):
            part = slice(i * count, (i + 1) * count)
            data, h, c = one(
                i,
                data,
                None if h_0 is None else h_0[part],
                None if c_0 is None else c_0[part],
            )
            h_n.append(h)
            c_n.append(c)
        cells = [c for c in c_n if c is not None]
        return data, np.concatenate(h_n), np.concatenate(cells) if cells else None


def no_step(kind: str, *_: object) -> NoReturn:
    """Raise ValueError: what `Stack.step` is where a step cannot know what comes after it."""
    raise ValueError(
        f"a {kind} that runs backwards needs the whole sequence; step() runs layers of one "
        "direction, forward"
    )
