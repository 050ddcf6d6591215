"""DFT and STFT: handlers of ``ext/program/fourier.c``, with the roots of unity where the length is
known at load."""

from __future__ import annotations

import numpy as np

from vledge.graph.native.lowering import Lowered, Site, lowering

_LONGEST = 1 << 16  # roots are held up to that


@lowering("DFT")
def dft(site: Site) -> Lowered:
    inverse = int(bool(site.attribute("inverse", 0)))
    axis = site.attribute("axis", 1) if site.opset < 20 else -2
    length = _number(site.constant(1))
    ints = [axis, inverse, int(bool(site.attribute("onesided", 0)))]
    return _with_roots(site, "dft", ints, length, 1 if inverse else -1)


@lowering("STFT")
def stft(site: Site) -> Lowered:
    window = site.constant(2)
    length = _number(site.constant(3)) or (0 if window is None else window.size)
    return _with_roots(site, "stft", [int(bool(site.attribute("onesided", 1)))], length, -1)


def _number(array: np.ndarray | None) -> int:
    """0 for what is no length, too: the handler looks at it when it runs."""
    if array is None or array.size != 1 or array.dtype.kind not in "iu":
        return 0
    return int(array.reshape(()))


def _with_roots(site: Site, handler: str, ints: list[int], length: int, sign: int) -> Lowered:
    dtype = site.dtype(0)
    if dtype not in (np.float32, np.float64) or not 0 < length <= _LONGEST:
        return Lowered(handler, [*ints, 0])
    angles = 2 * np.pi * np.arange(length) / length
    roots = np.stack((np.cos(angles), sign * np.sin(angles)), -1).astype(dtype)
    return Lowered(handler, [*ints, length], objects=[roots])
