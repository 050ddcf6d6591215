"""The recurrent cells as the specification writes them, in NumPy: with clip or with peepholes.

One step of the live sequences at a time; what the kernels run faster does not come here.
Gates are in ONNX's order: z, r, h and i, o, f, c. Source: Operators.md, RNN, GRU, LSTM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.packing import by_length
from vledge.recurrent.cells import KINDS
from vledge.recurrent.nonlinearity import Nonlinearity

__all__ = ["Cell", "GenericDirection", "activation", "run_generic"]

Activation = Callable[[np.ndarray], np.ndarray]

# activation → its parameters with the defaults of the operator of its name; None: must be given
_PARAMETERS: Final[dict[str, dict[str, float | None]]] = {
    "relu": {},
    "tanh": {},
    "sigmoid": {},
    "softsign": {},
    "softplus": {},
    "affine": {"alpha": 1.0, "beta": 0.0},
    "leakyrelu": {"alpha": 0.01},
    "thresholdedrelu": {"alpha": 1.0},
    "scaledtanh": {"alpha": None, "beta": None},
    "hardsigmoid": {"alpha": 0.2, "beta": 0.5},
    "elu": {"alpha": 1.0},
}


_KERNEL_NAMES: Final = {
    "leakyrelu": "leaky_relu",
    "thresholdedrelu": "thresholded_relu",
    "scaledtanh": "scaled_tanh",
    "hardsigmoid": "hard_sigmoid",
}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5


def activation(name: str, alpha: float, beta: float) -> Activation:
    """An activation by its name in lower case."""
    match name:
        case "relu":
            return lambda x: np.maximum(x, 0)
        case "tanh":
            return np.tanh
        case "sigmoid":
            return _sigmoid
        case "softsign":
            return lambda x: x / (1 + np.abs(x))
        case "softplus":
            return lambda x: np.logaddexp(x, x.dtype.type(0))
        case "affine":
            return lambda x: alpha * x + beta
        case "leakyrelu":
            return lambda x: np.where(x >= 0, x, alpha * x)
        case "thresholdedrelu":
            return lambda x: np.where(x >= alpha, x, x.dtype.type(0))
        case "scaledtanh":
            return lambda x: alpha * np.tanh(beta * x)
        case "hardsigmoid":
            return lambda x: np.clip(alpha * x + beta, 0, 1)
        case "elu":
            return lambda x: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))
    raise FormatError(f"{name!r} is not one of the specification's activations")


def _nonlinearity(name: str, alpha: float, beta: float) -> Nonlinearity:
    """The same by the kernels' name."""
    beta = 1.0 if name == "elu" else beta  # its slope above 0
    return _KERNEL_NAMES.get(name, name), float(alpha), float(beta)


class Cell:
    """What a recurrent node's attributes say of its equations.

    Activations' parameters are taken in turn by the functions that have them, as onnxruntime does;
    where the list is used up, the default of the operator of that name holds.
    """

    def __init__(
        self,
        kind: str,
        activations: list[str] | None,
        alphas: list[float] | None,
        betas: list[float] | None,
        clip: float | None,
        direction: str,
    ) -> None:
        self.kind = kind
        self.clip = clip
        self.linear_before_reset = False
        self.input_forget = False
        count = 2 if direction == "bidirectional" else 1
        default = KINDS[kind].activations
        names = [name.lower() for name in activations or default * count]
        if kind == "RNN" and count == 1:
            names = names[:1]  # the specification's own default lists two
        if len(names) != len(default) * count:
            raise FormatError(
                f"activations has {len(names)} names, expected {len(default) * count} with "
                f"direction {direction!r}"
            )
        if clip is not None and not clip > 0:
            raise FormatError(f"clip is {clip}, expected more than 0")
        given = {"alpha": list(alphas or ()), "beta": list(betas or ())}
        self.names = names
        self.activations: list[Nonlinearity] = []  # as the kernels take them
        self.functions: list[Activation] = []
        for name in names:
            if name not in _PARAMETERS:
                raise FormatError(f"{name!r} is not one of the specification's activations")
            values = {"alpha": 0.0, "beta": 0.0}
            for key, preset in _PARAMETERS[name].items():
                value = given[key].pop(0) if given[key] else preset
                if value is None:
                    raise FormatError(f"the activation {name} needs activation_{key}")
                values[key] = value
            self.functions.append(activation(name, **values))
            self.activations.append(_nonlinearity(name, **values))

    def kernel(self, directions: int) -> str | None:
        """The compiled cell that computes this, or None."""
        if self.clip is not None or self.input_forget:
            return None
        if self.kind == "RNN":
            plain = self.names in (["tanh"] * directions, ["relu"] * directions)
            return f"rnn_{self.names[0]}" if plain else "rnn"
        if self.kind == "GRU":
            return "gru" if self.linear_before_reset else "gru_reset_before"
        return "lstm"

    def kernel_activations(self, index: int, cell: str) -> tuple[Nonlinearity, ...] | None:
        """What the kernel of ``cell`` takes for one direction; None for the cell's own."""
        own_activations = KINDS[self.kind].activations
        count = len(own_activations)
        own = slice(index * count, (index + 1) * count)
        if cell in ("rnn_tanh", "rnn_relu") or (
            cell != "rnn" and tuple(self.names[own]) == own_activations
        ):
            return None
        return tuple(self.activations[own])

    def clipped(self, x: np.ndarray) -> np.ndarray:
        """An activation's input within the node's bounds; NaN stays NaN."""
        return x if self.clip is None else np.clip(x, -self.clip, self.clip)


class GenericDirection:
    """One direction of a node: weights as in the file, without the axis of directions."""

    def __init__(
        self,
        cell: Cell,
        index: int,
        w: np.ndarray,
        r: np.ndarray,
        wb: np.ndarray | None,
        rb: np.ndarray | None,
        p: np.ndarray | None,
        reverse: bool,
    ) -> None:
        self.cell = cell
        self.w, self.r, self.wb, self.rb = w, r, wb, rb
        self.hidden_size = r.shape[1]
        self.peepholes = None if p is None else np.split(p, 3)
        self.reverse = reverse
        per_direction = len(KINDS[cell.kind].activations)
        self.functions = cell.functions[index * per_direction : (index + 1) * per_direction]
        self.step = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[cell.kind]

    def input_part(self, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """What the inputs add to the gates: ``rows`` of ``x [T, B, I]``, which has padding too."""
        gates = rows @ self.w.T
        return gates if self.wb is None else gates + self.wb

    def recurrent_part(self, h: np.ndarray, count: int) -> np.ndarray:
        """What the states add to the gates of the first ``count`` sequences, which run on, of those
        that ran in the step before, ``h``."""
        gates = h[:count] @ self.r.T
        return gates if self.rb is None else gates + self.rb

    def _rnn(
        self, gates: np.ndarray, h: np.ndarray, c: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return self.functions[0](self.cell.clipped(gates + self.recurrent_part(h, len(gates)))), c

    def _gru(
        self, gates: np.ndarray, h: np.ndarray, c: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        f, g = self.functions
        clipped, size = self.cell.clipped, self.hidden_size
        h = h[: len(gates)]
        rb = np.zeros(3 * size, h.dtype) if self.rb is None else self.rb
        zr = gates[:, : 2 * size] + (h @ self.r[: 2 * size].T + rb[: 2 * size])
        z, r = np.split(f(clipped(zr)), 2, axis=1)
        r_h, rb_h = self.r[2 * size :], rb[2 * size :]
        if self.cell.linear_before_reset:
            candidate = r * (h @ r_h.T + rb_h)
        else:
            candidate = (r * h) @ r_h.T + rb_h
        n = g(clipped(gates[:, 2 * size :] + candidate))
        return (1 - z) * n + z * h, c

    def _lstm(
        self, gates: np.ndarray, h: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        f, g, last = self.functions
        clipped = self.cell.clipped
        i, o, forget, candidate = np.split(gates + self.recurrent_part(h, len(gates)), 4, axis=1)
        if self.peepholes is not None:
            i = i + self.peepholes[0] * c
            forget = forget + self.peepholes[2] * c
        i = f(clipped(i))
        forget = 1 - i if self.cell.input_forget else f(clipped(forget))
        c = forget * c + i * g(clipped(candidate))
        if self.peepholes is not None:
            o = o + self.peepholes[1] * c
        return f(clipped(o)) * last(c), c


def run_generic(
    directions: list[GenericDirection],
    x: np.ndarray,
    lengths: np.ndarray | None,
    h_0: np.ndarray | None,
    c_0: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """x [T, B, I] → output [T, B, D*H], h_n, c_n [D, B, H]: as `Stack.run_padded`."""
    steps, sequences = x.shape[:2]
    size, has_cell = directions[0].hidden_size, "c" in KINDS[directions[0].cell.kind].states
    if lengths is None:
        rows, batch_sizes = np.arange(sequences), np.full(steps, sequences, np.int64)
    else:
        rows, batch_sizes = by_length(lengths)
    shape = (len(directions), sequences, size)
    h_n = np.zeros(shape, x.dtype) if h_0 is None else h_0.copy()
    c_n = np.zeros(shape, x.dtype) if c_0 is None else c_0.copy()
    # packed rows: those of the sequences that are still there, step after step
    live = np.arange(sequences) < batch_sizes[:, None]
    falling = live.sum(axis=0)
    forward, ranks = np.nonzero(live)
    places = rows[ranks]
    ends = np.cumsum(batch_sizes)
    output = np.zeros((steps, sequences, len(directions) * size), x.dtype)
    for index, direction in enumerate(directions):
        # backwards, each sequence begins at its own end
        times = falling[ranks] - 1 - forward if direction.reverse else forward
        gates = direction.input_part(x[times, places], x[: len(batch_sizes)])
        h, c = h_n[index][rows], c_n[index][rows]
        hidden = np.empty((len(gates), size), x.dtype)
        ran = sequences
        for n, end in zip(batch_sizes, ends, strict=True):
            h[:n], c[:n] = direction.step(gates[end - n : end], h[:ran], c[:n])
            hidden[end - n : end] = h[:n]
            ran = n
        output[times, places, index * size : (index + 1) * size] = hidden
        h_n[index][rows], c_n[index][rows] = h, c
    return output, h_n, c_n if has_cell else None
