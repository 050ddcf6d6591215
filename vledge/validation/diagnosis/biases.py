"""Biases that are missing or wrong in a layer, found by fitting them to the reference's outputs."""

from __future__ import annotations

import numpy as np

from vledge.model.definition import Model
from vledge.validation.diagnosis.fit import SEQUENCES, STEPS, UNKNOWNS, Observations, fitted
from vledge.validation.diagnosis.suspects import Layer, Variant, reweighted
from vledge.validation.diagnosis.trial import Trial

__all__ = ["explained_by_biases", "likely_gate"]


def explained_by_biases(layer: Layer, alone: Model, trial: Trial, y: str) -> Variant | None:
    """The layer with the biases that fit the reference best, or None where no fit can be made."""
    count, size = len(layer.gates), layer.hidden_size
    had = np.zeros((len(layer.w), 2 * count * size)) if layer.b is None else layer.b
    new = had.astype(np.float64)
    for index in range(len(layer.w)):
        seen = _observed(layer, alone, trial, y, index)
        if seen is None:
            return None
        names = UNKNOWNS[layer.kind]
        biases, _ = fitted(seen, names, _sums(layer.kind, had[index], size))
        new[index] = _as_bias(layer.kind, biases, size)
    halves = np.split(had, 2, axis=1)
    which = [
        word for word, half in zip(("input", "recurrent"), halves, strict=True) if not half.any()
    ]
    change = np.abs(
        np.stack(
            [
                _sums(layer.kind, a, size) - _sums(layer.kind, b, size)
                for a, b in zip(new, had, strict=True)
            ]
        )
    )
    gates = _gates_of(layer, change.max(axis=(0, 2)))
    if len(which) == 2:
        text = "the biases are missing: all are 0"
    elif which:
        text = f"the {which[0]} biases are missing: all are 0"
    else:
        text = f"other biases: the sums differ by up to {change.max():.2g} from the reference's"
        return reweighted(layer, "biases wrong", text, b=new, gates=gates)
    return reweighted(layer, "biases missing", text, b=new, gates=gates)


def likely_gate(layer: Layer, alone: Model, trial: Trial, y: str, direction: str) -> str:
    """The gate whose correction alone brings the layer nearest to the reference, or ""."""
    left: dict[str, float] = {}
    for index in range(len(layer.w)):
        if len(layer.w) == 2 and direction == ("forward", "reverse")[1 - index]:
            continue
        seen = _observed(layer, alone, trial, y, index)
        if seen is None:
            return ""
        size = layer.hidden_size
        had = np.zeros(2 * len(layer.gates) * size) if layer.b is None else layer.b[index]
        for name in UNKNOWNS[layer.kind]:
            _, error = fitted(seen, name, _sums(layer.kind, had, size))
            gate = name.lower()
            left[gate] = min(left.get(gate, np.inf), error)
    return min(left, key=left.__getitem__) if len(left) > 1 else ""


def _sums(kind: str, b: np.ndarray, size: int) -> np.ndarray:
    """The unknowns of a fit, [unknowns, H], of a bias vector [2 * gates * H]."""
    wb, rb = (half.reshape(-1, size) for half in np.split(b.astype(np.float64), 2))
    if kind == "GRU":
        return np.stack([wb[0] + rb[0], wb[1] + rb[1], wb[2], rb[2]])
    return wb + rb


def _as_bias(kind: str, biases: np.ndarray, size: int) -> np.ndarray:
    if kind == "GRU":
        return np.concatenate([*biases[:3], np.zeros(2 * size), biases[3]])
    return np.concatenate([biases.ravel(), np.zeros(biases.size)])


def _gates_of(layer: Layer, change: np.ndarray) -> str:
    """The gates whose biases had to change, "" where it is all of them."""
    names = UNKNOWNS[layer.kind].lower()
    changed = {n for n, size in zip(names, change, strict=True) if size > 1e-3 * change.max()}
    return "" if changed == set(names) else "".join(n for n in layer.gates if n in changed)


def _observed(layer: Layer, alone: Model, trial: Trial, y: str, index: int) -> Observations | None:
    """What one direction was given and what the reference made of it, its time running forward."""
    node = layer.node
    default = not {"activations", "clip", "input_forget"} & node.attributes.keys()
    if not default or layer.input(7):
        return None
    if layer.kind == "GRU" and not node.attributes.get("linear_before_reset", 0):
        return None
    batch_first = bool(node.attributes.get("layout", 0))
    reverse = index == 1 or node.attributes.get("direction", "forward") == "reverse"
    parts = []
    for case, feed in zip(trial.reference.cases, trial.feeds, strict=True):
        x = feed[node.inputs[0]]
        made = case.truth(y).astype(np.float64)
        x = x.transpose(1, 0, 2) if batch_first else x
        made = made[:, :, index].transpose(1, 0, 2) if batch_first else made[:, index]
        if made.shape[:2] != x.shape[:2]:
            return None
        steps, sequences = x.shape[:2]
        lengths = np.full(sequences, steps)
        if layer.input(4) in feed:
            lengths = feed[layer.input(4)].astype(np.int64)
        if reverse:
            turned = lengths - 1 - np.arange(steps)[:, None]
            turned = np.where(turned < 0, np.arange(steps)[:, None], turned)
            x, made = (np.take_along_axis(a, turned[..., None], 0) for a in (x, made))
        state = [np.zeros((sequences, layer.hidden_size)) for _ in range(2)]
        for place in (5, 6):
            if layer.input(place):
                name = layer.input(place)
                given = feed[name] if name in feed else alone.graph.initializers[name]
                state[place - 5] = given[:, index] if batch_first else given[index]
        live = np.arange(steps)[:, None] < lengths
        before = np.concatenate([state[0][None], made[:-1]])
        parts.append((x, before, made, live, state[1]))
    x, before, made, live, c_0 = max(parts, key=lambda part: int(part[3].sum()))
    x, before, made = (a[:STEPS, :SEQUENCES] for a in (x, before, made))
    live, c_0 = live[:STEPS, :SEQUENCES], c_0[:SEQUENCES]
    w, r = (a[index].astype(np.float64).T for a in (layer.w, layer.r))
    return Observations(layer.kind, x @ w, before, before @ r, made, live, c_0)
