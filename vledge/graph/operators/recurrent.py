"""ONNX's RNN, GRU and LSTM, every attribute: on the packed kernels, or on the generic path.

Nodes without clip, peepholes and input_forget run on ``vledge._ext.recurrent``, whatever their
activations; what else the specification allows runs on ``recurrent_generic``. Both do
no work past a sequence's length.

Layouts cost no copies where views do: the kernels write ``[T, B, D*H]`` or, when X is the transpose
of a batch-first array, ``[B, T, D*H]``; Y is a view of it in ONNX's order of axes, so that the
Transpose, Squeeze and Reshape nodes that exporters put around a recurrent node lead back to the
kernel's own array, which the next recurrent node recognises in its turn.

Where the specification is silent: Y is zero past a sequence's length and Y_h, Y_c are the states at
its end; a sequence of length 0 has the final state that ``empty_state`` says.
Source: Operators.md, opsets 1 to 28.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vledge.array_like import contiguous
from vledge.errors import FormatError
from vledge.graph.operators.recurrent_generic import Cell, GenericDirection, run_generic
from vledge.graph.registry import Context, prepared_operator
from vledge.lengths.model_strategy import MODEL_STRATEGY
from vledge.recurrent.cells import KINDS, in_order
from vledge.recurrent.directions import direction_of, stack_of
from vledge.recurrent.states import split
from vledge.small_matrix import SmallMatrix, SmallTensor

if TYPE_CHECKING:
    from vledge._ext.weights import Direction
    from vledge.recurrent.dynamic import DynamicDirection
    from vledge.recurrent.stack import Stack

__all__ = ["RecurrentNode"]

WEIGHTS = (1, 2, 3, 7, 8, 9, 10, 11)  # the inputs that are weights: W, R, B, P, and scales
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


# One definition for every opset: what later ones added (linear_before_reset, layout) means by its
# default what was before, and output_sequence, which went, only said that Y may be absent.


@prepared_operator("RNN", since=1)
def rnn(
    context: Context,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    layout: int = 0,
    output_sequence: int = 0,
) -> RecurrentNode:
    cell = Cell("RNN", activations, activation_alpha, activation_beta, clip, direction)
    return RecurrentNode(context, cell, direction, hidden_size, layout)


@prepared_operator("GRU", since=1)
def gru(
    context: Context,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    linear_before_reset: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
) -> RecurrentNode:
    cell = Cell("GRU", activations, activation_alpha, activation_beta, clip, direction)
    cell.linear_before_reset = bool(linear_before_reset)
    return RecurrentNode(context, cell, direction, hidden_size, layout)


@prepared_operator("LSTM", since=1)
def lstm(
    context: Context,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    input_forget: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
) -> RecurrentNode:
    cell = Cell("LSTM", activations, activation_alpha, activation_beta, clip, direction)
    cell.input_forget = bool(input_forget)
    return RecurrentNode(context, cell, direction, hidden_size, layout)


class RecurrentNode:
    """One node: its weights, laid out once if they are constant, and how a call goes through.

    Calling it with ``X, W, R, B, sequence_lens, initial_h, initial_c, P`` returns ``Y, Y_h`` and,
    for an LSTM, ``Y_c``, in the node's layout.
    """

    def __init__(
        self,
        context: Context,
        cell: Cell,
        direction: str,
        hidden_size: int | None,
        layout: int,
        lay_out: Callable[..., Weights] | None = None,
    ) -> None:
        lay_out = lay_out or Weights
        if direction not in _DIRECTIONS:
            raise FormatError(f"direction is {direction!r}, expected one of {list(_DIRECTIONS)}")
        if layout not in (0, 1):
            raise FormatError(f"layout is {layout}, expected 0 or 1")
        self.cell = cell
        self.count = _DIRECTIONS[direction]
        self.has_cell_state = "c" in KINDS[cell.kind].states
        self.layout = layout
        self.empty_state = context.options.get("empty_state", "zero")
        self.lay_out = functools.partial(lay_out, cell, direction, hidden_size)
        self.weights: Weights | None = None
        inputs = context.node.inputs
        if len(inputs) < 3 or not all(inputs[:3]):
            raise FormatError("X, W and R cannot be absent")
        own = [index for index in WEIGHTS if index < len(inputs) and inputs[index]]
        if all(context.constants[index] is not None for index in own):
            constants = [*context.constants, *[None] * (12 - len(inputs))]
            self.weights = self.lay_out(*(constants[index] for index in WEIGHTS))
            for index in own:
                context.release(index)

    def __call__(
        self,
        x: np.ndarray,
        w: np.ndarray | None,
        r: np.ndarray | None,
        b: np.ndarray | None = None,
        sequence_lens: np.ndarray | None = None,
        initial_h: np.ndarray | None = None,
        initial_c: np.ndarray | None = None,
        p: np.ndarray | None = None,
        *scales: np.ndarray | None,
    ) -> tuple[np.ndarray | None, ...]:
        weights = self.weights or self.lay_out(w, r, b, p, *scales)
        if x.ndim != 3 or x.shape[2] != weights.input_size:
            axes = "[B, T, I]" if self.layout else "[T, B, I]"
            raise ValueError(
                f"X has the shape {x.shape}, expected {axes} with {weights.input_size} features"
            )
        if x.dtype != weights.outer_dtype:
            raise ValueError(f"X is {x.dtype}, expected {weights.outer_dtype} as W and R are")
        if self.layout:
            x = x.transpose(1, 0, 2)
        steps, sequences = x.shape[:2]
        states = [
            self._state(state, name, weights, sequences)
            for state, name in ((initial_h, "initial_h"), (initial_c, "initial_c"))
        ]
        x = x.astype(weights.dtype, copy=False)
        lengths = None
        if sequence_lens is not None:
            lengths = _checked_lengths(sequence_lens, steps, sequences)
        asked = MODEL_STRATEGY.get()
        if asked is not None and steps and sequences:
            # strategies are imported by who asks for one
            from vledge.graph.strategy import run_by_strategy

            ran = run_by_strategy(asked, weights.stack, x, lengths, states, self.empty_state)
            if ran is not None:
                return self._finished(weights, *ran)
        if steps == 0 or sequences == 0:
            lengths = np.zeros(sequences, np.int64)
        elif lengths is not None and (lengths == steps).all():
            lengths = None
        if lengths is None and steps == 1 and weights.count == 1 and weights.stack is not None:
            y, h, c = weights.stack.step(contiguous(x[0]), *states)
            return self._finished(weights, y[None], h, c)
        output, h_n, c_n = weights.run_padded(x, lengths, *states)
        if lengths is not None and self.empty_state == "zero":
            for final in (h_n, c_n):
                if final is not None:
                    final[:, lengths == 0] = 0
        return self._finished(weights, output, h_n, c_n)

    def _state(
        self, state: np.ndarray | None, name: str, weights: Weights, sequences: int
    ) -> np.ndarray | None:
        if state is None:
            return None
        if self.layout and state.ndim == 3:
            state = state.transpose(1, 0, 2)
        expected = (weights.count, sequences, weights.hidden_size)
        if state.shape != expected:
            raise ValueError(
                f"{name} has the shape {state.shape}, expected {expected}, which is "
                "[directions, sequences, hidden_size]"
            )
        return contiguous(state.astype(weights.dtype, copy=False))

    def _finished(
        self, weights: Weights, output: np.ndarray, h_n: np.ndarray, c_n: np.ndarray | None
    ) -> tuple[np.ndarray | None, ...]:
        """Results in ONNX's order of axes, from ``output [T, B, D*H]``; views, not copies."""
        steps, sequences = output.shape[:2]
        y = output.reshape(steps, sequences, weights.count, weights.hidden_size)
        if self.layout:
            y = y.transpose(1, 0, 2, 3)
            h_n = h_n.transpose(1, 0, 2)
            c_n = None if c_n is None else c_n.transpose(1, 0, 2)
        else:
            y = y.transpose(0, 2, 1, 3)
        results = (y, h_n) if c_n is None else (y, h_n, c_n)
        if weights.outer_dtype != weights.dtype:
            return tuple(array.astype(weights.outer_dtype) for array in results)
        return results


class Weights:
    """W, R, B and P of a node, checked and laid out for the path that runs them."""

    def __init__(
        self,
        cell: Cell,
        direction: str,
        hidden_size: int | None,
        w: np.ndarray,
        r: np.ndarray,
        b: np.ndarray | None = None,
        p: np.ndarray | None = None,
        *scales: None,
    ) -> None:
        self._check_shapes(cell, direction, hidden_size, w, r, b, p)
        for name, array in (("R", r), ("B", b), ("P", p)):
            if array is not None and array.dtype != w.dtype:
                raise FormatError(f"{name} is {array.dtype}, expected {w.dtype} as W is")
        if w.dtype not in (np.float16, np.float32, np.float64):
            raise FormatError(f"W is {w.dtype}, expected a floating-point type")
        self.outer_dtype: np.dtype = w.dtype
        # half precision is computed in single: half the rounding, and the only kernels there are
        self.dtype: np.dtype = np.dtype(np.float64 if w.dtype == np.float64 else np.float32)
        w, r = (a.astype(self.dtype, copy=False) for a in (w, r))
        b, p = (None if a is None else a.astype(self.dtype, copy=False) for a in (b, p))
        self.stack: Stack | None = None
        self.generic: list[GenericDirection] = []
        directions: list[Direction | DynamicDirection] = []
        kernel = cell.kernel(self.count) if p is None else None
        for index in range(self.count):
            reverse = direction == "reverse" or index == 1
            wb, rb = (None, None) if b is None else np.split(b[index], 2)
            if kernel is None:
                peepholes = None if p is None else p[index]
                self.generic.append(
                    GenericDirection(cell, index, w[index], r[index], wb, rb, peepholes, reverse)
                )
            else:
                asked = cell.kernel_activations(index, kernel)
                w_d, r_d = _small(w, r, index, cell.kind) or (
                    _in_torch_order(np.asarray(a[index]), cell.kind) for a in (w, r)
                )
                parts = {"weight_ih": w_d, "weight_hh": r_d}
                for name, a in (("bias_ih", wb), ("bias_hh", rb)):
                    if a is not None:
                        parts[name] = _in_torch_order(a, cell.kind)
                directions.append(direction_of(kernel, parts, reverse, asked))
        if directions:
            self.stack = stack_of([directions])

    def _check_shapes(
        self,
        cell: Cell,
        direction: str,
        hidden_size: int | None,
        w: np.ndarray,
        r: np.ndarray,
        b: np.ndarray | None,
        p: np.ndarray | None,
    ) -> None:
        """Take the sizes off ``w [D, gates * H, I]`` and ``r [D, gates * H, H]``, and check all."""
        if w.ndim != 3 or r.ndim != 3:
            raise FormatError(f"W and R have {w.ndim} and {r.ndim} axes, expected 3")
        self.count = count = _DIRECTIONS[direction]
        self.input_size = w.shape[2]
        self.hidden_size = size = r.shape[2]
        rows = len(KINDS[cell.kind].gates) * size
        if hidden_size is not None and hidden_size != size:
            raise FormatError(
                f"hidden_size is {hidden_size}, but R has the shape {r.shape}, expected "
                f"{hidden_size} on its last axis"
            )
        expected = {
            "W": (w, (count, rows, self.input_size)),
            "R": (r, (count, rows, size)),
            "B": (b, (count, 2 * rows)),
            "P": (p, (count, 3 * size)),
        }
        for name, (array, shape) in expected.items():
            if array is not None and array.shape != shape:
                raise FormatError(
                    f"{name} has the shape {array.shape}, expected {shape} with direction "
                    f"{direction!r} and hidden_size {size}"
                )

    def run_padded(
        self,
        x: np.ndarray,
        lengths: np.ndarray | None,
        h_0: np.ndarray | None,
        c_0: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """x [T, B, I] of any strides → output [T, B, D*H], zeros past each length; h_n, c_n.

        ``lengths`` [B] is None where all are T.
        """
        if self.stack is None:
            return run_generic(self.generic, x, lengths, h_0, c_0)
        hx = None if h_0 is None and c_0 is None else (h_0, c_0)
        swapped = x.transpose(1, 0, 2)
        if x.flags.aligned and not x.flags.c_contiguous and swapped.flags.c_contiguous:
            output, final = self.stack.run_padded(swapped, lengths, hx, True)
            return output.transpose(1, 0, 2), *split(final)
        output, final = self.stack.run_padded(x, lengths, hx)
        return output, *split(final)


def _small(
    w: np.ndarray, r: np.ndarray, index: int, kind: str
) -> tuple[SmallMatrix, SmallMatrix] | None:
    """One direction's W and R as the small weights that both stand for."""
    known = [a.small for a in (w, r) if isinstance(a, SmallTensor) and a.small]
    if len(known) < 2:
        return None
    own = known[0][index], known[1][index]
    if own[0].storage != own[1].storage:
        return None
    w_d, r_d = (
        SmallMatrix(
            _in_torch_order(one.values, kind), _in_torch_order(one.scales, kind), one.storage
        )
        for one in own
    )
    return w_d, r_d


def _in_torch_order(array: np.ndarray, kind: str) -> np.ndarray:
    return in_order(kind, array, "ONNX", "PyTorch")


def _checked_lengths(lengths: np.ndarray, steps: int, sequences: int) -> np.ndarray:
    if lengths.shape != (sequences,):
        raise ValueError(f"sequence_lens has the shape {lengths.shape}, expected ({sequences},)")
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"sequence_lens is {lengths.dtype}, expected int32")
    wrong = np.flatnonzero((lengths < 0) | (lengths > steps))
    if wrong.size:
        raise ValueError(
            f"sequence_lens[{wrong[0]}] is {lengths[wrong[0]]} but X has only {steps} time steps"
        )
    return lengths.astype(np.int64)
