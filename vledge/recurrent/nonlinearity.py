"""The activations that a recurrent layer may ask for in place of its own, and their parameters.

A choice is a name, or a tuple of a name and its parameters alpha and beta: ``"relu"``,
``("hard_sigmoid", 0.2, 0.5)``. The kernels compute them (``vl_nonlinearity`` in
``ext/simd/kernels.h``). Source: ONNX's Operators.md, LSTM; keras.activations, Keras 3.15.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

__all__ = ["NONLINEARITIES", "ActivationChoice", "Nonlinearity", "nonlinearity", "written"]

#: name, alpha, beta, as ``vledge._ext.weights.Direction`` takes them
Nonlinearity = tuple[str, float, float]
#: What callers write for one: a name, or a name and its parameters.
ActivationChoice: TypeAlias = str | Sequence[str | float]

# name → its defaults of alpha and beta, as many as it has; None: must be given
NONLINEARITIES: Final[dict[str, tuple[float | None, ...]]] = {
    "sigmoid": (),
    "tanh": (),
    "relu": (),
    "affine": (None, None),
    "leaky_relu": (None,),
    "thresholded_relu": (1.0,),
    "scaled_tanh": (None, None),
    "hard_sigmoid": (None, None),
    "elu": (1.0, 1.0),
    "softsign": (),
    "softplus": (),
    "exponential": (),
    "silu": (),
    "gelu": (),
    "clip": (None, None),
}

# Names for one of these with parameters of its own.
_OTHER_NAMES: Final[dict[str, Nonlinearity]] = {
    "linear": ("affine", 1.0, 0.0),
    "swish": ("silu", 0.0, 0.0),
    "relu6": ("clip", 0.0, 6.0),
    "hard_tanh": ("clip", -1.0, 1.0),
    "selu": ("elu", 1.0507009873554805 * 1.6732632423543772, 1.0507009873554805),
}


def nonlinearity(choice: ActivationChoice, what: str) -> Nonlinearity:
    """The choice with all of its parameters; ValueError that begins with ``what`` if it is none."""
    name, *given = choice if isinstance(choice, (tuple, list)) and choice else (choice,)
    if isinstance(name, str) and name in _OTHER_NAMES and not given:
        return _OTHER_NAMES[name]
    if not isinstance(name, str) or name not in NONLINEARITIES:
        raise ValueError(
            f"{what}={choice!r} is not one of {', '.join([*NONLINEARITIES, *_OTHER_NAMES])}"
        )
    presets = NONLINEARITIES[name]
    if len(given) > len(presets):
        raise ValueError(f"{what}={choice!r}: {name} has {len(presets)} parameters")
    values = [*given, *presets[len(given) :]]
    if name == "hard_sigmoid" and None in values:
        raise ValueError(
            f"{what}={choice!r} is two functions: ('hard_sigmoid', 0.2, 0.5) before Keras 3 and in "
            "ONNX, ('hard_sigmoid', 1 / 6, 0.5) in Keras 3 and torch"
        )
    if None in values:
        wanted = ", ".join(("alpha", "beta")[: len(presets)])
        raise ValueError(f"{what}={choice!r} needs its parameters: ({name!r}, {wanted})")
    try:
        alpha, beta = (float(value) for value in (*values, 0.0, 0.0)[:2])
    except (TypeError, ValueError):
        raise ValueError(f"{what}={choice!r} has parameters that are no numbers") from None
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise ValueError(f"{what}={choice!r} has parameters that are not finite")
    return name, alpha, beta


def written(choice: Nonlinearity) -> str | tuple[str | float, ...]:
    """The choice as one would write it."""
    for name, same in _OTHER_NAMES.items():
        if choice == same and name != "swish":
            return name
    name, *values = choice
    own = values[: len(NONLINEARITIES[name])]
    return (name, *own) if own and own != list(NONLINEARITIES[name]) else name
