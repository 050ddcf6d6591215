"""A second's test of the kernels on this machine against the definition in float64."""

from __future__ import annotations

import time

import numpy as np

from vledge._ext import isa
from vledge._ext.recurrent import run
from vledge._ext.weights import Direction

__all__ = ["self_test"]

_SECONDS = 1.0
_BOUND = 1e-5


def self_test() -> tuple[bool, str]:
    """Run an LSTM and a GRU on every instruction set that this CPU has, for at most a second.

    Returns whether all agree with the definition, and a sentence that says so or names the first
    that does not.
    """
    before = isa.selected()
    start, worst, count = time.perf_counter(), 0.0, 0
    try:
        for hidden_size in (33, 64, 8, 100, 3):  # whole tiles, parts of tiles, parts of vectors
            for name in isa.runnable():
                isa.select(name)
                for kind, gates in (("lstm", 4), ("gru", 3)):
                    error = _error(kind, gates, hidden_size)
                    if not error < _BOUND:
                        where = f"{kind} of {hidden_size} units on {name}"
                        return False, f"FAILED: {where} is off by {error:.2g}"
                    worst, count = max(worst, error), count + 1
            if time.perf_counter() - start > _SECONDS / 2:
                break
    finally:
        isa.select(before)
    return True, f"passed: {count} layers agree with the definition within {worst:.1g}"


def _error(kind: str, gates: int, hidden_size: int) -> float:
    rng = np.random.default_rng(hidden_size)
    shapes = ((gates * hidden_size, 5), (gates * hidden_size, hidden_size), (gates * hidden_size,))
    w_ih, w_hh, b_ih, b_hh = (
        rng.uniform(-0.5, 0.5, shape).astype(np.float32) for shape in (*shapes, shapes[2])
    )
    x = rng.standard_normal((4, 7, 5)).astype(np.float32)
    sizes = np.full(len(x), x.shape[1], np.int64)
    output, _, _ = run([Direction(kind, w_ih, w_hh, b_ih, b_hh)], x.reshape(-1, 5), sizes)
    wide = (a.astype(np.float64) for a in (x, w_ih, w_hh, b_ih, b_hh))
    expected = _defined(kind, *wide)
    return float(np.abs(output - expected).max())


def _defined(kind: str, x: np.ndarray, *weights: np.ndarray) -> np.ndarray:
    """torch's equations, step by step: ``[T * B, H]``."""
    w_ih, w_hh, b_ih, b_hh = weights
    h = np.zeros((x.shape[1], w_hh.shape[1]))
    c = h
    output = []
    for step in x:
        given = step @ w_ih.T + b_ih
        kept = h @ w_hh.T + b_hh
        if kind == "lstm":
            i, f, g, o = np.split(given + kept, 4, axis=1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
        else:
            (r, z, n), (r_h, z_h, n_h) = np.split(given, 3, axis=1), np.split(kept, 3, axis=1)
            z = _sigmoid(z + z_h)
            h = (1 - z) * np.tanh(n + _sigmoid(r + r_h) * n_h) + z * h
        output.append(h)
    return np.concatenate(output)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
