"""Dropout, which does nothing when a model runs."""

from __future__ import annotations

from vledge.array_like import ArrayLike
from vledge.nn.module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """The input itself. Source: torch.nn.Dropout in ``eval()`` mode."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p

    def forward(self, input: ArrayLike) -> ArrayLike:
        """The input, unchanged."""
        return input

    def extra_repr(self) -> str:
        return f"p={self.p}"
