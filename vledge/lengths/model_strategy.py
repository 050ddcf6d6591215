"""The strategy that a whole model is called with, for every recurrent layer that the call reaches.

Between the call and the layers stands the model's own code, so the strategy goes down in a context
variable: each thread and each call has its own. Layers of `vledge.nn` and nodes of a graph look
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from vledge.lengths.running import HasStack
    from vledge.packing.sequence import Output, Sequences
    from vledge.recurrent.states import GivenState, State

__all__ = ["MODEL_STRATEGY", "ModelStrategy"]

P = ParamSpec("P")
R = TypeVar("R")


class ModelStrategy:
    """A strategy with its options, during one call of a model."""

    def __init__(
        self,
        strategy: str,
        options: Mapping[str, Any],
        name_of: Callable[[HasStack], str] | None = None,
        *,
        wherever_possible: bool = False,
    ) -> None:
        self.strategy = strategy
        self.options = options
        self.name_of = name_of  #: what errors call a layer
        #: for a graph's nodes: those without lengths, too, and no error for those that cannot
        self.wherever_possible = wherever_possible
        self.reached = False  #: whether a layer has been run by it

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function whose recurrent layers are to run by this strategy."""
        token = MODEL_STRATEGY.set(self)
        try:
            return function(*args, **kwargs)
        finally:
            MODEL_STRATEGY.reset(token)

    def run(
        self, layer: HasStack, input: Sequences, hx: GivenState, **keywords: Any
    ) -> tuple[Output, State]:
        """One layer, by :func:`vledge.lengths.run`; what it refuses names the layer."""
        # the strategies are imported by who wants one: every layer imports this module
        from vledge.lengths.running import run

        self.reached = True
        try:
            return run(layer, input, hx, strategy=self.strategy, **keywords, **self.options)
        except ValueError as error:
            if self.name_of is None:
                raise
            raise ValueError(f"{self.name_of(layer)}: {error}") from error


MODEL_STRATEGY: ContextVar[ModelStrategy | None] = ContextVar("MODEL_STRATEGY", default=None)
