"""RNNCell, LSTMCell and GRUCell: one time step of one layer, for loops that users write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vledge._ext.stack import Stepper
from vledge._ext.weights import Direction
from vledge.array_like import array_of, contiguous, wrong_dtype
from vledge.nn.dtype import DType, float_dtype, require_cpu
from vledge.nn.packed import PackedModule
from vledge.nn.parameter import UnloadedError
from vledge.recurrent.cells import CELLS
from vledge.recurrent.directions import direction_of
from vledge.recurrent.recognize import read_cell
from vledge.weights.plain import PlainWeights, plain_name

if TYPE_CHECKING:
    from vledge.recurrent.dynamic import DynamicDirection

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class CellBase(PackedModule):
    """What the cells share: weights without a layer suffix. Source: torch.nn.RNNCellBase."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        if hidden_size <= 0:
            raise ValueError(f"hidden_size must be greater than zero, got {hidden_size}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self._cell = CELLS[cell]
        self._dtype = float_dtype(dtype)
        self._stepper: Any = None  # a Stepper, or what steps as it does
        for name, shape in self._cell.kind.shapes(input_size, hidden_size, bias).items():
            self.declare(name, shape, self._dtype, small=len(shape) == 2)

    def _own_state(self) -> dict[str, np.ndarray]:
        state = super()._own_state()
        return {
            n: self._packed.stored(n) if n.startswith("weight") else a for n, a in state.items()
        }

    def _pack(self, arrays: dict[str, Any]) -> Direction | DynamicDirection:
        direction = direction_of(self._cell.name, arrays)
        self._dtype = direction.dtype
        if isinstance(direction, Direction):
            self._stepper = Stepper([direction])
        else:
            from vledge.recurrent.dynamic import DynamicStepper

            self._stepper = DynamicStepper(direction)
        return direction

    @classmethod
    def _from_weights(
        cls, cell: str, weights: Mapping[str, np.ndarray], prefix: str, options: dict[str, Any]
    ) -> Any:
        weights, prefix = PlainWeights.of(weights), plain_name(prefix)
        recognized = read_cell(weights, prefix, CELLS[cell].kind, cls.__name__)
        if options.get("dtype") is None:
            options["dtype"] = recognized.dtype
        module = cls(**recognized.sizes, **options)
        module.load_state_dict({name: weights[prefix + name] for name in module._declared})
        return module

    def _run(
        self, input: ArrayLike, h: ArrayLike | None, c: ArrayLike | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if self._stepper is None:
            raise UnloadedError(self)
        usual = self._stepper.cell(input, h, c)
        if usual is not None:
            return usual
        input = array_of(input, "input", stack=True)
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.shape[-1]} expected "
                f"{self.input_size}"
            )
        if input.dtype != self._dtype:
            raise ValueError(wrong_dtype("input", input.dtype, self._dtype))
        shape = (*input.shape[:-1], self.hidden_size)
        rows = contiguous(input.reshape(-1, self.input_size))
        states = [self._state(s, n, shape) for s, n in ((h, "hidden"), (c, "cell state"))]
        y, _, c_n = self._stepper.step(rows, *states)
        return y.reshape(shape), None if c_n is None else c_n.reshape(shape)

    def _state(
        self, state: ArrayLike | None, name: str, shape: tuple[int, ...]
    ) -> np.ndarray | None:
        if state is None:
            return None
        state = array_of(state, name, stack=True)
        if state.shape != shape:
            raise RuntimeError(
                f"{type(self).__name__}: Expected {name} of shape {shape}, got {state.shape}"
            )
        if state.dtype != self._dtype:
            raise ValueError(wrong_dtype(name, state.dtype, self._dtype))
        return contiguous(state).reshape(1, -1, self.hidden_size)

    def extra_repr(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        if not self.bias:
            parts.append("bias=False")
        if self._cell.name == "rnn_relu":
            parts.append("nonlinearity=relu")
        return ", ".join(parts)


class RNNCell(CellBase):
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu. Source: torch.nn.RNNCell."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: object = None,
        dtype: DType = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        self.nonlinearity = nonlinearity
        super().__init__(f"rnn_{nonlinearity}", input_size, hidden_size, bias, device, dtype)

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        nonlinearity: str = "tanh",
        dtype: DType = None,
    ) -> RNNCell:
        """Build the cell from ``weight_ih``, ``weight_hh`` and biases under ``prefix``."""
        options = {"nonlinearity": nonlinearity, "dtype": dtype}
        return cls._from_weights("rnn_tanh", weights, prefix, options)

    def forward(self, input: ArrayLike, hx: ArrayLike | None = None) -> np.ndarray:
        """``input [B, input_size]`` or ``[input_size]``, ``hx`` as the result or None for zeros ->
        ``h' [B, hidden_size]`` or ``[hidden_size]``."""
        return self._run(input, hx, None)[0]


class GRUCell(CellBase):
    """One step of :class:`vledge.nn.GRU`. Source: torch.nn.GRUCell."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__("gru", input_size, hidden_size, bias, device, dtype)

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, np.ndarray], prefix: str = "", *, dtype: DType = None
    ) -> GRUCell:
        """Build the cell from ``weight_ih``, ``weight_hh`` and biases under ``prefix``."""
        return cls._from_weights("gru", weights, prefix, {"dtype": dtype})

    def forward(self, input: ArrayLike, hx: ArrayLike | None = None) -> np.ndarray:
        """``input [B, input_size]`` or ``[input_size]``, ``hx`` as the result or None for zeros ->
        ``h' [B, hidden_size]`` or ``[hidden_size]``."""
        return self._run(input, hx, None)[0]


class LSTMCell(CellBase):
    """One step of :class:`vledge.nn.LSTM`. Source: torch.nn.LSTMCell."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype)

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, np.ndarray], prefix: str = "", *, dtype: DType = None
    ) -> LSTMCell:
        """Build the cell from ``weight_ih``, ``weight_hh`` and biases under ``prefix``."""
        return cls._from_weights("lstm", weights, prefix, {"dtype": dtype})

    def forward(
        self, input: ArrayLike, hx: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``input [B, input_size]`` or ``[input_size]``, ``hx (h, c)`` as the result or None for
        zeros -> ``(h', c')``, each ``[B, hidden_size]`` or ``[hidden_size]``."""
        h, c = hx if hx is not None else (None, None)
        h_n, c_n = self._run(input, h, c)
        assert c_n is not None
        return h_n, c_n
