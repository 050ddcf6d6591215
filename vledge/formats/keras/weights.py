"""A Keras cell's weights in torch's names, layout and order of gates.

Keras holds ``kernel [I, G*H]``, ``recurrent_kernel [H, G*H]`` and ``bias``, with the gates
i, f, c, o of an LSTM and z, r, h of a GRU. Torch's matrices are their transposes, with the gates
i, f, g, o and r, z, n. A GRU with ``reset_after=True`` has two rows of bias, torch's ``bias_ih``
and ``bias_hh``; elsewhere there is one. CuDNNLSTM and CuDNNGRU have both in one row, and each
gate's block of ``kernel`` and ``recurrent_kernel`` holds torch's own matrix: ``[H, I]`` written
into the shape ``[I, H]``, and ``[H, H]``.
Source: keras.src.layers.rnn, Keras 3.15; keras.engine.saving._convert_rnn_weights, Keras 2.2.4.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.formats.keras.layers import GATES, Cell

__all__ = ["converted", "is_cudnn", "resets_after"]

GATE_ORDER: Final = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}  # Keras' place of torch's


def is_cudnn(cell: Cell, kind: str) -> bool:
    """Whether the weights are CuDNNLSTM's or CuDNNGRU's."""
    bias = cell.arrays.get("bias")
    rows = GATES[kind] * cell.units
    return kind != "RNN" and bias is not None and bias.shape == (2 * rows,)


def resets_after(cell: Cell) -> bool | None:
    """A GRU's reset_after; None where there is no bias to tell it by."""
    bias = cell.arrays.get("bias")
    return None if bias is None else bias.ndim == 2 or is_cudnn(cell, "GRU")


def converted(cell: Cell, kind: str, where: str) -> dict[str, np.ndarray]:
    """weight_ih, weight_hh and, if there is a bias, bias_ih and bias_hh."""
    rows, units = GATES[kind] * cell.units, cell.units
    arrays, cudnn = cell.arrays, is_cudnn(cell, kind)
    inputs = arrays["kernel"].shape[0]
    expected: dict[str, tuple[int, ...]] = {
        "kernel": (inputs, rows),
        "recurrent_kernel": (units, rows),
    }
    bias = arrays.get("bias")
    two = kind == "GRU" and bias is not None and bias.ndim == 2
    if bias is not None:
        expected["bias"] = (2 * rows,) if cudnn else (2, rows) if two else (rows,)
    for name, shape in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
            raise FormatError(
                f"{where}: {name} is {arrays[name].dtype} {arrays[name].shape}, "
                f"expected floats {shape}"
            )
    kernel, recurrent = arrays["kernel"], arrays["recurrent_kernel"]
    if cudnn:
        kernel = np.hstack([k.reshape(units, inputs).T for k in np.hsplit(kernel, GATES[kind])])
        recurrent = np.hstack([k.T for k in np.hsplit(recurrent, GATES[kind])])
    result = {"weight_ih": _rows(kernel, kind), "weight_hh": _rows(recurrent, kind)}
    if bias is not None:
        if cudnn:
            two, bias = True, bias.reshape(2, rows)
        result["bias_ih"] = _rows(bias[0] if two else bias, kind)
        result["bias_hh"] = _rows(bias[1] if two else np.zeros_like(bias), kind)
    return result


def _rows(array: np.ndarray, kind: str) -> np.ndarray:
    """``[..., G*H]`` in Keras' order of gates -> ``[G*H, ...]`` in torch's."""
    gates = array.T.reshape(GATES[kind], -1, *array.shape[:-1])
    return np.ascontiguousarray(gates[list(GATE_ORDER[kind])]).reshape(array.T.shape)
