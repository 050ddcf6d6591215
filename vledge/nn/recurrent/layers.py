"""RNN, GRU and LSTM, as torch constructs and calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from vledge.nn.dtype import DType
from vledge.nn.recurrent.base import Pair, RecurrentBase
from vledge.packing.sequence import Output, Sequences
from vledge.recurrent.nonlinearity import ActivationChoice, Nonlinearity, nonlinearity
from vledge.recurrent.stack import no_step
from vledge.recurrent.states import GivenState

__all__ = ["GRU", "LSTM", "RNN", "OneState"]


class OneState(RecurrentBase):
    """RNN, GRU and IndRNN: the state is h alone."""

    def forward(self, input: Sequences, hx: GivenState = None) -> tuple[Output, np.ndarray]:
        """Run whole sequences.

        Parameters
        ----------
        input : ndarray [T, B, input_size], or [B, T, input_size] with batch_first,
                or [T, input_size] unbatched; or PackedSequence, torch's too; or a list of
                ndarray [L, input_size], which runs packed
        hx : ndarray [num_layers * D, B, hidden_size], or [num_layers * D, hidden_size] unbatched,
             or None for zeros; in the caller's order of sequences

        Returns
        -------
        output : as input, with D * hidden_size features (a PackedSequence for a PackedSequence, a
                 list for a list)
        h_n : ndarray, as hx
        """
        stack = self._stack  # without: `_run` says so
        usual = None if stack is None else stack.usual(input, hx, None, self.batch_first)
        return self._run(input, hx) if usual is None else usual[:2]

    def step(self, x: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One time step: ``x [B, input_size]``, ``state [num_layers, B, hidden_size]`` or None for
        zeros -> ``(y [B, hidden_size], state)``. Arrays must be of the layer's dtype, and are
        copied where they are not C-contiguous; the state given is not changed."""
        if self._turned:
            no_step(type(self).__name__)
        y, h, _ = (self._stack or self.stack).step(x, state, None)
        return y, h


class RNN(OneState):
    """Elman network: ``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``, or relu.

    ``nonlinearity`` is torch's "tanh" or "relu", or another of GRU's activations.
    Weights ``weight_ih_l{k}{_reverse} [H, I]``, ``weight_hh_… [H, H]``, ``bias_ih_… [H]``,
    ``bias_hh_… [H]``. ``dropout`` is accepted and does nothing, as in ``eval()``.
    Source: torch.nn.RNN.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: ActivationChoice = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        self.nonlinearity = nonlinearity
        cell, activations = _elman(nonlinearity)
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            activations=activations,
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        nonlinearity: ActivationChoice = "tanh",
        batch_first: bool = False,
        dtype: DType = None,
    ) -> RNN:
        """Build the layer from torch's weights under ``prefix``, sizes read off their shapes.

        The nonlinearity does not show in the weights and must be said where it is not tanh.
        float64 weights make a float64 layer unless ``dtype`` says otherwise.
        """
        return cls._from_weights(
            "rnn_tanh",
            weights,
            prefix,
            {"nonlinearity": nonlinearity, "batch_first": batch_first, "dtype": dtype},
        )


class GRU(OneState):
    """Gated recurrent unit in torch's form, with the reset gate after the product::

        r, z = sigmoid(W_ir x + b_ir + W_hr h + b_hr), sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Weights as RNN's, of 3H rows in the order r, z, n. ``dropout`` is accepted and does nothing.
    ``reset_after=False`` is not torch's but Keras' and ONNX's (``linear_before_reset=0``) other
    form, the paper's: ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``.

    ``recurrent_activation`` and ``activation`` are Keras' words for what stands in the place of
    sigmoid and tanh: one of "sigmoid", "tanh", "relu", "linear", "elu", "selu", "softsign",
    "softplus", "exponential", "silu", "gelu", "relu6", or a name and its parameters,
    ``("hard_sigmoid", 0.2, 0.5)``, ``("leaky_relu", 0.01)`` and the others that ONNX lists.
    Source: torch.nn.GRU.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: object = None,
        dtype: DType = None,
        *,
        reset_after: bool = True,
        activation: ActivationChoice = "tanh",
        recurrent_activation: ActivationChoice = "sigmoid",
    ) -> None:
        self.reset_after = reset_after
        self.activation, self.recurrent_activation = activation, recurrent_activation
        super().__init__(
            "gru" if reset_after else "gru_reset_before",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            activations=_gated(activation, recurrent_activation, 1),
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        batch_first: bool = False,
        dtype: DType = None,
        reset_after: bool = True,
        activation: ActivationChoice = "tanh",
        recurrent_activation: ActivationChoice = "sigmoid",
    ) -> GRU:
        """Build the layer from torch's weights under ``prefix``, sizes read off their shapes.

        ``reset_after`` and the activations do not show in the weights and must be said where they
        are not torch's.
        """
        options = {
            "batch_first": batch_first,
            "dtype": dtype,
            "reset_after": reset_after,
            "activation": activation,
            "recurrent_activation": recurrent_activation,
        }
        return cls._from_weights("gru", weights, prefix, options)


class LSTM(RecurrentBase):
    """Long short-term memory, with an optional projection of the output::

        i, f, o = sigmoid(W_i. x + b_i. + W_h. h + b_h.)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        c' = f * c + i * g
        h' = o * tanh(c')          with proj_size: h' = W_hr (o * tanh(c'))

    ``recurrent_activation`` and ``activation`` stand in the place of sigmoid and of both tanh, as
    GRU's do. Weights as RNN's, of 4H rows in the order i, f, g, o, and
    ``weight_hr_l{k} [proj_size, H]``. ``dropout`` is accepted and does nothing.
    Source: torch.nn.LSTM.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: object = None,
        dtype: DType = None,
        *,
        activation: ActivationChoice = "tanh",
        recurrent_activation: ActivationChoice = "sigmoid",
    ) -> None:
        self.activation, self.recurrent_activation = activation, recurrent_activation
        super().__init__(
            "lstm",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            _gated(activation, recurrent_activation, 2),
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        batch_first: bool = False,
        dtype: DType = None,
        activation: ActivationChoice = "tanh",
        recurrent_activation: ActivationChoice = "sigmoid",
    ) -> LSTM:
        """Build the layer from torch's weights under ``prefix``, sizes read off their shapes.

        The activations do not show in the weights and must be said where they are not torch's.
        """
        options = {
            "batch_first": batch_first,
            "dtype": dtype,
            "activation": activation,
            "recurrent_activation": recurrent_activation,
        }
        return cls._from_weights("lstm", weights, prefix, options)

    def forward(
        self, input: Sequences, hx: GivenState = None
    ) -> tuple[Output, tuple[np.ndarray, np.ndarray]]:
        """Run whole sequences.

        Parameters
        ----------
        input : as GRU's
        hx : tuple (h_0 [num_layers * D, B, proj_size or hidden_size],
             c_0 [num_layers * D, B, hidden_size]), or None for zeros; in the caller's order

        Returns
        -------
        output : as input, with D * (proj_size or hidden_size) features
        (h_n, c_n) : as hx
        """
        h_0, c_0 = self._split(hx)
        stack = self._stack  # without: `_run` says so
        usual = None if stack is None else stack.usual(input, h_0, c_0, self.batch_first)
        return self._run(input, hx) if usual is None else (usual[0], usual[1:])

    def _split(self, hx: GivenState) -> Pair:
        return (None, None) if hx is None else _pair(cast("Sequence[ArrayLike | None]", hx))

    def _joined(self, h_0: ArrayLike | None, c_0: ArrayLike | None) -> GivenState:
        return h_0, c_0

    def step(
        self, x: np.ndarray, state: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """One time step: ``x [B, input_size]``, ``state (h [num_layers, B, width],
        c [num_layers, B, hidden_size])`` or None for zeros -> ``(y [B, width], state)``. Arrays
        must be of the layer's dtype, and are copied where they are not C-contiguous; the state
        given is not changed."""
        if self._turned:
            no_step(type(self).__name__)
        h, c = (None, None) if state is None else _pair(state, "state")
        y, h, c = (self._stack or self.stack).step(x, h, c)
        return y, (h, c)


_H = TypeVar("_H")


def _pair(hx: Sequence[_H], name: str = "hx") -> tuple[_H, _H]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        size = f" of {len(hx)}" if isinstance(hx, (tuple, list)) else ""
        given = type(hx).__name__ + size
        raise TypeError(f"LSTM: {name} must be a tuple (h_0, c_0), got a {given}")
    return hx[0], hx[1]


def _gated(
    activation: ActivationChoice, recurrent_activation: ActivationChoice, times: int
) -> tuple[Nonlinearity, ...] | None:
    """What the kernels take for a gated cell's activations; None for sigmoid and tanh.

    ``activation`` goes to as many places as ``times``: the candidate, and an LSTM's output."""
    if activation == "tanh" and recurrent_activation == "sigmoid":
        return None
    gates = nonlinearity(recurrent_activation, "recurrent_activation")
    return (gates, *(nonlinearity(activation, "activation"),) * times)


def _elman(choice: ActivationChoice) -> tuple[str, tuple[Nonlinearity] | None]:
    """The kernels' cell for an RNN's nonlinearity, and the activations that it takes."""
    if choice in ("tanh", "relu"):
        return f"rnn_{choice}", None
    return "rnn", (nonlinearity(choice, "nonlinearity"),)
