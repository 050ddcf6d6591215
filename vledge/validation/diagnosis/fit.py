"""Which biases would make a layer agree with the reference: a fit, unit by unit.

With the reference's own outputs as the states before each step (teacher forcing), a unit's next
state depends on no other unit, and its few biases are a small least-squares problem of its own.
All units are solved at once, by Levenberg and Marquardt's method, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vledge.recurrent.cells import KINDS, OPERATORS

__all__ = ["UNKNOWNS", "Observations", "fitted"]

ITERATIONS = 40
STEPS = 64  # of time that are looked at
SEQUENCES = 8

# the sums inside of a cell that a bias can be added to, in the order of the arrays' columns
UNKNOWNS = {name: KINDS[name].letters("ONNX") for name in OPERATORS}
UNKNOWNS["GRU"] += "N"  # the candidate's recurrent sum


@dataclass
class Observations:
    """One direction of a layer, its time running forward: what it was given and what came out."""

    kind: str
    inputs: np.ndarray  # [T, B, gates * H]: W x
    before: np.ndarray  # [T, B, H]: the reference's h before each step
    recurrent: np.ndarray  # [T, B, gates * H]: R h
    after: np.ndarray  # [T, B, H]: the reference's h after it
    live: np.ndarray  # [T, B]: whether the step is a real one
    c_0: np.ndarray  # [B, H]


def fitted(seen: Observations, free: str, start: np.ndarray) -> tuple[np.ndarray, float]:
    """The biases [unknowns, H] that fit best, those named in ``free`` changed, and the error left.

    ``start`` are the biases that the layer has.
    """
    names = UNKNOWNS[seen.kind]
    columns = [names.index(name) for name in free]
    biases = start.astype(np.float64)
    residual = _residual(seen, biases)
    cost = (residual**2).sum(axis=0)
    damping = np.full(cost.shape, 1e-3)
    for _ in range(ITERATIONS):
        slopes = []
        for column in columns:
            moved = biases.copy()
            moved[column] += 1e-6
            slopes.append((_residual(seen, moved) - residual) / 1e-6)
        jacobian = np.stack(slopes, axis=-1)  # [N, H, free]
        normal = np.einsum("nhi,nhj->hij", jacobian, jacobian)
        right = np.einsum("nhi,nh->hi", jacobian, residual)
        size = np.einsum("hii->hi", normal) + 1e-12
        damped = normal + damping[:, None, None] * np.eye(len(columns)) * size[:, None]
        change = np.linalg.solve(damped, right[..., None])[..., 0]
        moved = biases.copy()
        moved[columns] -= np.clip(change, -5, 5).T
        trial = _residual(seen, moved)
        trial_cost = (trial**2).sum(axis=0)
        better = trial_cost < cost
        biases = np.where(better, moved, biases)
        residual = np.where(better, trial, residual)
        cost = np.where(better, trial_cost, cost)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-12, 1e8)
        if np.sqrt(cost.max(initial=0)) < 1e-13:
            break
    return biases, float(np.abs(residual).max(initial=0))


def _residual(seen: Observations, biases: np.ndarray) -> np.ndarray:
    """What the cell makes of the reference's states less what the reference made: [T * B, H]."""
    live = seen.live[..., None]
    if seen.kind == "LSTM":
        total = np.split(seen.inputs + seen.recurrent, 4, axis=2)
        i, o, f, g = (part + bias for part, bias in zip(total, biases, strict=True))
        i, o, f, g = _sigmoid(i), _sigmoid(o), _sigmoid(f), np.tanh(g)
        c = seen.c_0
        made = np.empty_like(seen.after)
        for t in range(len(made)):
            c = np.where(live[t], f[t] * c + i[t] * g[t], c)
            made[t] = o[t] * np.tanh(c)
    elif seen.kind == "GRU":
        (z_x, r_x, n_x), (z_h, r_h, n_h) = (
            np.split(part, 3, axis=2) for part in (seen.inputs, seen.recurrent)
        )
        z = _sigmoid(z_x + z_h + biases[0])
        n = np.tanh(n_x + biases[2] + _sigmoid(r_x + r_h + biases[1]) * (n_h + biases[3]))
        made = (1 - z) * n + z * seen.before
    else:
        made = np.tanh(seen.inputs + seen.recurrent + biases[0])
    error = np.where(live, made - seen.after, 0)
    return error.reshape(-1, error.shape[2])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5
