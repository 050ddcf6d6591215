"""Which axis of a value is the batch's and which is time's, read off the shapes of several runs.

What the model itself says of them is `vledge.model.axes`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from vledge.validation.reference.bundle import Axes

__all__ = ["axes_from_shapes"]


def axes_from_shapes(
    shapes: Sequence[tuple[int, ...]], batches: Sequence[int], steps: Sequence[int]
) -> Axes:
    """By which axis has the size of the batch, and which that of time, in every run.

    An axis is only taken for one if its size differed between runs, as the sizes did.
    """
    axes: Axes = {}
    if len({len(shape) for shape in shapes}) != 1:
        return axes
    for key, sizes in (("batch", batches), ("time", steps)):
        for axis in range(len(shapes[0])):
            own = [shape[axis] for shape in shapes]
            if len(set(own)) > 1 and own == list(sizes) and axis not in axes.values():
                axes[key] = axis
                break
    return axes
