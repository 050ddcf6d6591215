"""How a convolution is cut up for the kernels, once, at load: phases of outputs, runs of taps.

A *tap* is an element of the kernel and the place, relative to a window, of the pixel that it is
multiplied by. Outputs whose windows have the same taps are one *phase*; there is one, but where a
transposed convolution has strides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np

__all__ = ["Place", "phases_of", "runs_of", "winograd_matrices", "winograd_weight"]

Place = tuple[int, ...]  # one number a spatial axis


def phases_of(
    kernel: Place, strides: Place, dilations: Place, transposed: bool
) -> list[tuple[Place, list[tuple[Place, Place]]]]:
    """``[(first output, [(place of a tap, its index in the kernel), ...]), ...]``, by place."""
    indices = list(itertools.product(*(range(k) for k in kernel)))
    if not transposed:
        places = [tuple(i * d for i, d in zip(index, dilations, strict=True)) for index in indices]
        return [((0,) * len(kernel), list(zip(places, indices, strict=True)))]
    phases: dict[Place, list[tuple[Place, Place]]] = {
        first: [] for first in itertools.product(*(range(s) for s in strides))
    }
    for index in indices:
        reach = [i * d for i, d in zip(index, dilations, strict=True)]
        first = tuple(r % s for r, s in zip(reach, strides, strict=True))
        place = tuple(-(r // s) for r, s in zip(reach, strides, strict=True))
        phases[first].append((place, index))
    return [(first, sorted(taps)) for first, taps in phases.items()]


# Up to this length runs are taken element by element, if they all are so short: a run costs as much
# to begin as some products.
_SHORT_RUN: Final = 8


def runs_of(
    places: Sequence[Place], channels: int, whole: bool, most: int, apart: bool = False
) -> tuple[list[Place], list[int]]:
    """Runs ``[*place, channel, length]`` of the taps at these places, and the parts that sums are
    made in, of at most so many terms: at which run each begins, and their end.

    Taps that are neighbours on the last axis are one run if a pixel's channels are ``whole``. No
    run is longer than a part, and a part has whole runs. Where they may be ``apart``, short runs
    are runs of one element each.
    """
    joined: list[tuple[Place, int]] = []
    for place in places:
        before, length = joined[-1] if joined else ((), 0)
        neighbours = whole and before[:-1] == place[:-1] and len(before) == len(place)
        if neighbours and before[-1] * channels + length == place[-1] * channels:
            joined[-1] = before, length + channels
        else:
            joined.append((place, channels))
    runs: list[Place] = []
    parts, terms = [0], 0
    apart = apart and max((length for _, length in joined), default=0) <= _SHORT_RUN
    for place, length in joined:
        pieces = length if apart else -(-length // most)
        for piece in range(pieces):
            first, end = length * piece // pieces, length * (piece + 1) // pieces
            if terms + end - first > most:
                parts.append(len(runs))
                terms = 0
            runs.append((*place, first, end - first))
            terms += end - first
    parts.append(len(runs))
    return runs, parts if runs else [0]


def winograd_matrices(weight: np.ndarray) -> np.ndarray:
    """``[M, C, 3, 3] -> [16, M, C]``: G g G^T, made in float64."""
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    whole = weight.astype(np.float64)
    tiles: np.ndarray = np.einsum("ai,mcij,bj->abmc", g, whole, g, optimize=True)
    return tiles.reshape(16, *weight.shape[:2])


def winograd_weight(matrices: np.ndarray) -> np.ndarray:
    """``[16, M, C] -> [M, C, 3, 3]``: what `winograd_matrices` were made of, as near as they are
    rounded. Where a = G w, w is a[0], a[1] - a[2], a[3]."""
    back = np.array([[1, 0, 0, 0], [0, 1, -1, 0], [0, 0, 0, 1]])
    tiles = matrices.reshape(4, 4, *matrices.shape[1:]).astype(np.float64)
    weight: np.ndarray = np.einsum("ia,jb,abmc->mcij", back, back, tiles, optimize=True)
    return weight
