"""Recurrent layers found in a bare ``{name: array}``, their sizes read off names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vledge.nn.plain_weights import PlainWeights, missing_weight

__all__ = ["RecurrentLayer", "recognize"]

_NAME = r"(?P<prefix>(?:.*\.)?)weight_hh(?:_l(?P<layer>\d+)(?P<reverse>_reverse)?)?"
_KINDS = {1: "RNN", 3: "GRU", 4: "LSTM"}


class RecurrentLayer(NamedTuple):
    """One stack of recurrent layers, or one cell, as torch names its weights; or an IndRNN."""

    kind: str  #: RNN, GRU, LSTM, RNNCell, GRUCell, LSTMCell or IndRNN
    prefix: str  #: before ``weight_ih_l0`` or an IndRNN's first name, with its dot, less wrappers
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    proj_size: int
    nbytes: int


class Stack(NamedTuple):
    """The constructor arguments that a stack's shapes tell, and its dtype."""

    sizes: dict[str, Any]
    dtype: np.dtype


def recognize(weights: Mapping[str, np.ndarray]) -> list[RecurrentLayer]:
    """Find the recurrent layers in a state_dict, by their :class:`PlainWeights`' names.

    A name ending in ``weight_hh_l0`` begins a stack, one ending in ``weight_hh`` is a cell; the
    kind follows from the number of gates, rows of weight_hh by its columns (or by weight_hr's with
    a projection). Weights that only look alike (shapes that do not fit together) are left out.
    IndRNNs are found by any of the names that :meth:`vledge.nn.IndRNN.from_weights` reads.
    """
    weights = PlainWeights.of(weights)
    found = _independent(weights)
    for name in weights:
        match = re.fullmatch(_NAME, name)
        if not match or match["layer"] not in (None, "0") or match["reverse"]:
            continue
        if name.replace("weight_hh", "weight_ih") not in weights:
            continue
        prefix, is_cell = match["prefix"], match["layer"] is None
        for gates, kind in _KINDS.items():
            try:
                stack = (
                    read_cell(weights, prefix, gates, kind + "Cell")
                    if is_cell
                    else read_stack(weights, prefix, gates, kind)
                )
            except (KeyError, ValueError):
                continue
            own = [n for n in weights if n.startswith(prefix) and _is_part(n[len(prefix) :])]
            sizes = {"num_layers": 1, "bidirectional": False, "proj_size": 0, **stack.sizes}
            found.append(
                RecurrentLayer(
                    kind=kind + ("Cell" if is_cell else ""),
                    prefix=prefix,
                    nbytes=sum(weights[n].nbytes for n in own),
                    **sizes,
                )
            )
    return found


def _independent(weights: PlainWeights) -> list[RecurrentLayer]:
    # imported by who looks for layers: its regular expressions and dataclasses take time
    from vledge.nn.indrnn_weights import indrnn_prefixes, read_indrnn

    found = []
    for prefix in indrnn_prefixes(weights):
        try:
            # where batch norms stand changes numbers only
            stack = read_indrnn(weights, prefix, "after", False, 0.0)
        except ValueError:
            continue
        nbytes = sum(a.nbytes for a in stack.weights.values())
        found.append(RecurrentLayer("IndRNN", prefix, **stack.sizes, proj_size=0, nbytes=nbytes))
    return found


def _is_part(local: str) -> bool:
    return re.fullmatch(r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?", local) is not None


def read_stack(weights: PlainWeights, prefix: str, gates: int, kind: str) -> Stack:
    """Sizes of torch.nn.RNN's, GRU's or LSTM's weights.

    Raises
    ------
    KeyError
        There is no ``weight_ih_l0`` under the prefix; the message lists what there is, and names a
        prefix that fits.
    ValueError
        Names or shapes do not make a stack of this kind, or a weight has no one value.
    """
    names = {n[len(prefix) :] for n in weights if n.startswith(prefix)}
    first = _required(weights, prefix, "weight_ih_l0", kind)
    recurrent = _required(weights, prefix, "weight_hh_l0", kind)
    _check_kind(recurrent, prefix + "weight_hh_l0", gates, kind)
    hidden_size = _hidden_size(first, gates, prefix + "weight_ih_l0", kind)
    proj_size = 0
    if "weight_hr_l0" in names and kind == "LSTM":
        proj_size = int(weights[prefix + "weight_hr_l0"].shape[0])
    num_layers = 1
    while f"weight_ih_l{num_layers}" in names:
        num_layers += 1
    bidirectional = "weight_ih_l0_reverse" in names
    bias = "bias_ih_l0" in names
    width = proj_size or hidden_size
    rows = gates * hidden_size
    expected: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        inputs = int(first.shape[1]) if layer == 0 else width * (2 if bidirectional else 1)
        for suffix in ("", "_reverse") if bidirectional else ("",):
            end = f"_l{layer}{suffix}"
            expected["weight_ih" + end] = (rows, inputs)
            expected["weight_hh" + end] = (rows, width)
            if bias:
                expected["bias_ih" + end] = expected["bias_hh" + end] = (rows,)
            if proj_size:
                expected["weight_hr" + end] = (proj_size, hidden_size)
    problems = [f"no {prefix}{n}" for n in expected if n not in names]
    problems += [
        f"{prefix}{n} has shape {weights[prefix + n].shape}, expected {shape}"
        for n, shape in expected.items()
        if n in names and weights[prefix + n].shape != shape
    ]
    problems += [
        f"{prefix}{n} belongs to no layer of it" for n in names if _is_part(n) and n not in expected
    ]
    if problems:
        raise ValueError(
            f"the weights under {prefix!r} do not make a {kind} of {num_layers} layer(s) with "
            f"input_size {first.shape[1]} and hidden_size {hidden_size}: " + "; ".join(problems)
        )
    return Stack(
        {
            "input_size": int(first.shape[1]),
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "bias": bias,
            "bidirectional": bidirectional,
            **({"proj_size": proj_size} if proj_size else {}),
        },
        _dtype(recurrent),
    )


def read_cell(weights: PlainWeights, prefix: str, gates: int, kind: str) -> Stack:
    """Sizes of a torch RNNCell's, GRUCell's or LSTMCell's weights; raises as :func:`read_stack`."""
    weight_ih = _required(weights, prefix, "weight_ih", kind)
    weight_hh = _required(weights, prefix, "weight_hh", kind)
    hidden_size = _hidden_size(weight_ih, gates, prefix + "weight_ih", kind)
    rows = gates * hidden_size
    bias = prefix + "bias_ih" in weights
    expected: dict[str, tuple[int, ...]] = {"weight_hh": (rows, hidden_size)}
    if bias:
        expected.update(bias_ih=(rows,), bias_hh=(rows,))
    for name, shape in expected.items():
        if prefix + name not in weights:
            raise ValueError(f"no {prefix}{name}, though there is {prefix}bias_ih")
        array = weights[prefix + name]
        if array.shape != shape:
            raise ValueError(
                f"{prefix}{name} has shape {array.shape}, expected {shape} of a {kind}"
            )
    sizes = {"input_size": int(weight_ih.shape[1]), "hidden_size": hidden_size, "bias": bias}
    return Stack(sizes, _dtype(weight_hh))


def _required(weights: PlainWeights, prefix: str, name: str, kind: str) -> np.ndarray:
    if prefix + name not in weights:
        fitting = [layer.prefix for layer in recognize(weights) if layer.kind == kind]
        raise missing_weight(weights, prefix, name, kind, fitting)
    return weights[prefix + name]


def _check_kind(weight_hh: np.ndarray, name: str, gates: int, kind: str) -> None:
    """ValueError for another cell's weights, which the number of gates tells."""
    if weight_hh.ndim != 2 or not weight_hh.shape[1]:
        return
    rows, units = weight_hh.shape
    found, rest = divmod(rows, units)
    other = _KINDS.get(found)
    if not rest and found != gates and other is not None and gates in _KINDS:
        raise ValueError(
            f"{name} has shape {weight_hh.shape}: {found} gate{'s' * (found > 1)} of "
            f"{weight_hh.shape[1]} units are those of {other}, not of {kind} ({gates}): build it "
            f"by nn.{other}.from_weights"
        )


def _hidden_size(weight_ih: np.ndarray, gates: int, name: str, kind: str) -> int:
    if weight_ih.ndim != 2 or weight_ih.shape[0] % gates or not weight_ih.shape[0]:
        raise ValueError(
            f"{name} has shape {weight_ih.shape}, expected [{gates} * hidden_size, input_size] "
            f"of a {kind}"
        )
    return int(weight_ih.shape[0]) // gates


def _dtype(array: np.ndarray) -> np.dtype:
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
