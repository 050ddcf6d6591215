"""An IndRNN's weights by the names of the implementations that people train with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vledge.weights.plain import PlainWeights, missing_weight, plain_name

__all__ = ["IndRNNWeights", "indrnn_prefixes", "read_indrnn"]

# (layer, direction or none) of the recurrent weights that a naming begins with
_OWN = re.compile(r"weight_hh_l(\d+)(_reverse)?")
_STEFOE = re.compile(r"cells\.(\d+)\.([01])\.weight_hh")
_AUTHORS = re.compile(r"RNNs\.(\d+)\.indrnn1\.(?:cells\.([01])\.)?weight_hh")
_READ = re.compile(r"(?:weight_ih|weight_hh|bias_ih)_l\d+(?:_reverse)?|(?:cells|bns|DIs|RNNs)\..+")
_FIRST = re.compile(
    r"(?P<prefix>(?:.*\.)?)"
    r"(?:weight_hh_l0|cells\.0\.0\.weight_hh|RNNs\.0\.indrnn1\.(?:cells\.0\.)?weight_hh)"
)


@dataclass(frozen=True)
class IndRNNWeights:
    """Constructor arguments, and weights by IndRNN's own names."""

    sizes: dict[str, Any]
    weights: dict[str, np.ndarray]
    dtype: np.dtype


def indrnn_prefixes(weights: PlainWeights) -> list[str]:
    """What stands before each IndRNN's names; its recurrent weights are vectors, as no other's."""
    matches = (match for match in map(_FIRST.fullmatch, weights) if match)
    return [match["prefix"] for match in matches if weights.ndim(match[0]) == 1]


def read_indrnn(
    weights: Mapping[str, np.ndarray],
    prefix: str,
    batch_norm: str | None,
    last_norm: bool,
    eps: float,
) -> IndRNNWeights:
    """See :meth:`vledge.nn.IndRNN.from_weights`."""
    if batch_norm not in (None, "before", "after"):
        raise ValueError(f"batch_norm must be 'before', 'after' or None, got {batch_norm!r}")
    plain, prefix = PlainWeights.of(weights), plain_name(prefix)
    local = {
        n[len(prefix) :]: plain[n]
        for n in plain
        if n.startswith(prefix) and _READ.fullmatch(n, len(prefix))
    }
    begun = {p: [n for n in local if p.fullmatch(n)] for p in (_OWN, _STEFOE, _AUTHORS)}
    firsts = [f"{prefix}{names[0]}" for names in begun.values() if names]
    if len(firsts) > 1:
        raise ValueError(f"{' and '.join(firsts)} begin an IndRNN each, and only one can be meant")
    for pattern, read in ((_OWN, _own), (_STEFOE, _stefoe), (_AUTHORS, _authors)):
        places = {(int(m[1]), m[2] or "") for m in map(pattern.fullmatch, begun[pattern]) if m}
        if places:
            layers = 1 + max(layer for layer, _ in places)
            reverse = any(direction in ("1", "_reverse") for _, direction in places)
            given = _Given(local, layers, reverse, batch_norm, last_norm, eps)
            return _checked_weights(read(given), layers, reverse, prefix)
    first = f"weight_hh_l0, {prefix}cells.0.0.weight_hh or {prefix}RNNs.0.indrnn1.weight_hh"
    raise missing_weight(plain, prefix, first, "IndRNN", indrnn_prefixes(plain))


@dataclass(frozen=True)
class _Given:
    """The arrays under the prefix, what their names tell, and what the caller says."""

    arrays: Mapping[str, np.ndarray]
    layers: int
    reverse: bool
    batch_norm: str | None
    last_norm: bool
    eps: float

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise ValueError(f"these IndRNN weights have no {name}")
        return self.arrays[name]

    def affine(self, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """A batch norm at inference as a scale and a shift, in float64."""
        weight, bias, mean, variance = (
            self[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + self.eps)
        return scale, bias - mean * scale


def _own(given: _Given) -> dict[str, np.ndarray]:
    pattern = re.compile(r"(weight_ih|weight_hh|bias_ih)_l\d+(_reverse)?")
    return {name: array for name, array in given.arrays.items() if pattern.fullmatch(name)}


def _stefoe(given: _Given) -> dict[str, np.ndarray]:
    if given.batch_norm == "before":
        raise ValueError("the batch norms of an IndRNN with cells.* stand after the recurrence")
    weights = {}
    for layer in range(given.layers):
        for direction in range(1 + given.reverse):
            for part in ("weight_ih", "weight_hh", "bias_ih"):
                name = f"cells.{layer}.{direction}.{part}"
                if part != "bias_ih" or name in given.arrays:
                    weights[_name(part, layer, direction)] = given[name]
    norms = {k: f"bns.{k}" for k in range(given.layers) if f"bns.{k}.weight" in given.arrays}
    return _norms_after(weights, given, norms)


def _authors(given: _Given) -> dict[str, np.ndarray]:
    if given.reverse:
        raise ValueError("the authors' plain network has one direction, these weights have two")
    weights: dict[str, np.ndarray] = {}
    norms: dict[int, str] = {}
    for layer in range(given.layers):
        weights[_name("weight_ih", layer)] = given[f"DIs.{layer}.fc.weight"]
        weights[_name("bias_ih", layer)] = given[f"DIs.{layer}.fc.bias"]
        recurrent = f"RNNs.{layer}.indrnn1."
        inner = f"{recurrent}cells.0.weight_hh"
        if {inner, f"{recurrent}weight_hh"} <= given.arrays.keys():
            raise ValueError(f"{inner} and {recurrent}weight_hh claim the same weight")
        weights[_name("weight_hh", layer)] = given[
            inner if inner in given.arrays else f"{recurrent}weight_hh"
        ]
        if any(n.startswith(f"RNNs.{layer}.norm1.") for n in given.arrays):
            norms[layer] = f"RNNs.{layer}.norm1.bn"
            given[f"{norms[layer]}.weight"]  # one for each time step has other names
    if norms and given.batch_norm is None:
        raise ValueError(
            "these weights have batch norms (RNNs.*.norm1), and their names do not tell where: "
            "say batch_norm='before' or 'after', as the network's bn_location was"
        )
    if given.batch_norm == "after":
        return _norms_after(weights, given, norms)
    for layer, norm in norms.items():
        scale, shift = given.affine(norm)
        weight, bias = _name("weight_ih", layer), _name("bias_ih", layer)
        dtype = weights[weight].dtype
        weights[weight] = (weights[weight] * scale[:, None]).astype(dtype)
        weights[bias] = (weights[bias] * scale + shift).astype(dtype)
    return weights


def _norms_after(
    weights: dict[str, np.ndarray], given: _Given, norms: Mapping[int, str]
) -> dict[str, np.ndarray]:
    """Each layer's batch norm goes into the next layer's input weights: W (s y + t) + b."""
    last = given.layers - 1
    if last in norms and given.last_norm:
        raise ValueError(
            f"the batch norm after the last layer ({norms[last]}) is not a part of an IndRNN: load "
            f"it into a vledge.nn.BatchNorm1d, and say last_norm=False"
        )
    for layer in sorted(norms.keys() - {last}):
        scale, shift = given.affine(norms[layer])
        for direction in range(1 + given.reverse):
            weight = _name("weight_ih", layer + 1, direction)
            bias = _name("bias_ih", layer + 1, direction)
            own = weights.get(bias, np.zeros(len(weights[weight]), weights[weight].dtype))
            weights[bias] = (own + weights[weight] @ shift).astype(own.dtype)
            weights[weight] = (weights[weight] * scale).astype(own.dtype)
    if any(name.startswith("bias_ih") for name in weights):  # a norm gave some layers a bias
        for name in [n for n in weights if n.startswith("weight_hh")]:
            weights.setdefault(name.replace("weight_hh", "bias_ih"), np.zeros_like(weights[name]))
    return weights


def _name(part: str, layer: int, direction: int = 0) -> str:
    return f"{part}_l{layer}{'_reverse' if direction else ''}"


def _checked_weights(
    weights: dict[str, np.ndarray], layers: int, reverse: bool, prefix: str
) -> IndRNNWeights:
    first = weights.get("weight_ih_l0")
    if first is None or first.ndim != 2:
        raise ValueError(f"the weights under {prefix!r} have no input weights [H, I] of layer 0")
    hidden_size, input_size = first.shape
    bias = any(name.startswith("bias_ih") for name in weights)
    expected: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for direction in range(1 + reverse):
            inputs = input_size if layer == 0 else (1 + reverse) * hidden_size
            expected[_name("weight_ih", layer, direction)] = (hidden_size, inputs)
            expected[_name("weight_hh", layer, direction)] = (hidden_size,)
            if bias:
                expected[_name("bias_ih", layer, direction)] = (hidden_size,)
    problems = [f"no {name}" for name in expected if name not in weights]
    problems += [f"{name} belongs to no layer of it" for name in weights if name not in expected]
    problems += [
        f"{name} has shape {weights[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in weights and weights[name].shape != shape
    ]
    if problems:
        raise ValueError(
            f"the weights under {prefix!r} do not make an IndRNN of {layers} layer(s) with "
            f"input_size {input_size} and hidden_size {hidden_size}: " + "; ".join(problems)
        )
    sizes = {
        "input_size": input_size,
        "hidden_size": hidden_size,
        "num_layers": layers,
        "bias": bias,
        "bidirectional": reverse,
    }
    return IndRNNWeights(
        sizes, weights, np.dtype(np.float64 if first.dtype == np.float64 else np.float32)
    )
