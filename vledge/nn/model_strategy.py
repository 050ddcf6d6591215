"""``model(…, strategy="bucketed")``: a whole model, its recurrent layers by one strategy."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar

from vledge.lengths.model_strategy import ModelStrategy
from vledge.lengths.running import HasStack, check_options, options_of

__all__ = ["call_by_strategy"]

_R = TypeVar("_R")


def call_by_strategy(
    forward: Callable[..., _R],
    args: tuple[object, ...],
    kwargs: dict[str, Any],
    model: str,
    name_of: Callable[[HasStack], str],
) -> _R:
    """``forward(*args, **kwargs)`` where the keywords name a strategy; for ``Module.__call__``.

    The strategy and its options are taken out of the keywords, but for those that are parameters of
    ``forward()`` itself. ``model`` and ``name_of(layer)`` are for errors.
    """
    own = signature(forward).parameters
    if "strategy" in own or kwargs["strategy"] is None:
        if "strategy" not in own:
            del kwargs["strategy"]
        return forward(*args, **kwargs)
    strategy = kwargs.pop("strategy")
    options = {
        name: kwargs.pop(name)
        for name in options_of(strategy)
        if name in kwargs and name not in own
    }
    check_options(strategy, options)
    asked = ModelStrategy(strategy, options, name_of)
    result = asked.call(forward, *args, **kwargs)
    if not asked.reached:
        raise ValueError(
            f"strategy={strategy!r} had nothing to run: {model} called no recurrent layer with "
            "lengths, a mask, a PackedSequence or a list of sequences, and without a strategy of "
            "the layer's own"
        )
    return result
