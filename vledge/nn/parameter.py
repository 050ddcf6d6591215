"""What stands for a weight at an attribute: an array of the user's own, or one that is to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from vledge.array_like import ArrayLike
from vledge.errors import with_article
from vledge.nn.loading import Declared

__all__ = ["IncompleteError", "Parameter", "Tie", "UnloadedError", "UnloadedWeight"]


class Owner(Protocol):
    """A module, as far as it knows of weights that it has not yet."""

    _declared: dict[str, Declared]
    _tied: dict[str, Any]


class Tie:
    """What weights that are one have in common, and no others."""


class UnloadedError(RuntimeError):
    """A module was to run, or a weight to be read, before there were any."""

    def __init__(self, module: object) -> None:
        super().__init__(
            f"{type(module).__name__} has no weights yet: load them with load_state_dict() "
            "or build it with from_weights()"
        )


class IncompleteError(RuntimeError):
    """A layer that lays out its weights together was given some of them."""

    def __init__(self, module: object, missing: Sequence[str]) -> None:
        super().__init__(
            f"{with_article(type(module).__name__)} needs all of its weights at once, by "
            f"load_state_dict(); without {', '.join(missing)}"
        )


class Parameter(np.ndarray):
    """An array that a Module registers as a weight of its own when it becomes an attribute.

    ``Parameter(data)`` views ``data``; results of arithmetic on it are plain arrays.
    Source: torch.nn.Parameter.
    """

    def __new__(cls, data: ArrayLike) -> Parameter:
        return np.asarray(data).view(cls)

    def __array_wrap__(
        self, array: np.ndarray, context: object = None, return_scalar: bool = False
    ) -> Any:
        array = np.asarray(array)
        return array[()] if return_scalar else array


class UnloadedWeight(NDArrayOperatorsMixin):
    """A module's weight before it is loaded: of known shape and dtype, and without numbers.

    Assigned to another weight, ``self.out.weight = self.embed.weight``, it makes the two one: a
    checkpoint then needs to have only one of the names. All else that one does with an array is the
    error of a layer without weights.
    """

    __slots__ = ("name", "owner")
    __hash__ = object.__hash__

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner, self.name = owner, name

    @property
    def shape(self) -> tuple[int, ...]:
        """As declared."""
        return self.owner._declared[self.name].shape

    @property
    def dtype(self) -> np.dtype:
        """As declared."""
        return self.owner._declared[self.name].dtype

    @property
    def ndim(self) -> int:
        """As declared."""
        return len(self.shape)

    def size(self, dim: int | None = None) -> int | tuple[int, ...]:
        """torch's method: the shape, or one axis of it."""
        return self.shape if dim is None else self.shape[dim]

    def __repr__(self) -> str:
        return f"<{self.name} {list(self.shape)} of {type(self.owner).__name__}, not loaded yet>"

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        raise UnloadedError(self.owner)

    def __array_ufunc__(self, *given: object, **options: object) -> np.ndarray:
        raise UnloadedError(self.owner)

    def __getattr__(self, name: str) -> Any:
        # who asks what it is, as copy() and NumPy do, hears that it is not
        if name.startswith("__"):
            raise AttributeError(f"an unloaded weight has no {name}")
        raise UnloadedError(self.owner)

    def __getitem__(self, place: object) -> Any:
        raise UnloadedError(self.owner)

    def __setitem__(self, place: object, value: object) -> None:
        raise UnloadedError(self.owner)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0
