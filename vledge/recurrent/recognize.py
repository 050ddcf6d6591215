"""Recurrent layers found in a bare ``{name: array}``, their sizes read off names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vledge.recurrent.cells import KINDS, OPERATORS, Kind
from vledge.weights.plain import PlainWeights, missing_weight

__all__ = ["RecurrentLayer", "recognize"]

_NAME = r"(?P<prefix>(?:.*\.)?)weight_hh(?:_l(?P<layer>\d+)(?P<reverse>_reverse)?)?"


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


class Recognized(NamedTuple):
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
    layers = _independent(weights)
    for name in weights:
        match = re.fullmatch(_NAME, name)
        if not match or match["layer"] not in (None, "0") or match["reverse"]:
            continue
        if name.replace("weight_hh", "weight_ih") not in weights:
            continue
        prefix, is_cell = match["prefix"], match["layer"] is None
        for kind in (KINDS[name] for name in OPERATORS):
            try:
                stack = (
                    read_cell(weights, prefix, kind, f"{kind.name}Cell")
                    if is_cell
                    else read_stack(weights, prefix, kind, kind.name)
                )
            except (KeyError, ValueError):
                continue
            own = [n for n in weights if n.startswith(prefix) and _is_part(n[len(prefix) :])]
            sizes = {"num_layers": 1, "bidirectional": False, "proj_size": 0, **stack.sizes}
            layers.append(
                RecurrentLayer(
                    kind=kind.name + ("Cell" if is_cell else ""),
                    prefix=prefix,
                    nbytes=sum(weights[n].nbytes for n in own),
                    **sizes,
                )
            )
    return layers


def _independent(weights: PlainWeights) -> list[RecurrentLayer]:
    # imported by who looks for layers: its regular expressions and dataclasses take time
    from vledge.recurrent.indrnn_weights import indrnn_prefixes, read_indrnn

    layers = []
    for prefix in indrnn_prefixes(weights):
        try:
            # where batch norms stand changes numbers only
            stack = read_indrnn(weights, prefix, "after", False, 0.0)
        except ValueError:
            continue
        nbytes = sum(a.nbytes for a in stack.weights.values())
        layers.append(RecurrentLayer("IndRNN", prefix, **stack.sizes, proj_size=0, nbytes=nbytes))
    return layers


def _is_part(local: str) -> bool:
    return re.fullmatch(r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?", local) is not None


def read_stack(weights: PlainWeights, prefix: str, kind: Kind, called: str) -> Recognized:
    """Sizes of torch.nn.RNN's, GRU's or LSTM's weights; ``called`` is the class, for errors.

    Raises
    ------
    KeyError
        There is no ``weight_ih_l0`` under the prefix; the message lists what there is, and names a
        prefix that fits.
    ValueError
        Names or shapes do not make a stack of this kind, or a weight has no one value.
    """
    names = {n[len(prefix) :] for n in weights if n.startswith(prefix)}
    first = _required(weights, prefix, "weight_ih_l0", kind.name, called)
    recurrent = _required(weights, prefix, "weight_hh_l0", kind.name, called)
    _check_kind(recurrent, prefix + "weight_hh_l0", kind, called)
    hidden_size = _hidden_size(first, kind, prefix + "weight_ih_l0", called)
    proj_size = 0
    if "weight_hr_l0" in names and kind.projects:
        proj_size = int(weights[prefix + "weight_hr_l0"].shape[0])
    num_layers = 1
    while f"weight_ih_l{num_layers}" in names:
        num_layers += 1
    bidirectional = "weight_ih_l0_reverse" in names
    bias = "bias_ih_l0" in names
    width = proj_size or hidden_size
    expected: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        inputs = int(first.shape[1]) if layer == 0 else width * (2 if bidirectional else 1)
        shapes = kind.shapes(inputs, hidden_size, bias, proj_size)
        for suffix in ("", "_reverse") if bidirectional else ("",):
            expected |= {f"{part}_l{layer}{suffix}": shape for part, shape in shapes.items()}
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
            f"the weights under {prefix!r} do not make a {called} of {num_layers} layer(s) with "
            f"input_size {first.shape[1]} and hidden_size {hidden_size}: " + "; ".join(problems)
        )
    return Recognized(
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


def read_cell(weights: PlainWeights, prefix: str, kind: Kind, called: str) -> Recognized:
    """Sizes of a torch RNNCell's, GRUCell's or LSTMCell's weights; raises as :func:`read_stack`."""
    cell = f"{kind.name}Cell"
    weight_ih = _required(weights, prefix, "weight_ih", cell, called)
    weight_hh = _required(weights, prefix, "weight_hh", cell, called)
    hidden_size = _hidden_size(weight_ih, kind, prefix + "weight_ih", called)
    bias = prefix + "bias_ih" in weights
    for name, shape in kind.shapes(int(weight_ih.shape[1]), hidden_size, bias).items():
        if prefix + name not in weights:
            raise ValueError(f"no {prefix}{name}, though there is {prefix}bias_ih")
        array = weights[prefix + name]
        if array.shape != shape:
            raise ValueError(
                f"{prefix}{name} has shape {array.shape}, expected {shape} of a {called}"
            )
    sizes = {"input_size": int(weight_ih.shape[1]), "hidden_size": hidden_size, "bias": bias}
    return Recognized(sizes, _dtype(weight_hh))


def _required(weights: PlainWeights, prefix: str, name: str, kind: str, called: str) -> np.ndarray:
    if prefix + name not in weights:
        fitting = [layer.prefix for layer in recognize(weights) if layer.kind == kind]
        raise missing_weight(weights, prefix, name, called, fitting)
    return weights[prefix + name]


def _check_kind(weight_hh: np.ndarray, name: str, kind: Kind, called: str) -> None:
    """ValueError for another cell's weights, which the number of gates tells."""
    if weight_hh.ndim != 2 or not weight_hh.shape[1]:
        return
    rows, units = weight_hh.shape
    gates, rest = divmod(rows, units)
    wanted = len(kind.gates)
    other = next(
        (k.name for k in KINDS.values() if len(k.gates) == gates and not k.independent), None
    )
    if not rest and gates != wanted and other is not None and not kind.independent:
        raise ValueError(
            f"{name} has shape {weight_hh.shape}: {gates} gate{'s' * (gates > 1)} of "
            f"{units} units are those of {other}, not of {called} ({wanted}): build it "
            f"by nn.{other}.from_weights"
        )


def _hidden_size(weight_ih: np.ndarray, kind: Kind, name: str, called: str) -> int:
    gates = len(kind.gates)
    if weight_ih.ndim != 2 or weight_ih.shape[0] % gates or not weight_ih.shape[0]:
        raise ValueError(
            f"{name} has shape {weight_ih.shape}, expected [{gates} * hidden_size, input_size] "
            f"of a {called}"
        )
    return int(weight_ih.shape[0]) // gates


def _dtype(array: np.ndarray) -> np.dtype:
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
