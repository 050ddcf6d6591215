"""What is wrong with a file's weights, by looking at them and at the prints of the right ones.

Nothing is run here. Where the right tensor can be made from what the file holds (it is transposed,
exchanged with another one, byte-swapped, …) it is made, so that the search can go on behind it.
Without a print only what is wrong in itself is seen: numbers that are not finite, byte-swapped
ones, blocks of zeros, and numbers that a smaller type could hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vledge.validation.reference.prints import Print, profile
from vledge.validation.reference.samples import places

__all__ = ["Blemish", "differences", "faults_of_file", "held_by"]

NEAR = 1e-6  # of the largest element: float32 arithmetic on the weights themselves
ABSURD = 1e15  # no trained weight is as large; byte-swapped floats are
LEAST_ELEMENTS = 16  # of which a kind of rounding can be told
LEAST_IN_ROW = 6
SMALLEST_HALF = 2.0**-24  # what float16's subnormal numbers are apart
_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
_STEPS = {"int8": 256, "int4": 16}  # values that a row of such weights can have


@dataclass
class Blemish:
    """One tensor that is not the one that was recorded, or cannot be right."""

    tensor: str
    kind: str
    text: str
    mended: np.ndarray | None = None  #: the right tensor, where it can be made
    certain: bool = True


def differences(
    tensors: Mapping[str, np.ndarray], prints: Mapping[str, Print]
) -> dict[str, Blemish]:
    """The tensors that are not those of the prints, and how they differ."""
    differing = {}
    for name, known in prints.items():
        array = tensors.get(name)
        if array is None or known.same(array) or known.sample.error(array) == 0:
            continue
        differing[name] = _difference(name, array, known, tensors)
    return differing


def _difference(
    name: str, array: np.ndarray, known: Print, tensors: Mapping[str, np.ndarray]
) -> Blemish:
    sample = known.sample
    if array.dtype.kind == "f" and sample.error(array.byteswap()) <= NEAR:
        text = f"{name} is byte-swapped: read in the other byte order"
        return Blemish(name, "byte-swapped", text, array.byteswap())
    if array.shape == sample.shape:
        broken = faults_of_file({name: array}, certain=True)
        if name in broken:
            return broken[name]
        have = array.reshape(-1)[places(array.size, sample.most)].astype(np.float64)
        if array.size == 1:
            text = f"{name} is {have[0]:.6g}, the reference's is {sample.elements[0]:.6g}"
            mended = np.full(array.shape, sample.elements[0]).astype(array.dtype)
            return Blemish(name, "other constant", text, mended)
        for kind, text in _told_by_numbers(array, have, known):
            return Blemish(name, kind, f"{name} {text}")
    for kind, text, other in _rearranged(name, array, sample.shape, tensors):
        if sample.error(other) <= NEAR:
            mended = np.ascontiguousarray(other).astype(array.dtype)
            return Blemish(name, kind, f"{name} {text}", mended)
    if array.shape != sample.shape:
        shapes = f"{list(array.shape)}, the reference's {list(sample.shape)}"
        return Blemish(name, "other shape", f"{name} has the shape {shapes}")
    if permuted := _permuted(array, known):
        return Blemish(name, "permuted units", f"{name} {permuted}")
    where = _where(array, known)
    apart = float(np.abs(have - sample.elements).max(initial=0))
    size = f"off by up to {apart:.2g}"
    if apart <= NEAR * float(np.abs(sample.elements).max(initial=0)):  # wrong between the samples
        size = f"their sum is off by {float(array.sum(dtype=np.float64)) - sample.total:+.2g}"
    text = f"{name} holds other numbers than the reference's ({where or 'all of it'}; {size})"
    return Blemish(name, "stale weights", text)


def _rearranged(
    name: str, array: np.ndarray, shape: tuple[int, ...], tensors: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, np.ndarray]]:
    """What the tensor could have been before it went wrong, with what went wrong."""
    if array.ndim > 1:
        for perm, turned in _turned(array, shape):
            yield "transposed weights", f"is transposed ({perm})", turned
        if array.size == math.prod(shape):
            reshaped = array.T.reshape(shape) if array.ndim == 2 else array.reshape(shape)
            how = "was reshaped where it should have been transposed"
            yield "transposed weights", how, reshaped
            back = array.reshape(shape[::-1]).T
            yield "transposed weights", how, back
    if array.shape != shape:
        return
    for other, theirs in tensors.items():
        if other != name and theirs.shape == shape and theirs.dtype == array.dtype:
            yield "exchanged weights", f"holds what {other} should hold", theirs
    for axis in range(array.ndim):
        size = shape[axis]
        words = f" along axis {axis}" if array.ndim > 1 else ""
        if size < 2:
            continue
        yield "flipped weights", f"is reversed{words}", np.flip(array, axis)
        for shift in (1, -1, 2, -2):
            if size > abs(shift):
                text = f"is shifted by {shift}{words}: off by one" if abs(shift) == 1 else (
                    f"is shifted by {shift}{words}"
                )  # fmt: skip
                yield "shifted weights", text, np.roll(array, -shift, axis)
        for count in (2, 3, 4):
            if size % count == 0 and size > count:
                blocks = np.split(array, count, axis)
                for order in _orders(count):
                    text = f"has its {count} blocks{words} in the order {order}"
                    moved = np.concatenate([blocks[k] for k in order], axis)
                    yield "blocks in another order", text, moved


def _orders(count: int) -> Iterator[tuple[int, ...]]:
    yield from (
        order for order in itertools.permutations(range(count)) if list(order) != sorted(order)
    )


def _turned(array: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    if array.ndim > 4:
        return
    for perm in itertools.permutations(range(array.ndim)):
        turned = array.transpose(perm)
        if list(perm) != sorted(perm) and turned.shape == shape:
            yield f"axes {', '.join(map(str, perm))}", turned


def _told_by_numbers(
    array: np.ndarray, have: np.ndarray, known: Print
) -> Iterator[tuple[str, str]]:
    """What the elements and sums of the right tensor tell of how it became this one."""
    want = known.sample.elements
    scale = float(np.abs(want).max(initial=0))
    if zeros := _zeroed(array, have, known):
        yield "zeroed weights", zeros
        return
    if (np.abs(have - want) <= NEAR * scale).all():
        return  # what is wrong lies between the samples: the sums alone tell of it
    if array.dtype.kind in "iu":
        shift = have - want
        if shift.size and (shift == shift[0]).all():
            yield "off by one", f"is {shift[0]:+g} from the reference's"
        return
    if scale and want.size > 1:
        large = np.abs(want) > 1e-3 * scale
        ratio = have[large] / want[large]
        if np.ptp(ratio) <= 1e-5 * abs(ratio[0]):
            how = "has the opposite sign" if abs(ratio[0] + 1) < 1e-5 else (
                f"is {ratio[0]:.6g} times the reference's"
            )  # fmt: skip
            yield "scaled weights", how
        shift = have - want
        if np.ptp(shift) <= NEAR * max(scale, abs(float(shift[0]))):
            yield "offset weights", f"is the reference's {shift[0]:+.3g}"
    if precision := _rounded(array, have, want):
        yield "rounded weights", f"is {_how_rounded(have, want)} to {precision}"


def _zeroed(array: np.ndarray, have: np.ndarray, known: Print) -> str:
    if not array.any():
        return "is all zeros"
    want = known.sample.elements
    lost = (have == 0) & (want != 0)
    same = np.abs(have - want) <= NEAR * max(float(np.abs(want).max(initial=0)), 1e-30)
    if not (same | lost).all():
        return ""
    for axis, sums in known.profiles.items():
        empty = ~np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).any(1) & (sums != 0)
        if empty.any():
            return f"is 0 in {_indices(np.flatnonzero(empty), axis)}"
    return f"has {int((array == 0).sum())} zeros that the reference's has not" if lost.any() else ""


def _rounded(array: np.ndarray, have: np.ndarray, want: np.ndarray) -> str:
    """The type that the numbers were rounded to on their way, "" if they were not."""
    scale = float(np.abs(array).max(initial=0))
    error = np.abs(have - want)
    for name, unit in _UNITS.items():
        step = 2 * unit * np.abs(want)  # to the nearest is half of one, cut off a whole one
        if held_by(array, name) and (error <= 1.01 * step + SMALLEST_HALF).all():
            return name
    for name, steps in _STEPS.items():
        if held_by(array, name) and float(error.max(initial=0)) <= 1.1 * scale / (steps / 2 - 1):
            return name
    return ""


def _how_rounded(have: np.ndarray, want: np.ndarray) -> str:
    """Rounding to the nearest goes both ways; cutting off bits, or a floor, one way only."""
    changed = have != want
    if changed.sum() >= LEAST_ELEMENTS:
        if (np.abs(have) <= np.abs(want)).all():
            return "cut off, towards zero,"
        if (have <= want).all():
            return "cut off, downwards,"
    return "rounded"


def held_by(array: np.ndarray, kind: str) -> bool:
    """Whether a smaller type could hold all of the tensor's numbers, with a scale for integers."""
    if array.dtype not in (np.float32, np.float64) or array.size < LEAST_ELEMENTS:
        return False
    with np.errstate(all="ignore"):
        single = array.astype(np.float32)
        if kind == "float16":
            return bool((single.astype(np.float16).astype(np.float32) == single).all())
        if kind == "bfloat16":
            return not (single.view(np.uint32) & 0xFFFF).any()
    rows = [array.reshape(1, -1)]
    if array.ndim > 1:
        rows += [np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for axis in (0, -1)]
    return any(_on_a_grid(row, _STEPS[kind]) for row in rows)


def _on_a_grid(rows: np.ndarray, steps: int) -> bool:
    """Whether each row's numbers are whole multiples of a step, few enough for that many bits."""
    if rows.shape[1] < LEAST_IN_ROW:
        return False
    return all(_of_one_step(np.unique(row.astype(np.float64)), steps) for row in rows)


def _of_one_step(levels: np.ndarray, steps: int) -> bool:
    if len(levels) > steps:
        return False
    if len(levels) < 2:
        return True
    extent, largest = float(levels[-1] - levels[0]), float(np.abs(levels).max())
    # of the smallest difference, or as quantizers choose it: by the largest number, or the range
    for step in (np.diff(levels).min(), largest / (steps / 2 - 1), extent / (steps - 1)):
        if extent / step <= steps:
            for origin in (levels[0], 0.0):
                off = (levels - origin) / step
                if np.abs(off - np.rint(off)).max() <= 1e-3:
                    return True
    return False


def _permuted(array: np.ndarray, known: Print) -> str:
    for axis, sums in known.profiles.items():
        mine = profile(array, axis)
        scale = max(float(np.abs(sums).max(initial=0)), 1e-30)
        together = np.abs(np.sort(mine) - np.sort(sums)).max(initial=0) <= 1e-5 * scale
        if together and np.abs(mine - sums).max(initial=0) > 1e-5 * scale:
            wrong = np.flatnonzero(np.abs(mine - sums) > 1e-5 * scale)
            return f"has the same rows in another order ({_indices(wrong, axis)})"
    return ""


def _where(array: np.ndarray, known: Print) -> str:
    """The rows of an axis that are wrong, where they are few."""
    for axis, sums in known.profiles.items():
        mine = profile(array, axis)
        scale = max(float(np.abs(sums).max(initial=0)), 1e-30)
        wrong = np.flatnonzero(~(np.abs(mine - sums) <= 1e-6 * scale))
        if 0 < len(wrong) <= len(sums) // 2:
            return _indices(wrong, axis)
    return ""


def _indices(indices: np.ndarray, axis: int) -> str:
    first, last = int(indices[0]), int(indices[-1])
    if len(indices) == 1:
        return f"index {first} of axis {axis}"
    whole = last - first + 1 == len(indices)
    return f"indices {first} to {last} of axis {axis}" + (
        "" if whole else f", {len(indices)} of them"
    )


# ---- without a print


def faults_of_file(tensors: Mapping[str, np.ndarray], certain: bool = False) -> dict[str, Blemish]:
    """What cannot be right, and with ``certain=False`` what may well be wrong."""
    faults = {}
    for name, array in tensors.items():
        if array.dtype.kind == "f" and array.size:
            blemish = _fault(name, array, certain)
            if blemish is not None:
                faults[name] = blemish
    return faults


def _fault(name: str, array: np.ndarray, certain: bool) -> Blemish | None:
    finite = np.isfinite(array)
    large = finite & (np.abs(np.where(finite, array, 0)) > ABSURD)
    if large.any() or not finite.all():
        swapped = array.byteswap()
        sound = np.isfinite(swapped).all() and np.abs(swapped).max() < 1e6
        if sound and array.size > 1 and large.any():
            text = f"{name} is byte-swapped: read in the other byte order"
            return Blemish(name, "byte-swapped", text, swapped)
    if not finite.all():
        wrong = np.argwhere(~finite)
        first = array[tuple(wrong[0])]
        place = f"[{', '.join(map(str, wrong[0]))}]"
        count = f"{len(wrong)} of {array.size} numbers of {name} are not finite"
        return Blemish(name, "not finite", f"{count}: {first} at {place}")
    if certain or array.ndim < 2:
        return None
    if not array.any():
        return Blemish(name, "zeroed weights", f"{name} is all zeros", certain=False)
    for axis in range(array.ndim):
        empty = ~np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).any(1)
        if empty.any():
            text = f"{name} is 0 in {_indices(np.flatnonzero(empty), axis)}"
            return Blemish(name, "zeroed weights", text, certain=False)
    for kind in ("bfloat16", "float16", "int4", "int8"):  # what each holds, the next may hold
        if held_by(array, kind):
            text = f"{name} is rounded to {kind}"
            return Blemish(name, "rounded weights", text, certain=False)
    return None
