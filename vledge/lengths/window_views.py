"""A long sequence as windows of equal size, to be run as sequences of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vledge.array_like import array_of

__all__ = ["windows"]


def windows(
    x: ArrayLike, size: int, hop: int | None = None, *, tail: str = "keep"
) -> list[np.ndarray]:
    """The windows of a sequence, views of it.

    Parameters
    ----------
    x : ndarray [L, *]
    size : int
        Steps of a window.
    hop : int, optional
        Steps from one window's start to the next one's; ``size`` if not given. Above ``size``,
        steps between windows are left out.
    tail : "keep" or "drop"
        Whether steps at the end that no whole window holds make a shorter one.

    Returns
    -------
    list of ndarray [size, *], the last one perhaps shorter
        ``layer(windows(x, 200, 100), strategy="packed")`` runs them.

    Raises
    ------
    ValueError
        ``size`` or ``hop`` below 1, another ``tail``, or an ``x`` without dimensions.

    >>> windows(np.arange(5), 3, 2), windows(np.arange(4), 3)
    ([array([0, 1, 2]), array([2, 3, 4])], [array([0, 1, 2]), array([3])])
    """
    x = array_of(x, "x", stack=True)
    hop = size if hop is None else hop
    if size < 1 or hop < 1:
        raise ValueError(f"size and hop must be at least 1, got {size} and {hop}")
    if tail not in ("keep", "drop"):
        raise ValueError(f'tail is {tail!r}, expected "keep" or "drop"')
    if x.ndim < 1:
        raise ValueError("x has no dimensions, expected [L, *]")
    whole = max((len(x) - size) // hop + 1, 0)
    starts = [i * hop for i in range(whole)]
    held = starts[-1] + size if starts else 0
    if tail == "keep" and held < len(x) and whole * hop < len(x):
        starts.append(whole * hop)
    return [x[start : start + size] for start in starts]
