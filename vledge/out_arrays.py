"""Arrays that callers give for results to be written to: the one check of them at Python's doors.

An array whose elements share memory (a broadcast view, windows) would hold the last of what was
written to each place; so would two arrays that share memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from vledge._ext.arrays import overlaps_itself

__all__ = ["misfit", "shared"]


def misfit(
    wanted: Mapping[str, tuple[np.dtype, tuple[int, ...]]], outs: Mapping[str, object]
) -> str:
    """Why arrays cannot take results of these dtypes and shapes, by name; "" if they can."""
    problems = []
    for name, (dtype, shape) in wanted.items():
        given = outs.get(name)
        if not isinstance(given, np.ndarray):
            what = "nothing" if given is None else f"a {type(given).__name__}"
            problems.append(f"{name} is {what}, expected an array of {dtype} {list(shape)}")
        elif given.shape != shape or given.dtype != dtype:
            problems.append(
                f"{name} is {given.dtype} {list(given.shape)}, expected an array of {dtype} "
                f"{list(shape)}"
            )
        elif not given.flags.writeable:
            problems.append(f"{name} is read-only")
        elif overlaps_itself(given):
            problems.append(f"{name} is a view whose elements share memory, as broadcasting makes")
    if not problems:
        problems += shared({name: outs[name] for name in wanted})
    return "; ".join(problems)


def shared(outs: Mapping[str, object]) -> list[str]:
    """What is wrong with arrays that are written to side by side: those that share memory."""
    arrays = [(name, array) for name, array in outs.items() if isinstance(array, np.ndarray)]
    return [
        f"{one} and {other} share memory"
        for (one, a), (other, b) in itertools.combinations(arrays, 2)
        if np.may_share_memory(a, b) and np.shares_memory(a, b)
    ]
