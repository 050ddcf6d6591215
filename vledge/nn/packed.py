"""Layers that hold their weights once, laid out for a kernel, and unpack them when asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from vledge.nn.module import Module
from vledge.nn.parameter import IncompleteError, UnloadedError

__all__ = ["PackedModule"]


class PackedModule(Module):
    """A layer whose weights are one packed object, with a method to unpack each by its name."""

    _packed: Any = None

    def _pack(self, arrays: dict[str, np.ndarray]) -> Any:
        """All of the layer's arrays, laid out; each comes back from a method of its name."""
        raise NotImplementedError

    def _loaded(self) -> Any:
        if self._packed is None:
            raise UnloadedError(self)
        return self._packed

    def _array(self, name: str) -> np.ndarray:
        array: np.ndarray = getattr(self._loaded(), name)()
        return array

    def _own_state(self) -> dict[str, np.ndarray]:
        if self._packed is None:
            return {}
        return {name: self._array(name) for name in self._declared}

    def _load_own(self, arrays: dict[str, np.ndarray]) -> None:
        arrays = {**self._own_state(), **arrays}
        missing = [name for name in self._declared if name not in arrays]
        if missing:
            raise IncompleteError(self, missing)
        self._packed = self._pack(arrays)
