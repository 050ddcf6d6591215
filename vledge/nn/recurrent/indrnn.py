"""IndRNN: recurrent layers in which every unit sees only its own past."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vledge.nn.dtype import DType
from vledge.nn.recurrent.layers import OneState

__all__ = ["IndRNN"]


class IndRNN(OneState):
    """Independently recurrent network: ``h_t = act(W_ih x_t + b_ih + u * h_{t-1})``.

    Weights ``weight_ih_l{k}{_reverse} [H, I]``, ``weight_hh_… [H]`` (the u above) and
    ``bias_ih_… [H]``; I of a layer after the first is D * H. ``nonlinearity`` is "relu" or "tanh".
    ``recurrent_clip``, (low, high) or one bound for -bound to bound, is what every ``weight_hh_…``
    is clipped to when it is loaded: some implementations store it unclipped and clip it in each
    run. ``dropout`` is accepted and does nothing. Calls, states and lengths are those of
    :class:`vledge.nn.RNN`.

    Source: Li et al. 2018, arXiv:1803.04831, equation 2.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_clip: float | tuple[float, float] | None = None,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        self.nonlinearity = nonlinearity
        self.recurrent_clip = _range(recurrent_clip)
        super().__init__(
            f"indrnn_{nonlinearity}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        nonlinearity: str = "relu",
        batch_norm: str | None = None,
        last_norm: bool = True,
        eps: float = 1e-5,
        recurrent_clip: float | tuple[float, float] | None = None,
        batch_first: bool = False,
        dtype: DType = None,
    ) -> IndRNN:
        """Build the layers from the weights under ``prefix``, in any of three namings.

        - this class's own: ``weight_ih_l0``, ``weight_hh_l0``, …
        - github.com/StefOe/indrnn-pytorch: ``cells.0.0.weight_ih``, ``bns.0.weight``, …
        - github.com/Sunnydreamrain/IndRNN_pytorch (the authors'), its plain network:
          ``DIs.0.fc.weight``, ``RNNs.0.indrnn1.cells.0.weight_hh``, ``RNNs.0.norm1.bn.weight``, …

        Batch norms become part of the weights. Where they stand does not show in the authors'
        names: ``batch_norm`` says it, "before" or "after" the recurrence (StefOe's are after).
        ``eps`` is theirs. One after the last layer has no next layer to go into: load it into a
        :class:`vledge.nn.BatchNorm1d` of its own and say ``last_norm=False``.

        Raises KeyError where no naming fits, ValueError where shapes do not or where ``batch_norm``
        or ``last_norm`` is needed.
        """
        # imported when asked for: most models have no IndRNN
        from vledge.recurrent.indrnn_weights import read_indrnn

        read = read_indrnn(weights, prefix, batch_norm, last_norm, eps)
        if dtype is None:
            dtype = read.dtype
        layer = cls(
            **read.sizes,
            nonlinearity=nonlinearity,
            recurrent_clip=recurrent_clip,
            batch_first=batch_first,
            dtype=dtype,
        )
        layer.load_state_dict(read.weights)
        return layer

    def _load_own(self, arrays: dict[str, np.ndarray]) -> None:
        if self.recurrent_clip is not None:
            arrays = {
                name: np.clip(a, *self.recurrent_clip).astype(a.dtype)
                if name.startswith("weight_hh")
                else a
                for name, a in arrays.items()
            }
        super()._load_own(arrays)

    def extra_repr(self) -> str:
        clip = "" if self.recurrent_clip is None else f", recurrent_clip={self.recurrent_clip}"
        return super().extra_repr() + clip


def _range(clip: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if clip is None:
        return None
    low, high = clip if isinstance(clip, (tuple, list)) else (-clip, clip)
    if not low <= high:
        raise ValueError(f"recurrent_clip must be a bound from 0 or (low, high), got {clip!r}")
    return float(low), float(high)
