"""Keras' activations as `vledge.nn` writes them, and what a recurrent layer had where none is said.

``hard_sigmoid`` is two functions: ``clip(0.2 x + 0.5, 0, 1)`` before Keras 3, ``relu6(x + 3) / 6``
from there on. ``recurrent_activation`` is hard_sigmoid where nothing is said before Keras 2.3, and
in TensorFlow 1. Source: keras.activations and keras.layers.recurrent, Keras 2.2.4, 2.3.1 and 3.15.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from vledge.errors import UnsupportedError
from vledge.formats.json_text import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Written", "activation", "default_gate"]

#: a name, or a name and its parameters: what vledge.nn's ``activation=`` takes
Written = str | tuple[str | float, ...]

_SAME: Final = {
    "sigmoid",
    "tanh",
    "relu",
    "linear",
    "elu",
    "selu",
    "softsign",
    "softplus",
    "exponential",
    "silu",
    "gelu",
    "relu6",
    "hard_tanh",
}
_HARD_SIGMOIDS: Final = {2: ("hard_sigmoid", 0.2, 0.5), 3: ("hard_sigmoid", 1 / 6, 0.5)}


def activation(value: Json | Written, version: str | None, where: str) -> Written:
    """What Keras' ``activation=value`` means in a file of this version of Keras.

    UnsupportedError, which begins with ``where``, for what the kernels do not compute.
    """
    match value:
        case None:
            return "linear"
        case "hard_sigmoid":
            if (numbers := _numbers(version)) is None:
                raise UnsupportedError(
                    f"{where}='hard_sigmoid' is two functions, and the file does not say which "
                    "Keras wrote it: say ('hard_sigmoid', 0.2, 0.5) for Keras 2, "
                    "('hard_sigmoid', 1 / 6, 0.5) for Keras 3"
                )
            return _HARD_SIGMOIDS[3 if numbers >= (3,) else 2]
        case "swish":
            return "silu"
        case "leaky_relu":
            return ("leaky_relu", 0.2)
        case str() if value in _SAME:
            return value
        case tuple() | list():  # as vledge.nn takes it, which checks it
            return tuple(cast("Sequence[str | float]", value))
        case {"class_name": "LeakyReLU", "config": {"negative_slope": float(slope)}}:
            return ("leaky_relu", slope)
        case {"class_name": "LeakyReLU", "config": {"alpha": float(slope)}}:  # until Keras 3
            return ("leaky_relu", slope)
        case {"class_name": "ELU", "config": {"alpha": float(alpha)}}:
            return ("elu", alpha)
        case {"class_name": str(name), "config": config}:
            value = config if name == "function" else name
    raise UnsupportedError(f"{where}={value!r} is not run")


def default_gate(version: str | None) -> tuple[str, str]:
    """``recurrent_activation`` of a layer for which none was said, and whose default it is."""
    numbers = _numbers(version)
    if version is None or numbers is None:
        return "sigmoid", "Keras' default since 2.3"
    tensorflow = version.endswith("-tf")
    if tensorflow and numbers == (2, 2, 4):
        return "sigmoid", (
            "the default of TensorFlow 2.0 and 2.1; TensorFlow 1 writes the same version, "
            f"{version}, and its default is 'hard_sigmoid'"
        )
    if numbers < ((2, 2, 4) if tensorflow else (2, 3)):
        return "hard_sigmoid", f"the default of Keras {version}"
    return "sigmoid", f"the default of Keras {version}"


def _numbers(version: str | None) -> tuple[int, ...] | None:
    """A version's numbers; None for a text that does not begin with one, and tells nothing."""
    if version is None or not re.match(r"\d", version):
        return None
    return tuple(int(number[:6]) for number in re.findall(r"\d+", version)[:3])
