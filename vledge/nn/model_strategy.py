"""The strategy that a whole model is called with, for every recurrent layer that the call reaches.

Between the call and the layers stands the model's own code, so the strategy goes down in a context
variable: each thread and each call has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vledge.nn.module import Module

__all__ = ["MODEL_STRATEGY", "ModelStrategy", "call_by_strategy"]


class ModelStrategy:
    """A strategy with its options, during one call of a model."""

    def __init__(
        self,
        strategy: str,
        options: Mapping[str, Any],
        model: Module | None = None,
        *,
        wherever_possible: bool = False,
    ) -> None:
        self.strategy = strategy
        self.options = options
        self.model = model  #: whose layers errors are to name
        #: for a graph's nodes: those without lengths, too, and no error for those that cannot
        self.wherever_possible = wherever_possible
        self.reached = False  #: whether a layer has been run by it

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function whose recurrent layers are to run by this strategy."""
        token = MODEL_STRATEGY.set(self)
        try:
            return function(*args, **kwargs)
        finally:
            MODEL_STRATEGY.reset(token)

    def run(self, layer: Any, input: Any, hx: Any, **keywords: Any) -> tuple[Any, Any]:
        """One layer, by :func:`vledge.lengths.run`; what it refuses names the layer."""
        # The strategies stand above the layers and are imported only by who wants one.
        from vledge.lengths import run

        self.reached = True
        try:
            return run(layer, input, hx, strategy=self.strategy, **keywords, **self.options)
        except ValueError as error:
            if self.model is None:
                raise
            names = (name for name, module in self.model.named_modules() if module is layer)
            raise ValueError(f"{next(names, type(layer).__name__)}: {error}") from error


MODEL_STRATEGY: ContextVar[ModelStrategy | None] = ContextVar("MODEL_STRATEGY", default=None)


def call_by_strategy(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module(*args, **kwargs)`` where the keywords name a strategy; ``Module.__call__``.

    The strategy and its options are taken out of the keywords, but for those that are parameters of
    the module's own ``forward()``.
    """
    from vledge.lengths.strategies import check_options, options_of

    own = signature(module.forward).parameters
    if "strategy" in own or kwargs["strategy"] is None:
        if "strategy" not in own:
            del kwargs["strategy"]
        return module.forward(*args, **kwargs)
    strategy = kwargs.pop("strategy")
    options = {
        name: kwargs.pop(name)
        for name in options_of(strategy)
        if name in kwargs and name not in own
    }
    check_options(strategy, options)
    asked = ModelStrategy(strategy, options, module)
    result = asked.call(module.forward, *args, **kwargs)
    if not asked.reached:
        raise ValueError(
            f"strategy={strategy!r} had nothing to run: {type(module).__name__} called no "
            "recurrent layer with lengths, a mask, a PackedSequence or a list of sequences, and "
            "without a strategy of the layer's own"
        )
    return result
