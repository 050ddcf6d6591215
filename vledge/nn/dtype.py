"""torch's ``dtype=`` and ``device=`` arguments: which layers accept."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike

from vledge.array_like import ArrayLike, array_of, wrong_dtype

DType: TypeAlias = object  #: a dtype of NumPy's or torch's, or its name; None: the default


def dtype_of(dtype: object) -> np.dtype:
    """NumPy's dtype of a name or a dtype, torch's among them, without importing torch."""
    name = str(dtype)
    if name.startswith("torch."):
        return np.dtype(name.removeprefix("torch."))
    return np.dtype(cast(DTypeLike, dtype))


def float_dtype(dtype: DType) -> np.dtype:
    """float32 for None, else the dtype if layers can run in it."""
    try:
        wanted = dtype_of(np.float32 if dtype is None else dtype)
    except TypeError:  # of torch's, or no dtype at all
        raise ValueError(f"layers run in float32 or float64, not {dtype}") from None
    if wanted not in (np.float32, np.float64):
        raise ValueError(f"layers run in float32 or float64, not {wanted}")
    return wanted


def require_cpu(device: object) -> None:
    """Raise unless torch's ``device=`` argument means the CPU."""
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise ValueError(f"vledge runs on the CPU only, not on device {str(device)!r}")


def conversion(
    *args: object,
    device: object = None,
    dtype: DType = None,
    tensor: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: object = None,
) -> np.dtype | None:
    """What torch's ``Module.to(…)`` asks for: a dtype, or None where it names the CPU alone.

    Raises ValueError for a dtype that layers do not run in and for another device, TypeError for
    what is neither.
    """
    if len(args) > 4:  # device or tensor, dtype, non_blocking, copy
        raise TypeError(f"to() takes at most 4 positional arguments, got {len(args)}")
    if args and hasattr(args[0], "dtype") and not isinstance(args[0], type):
        tensor = args[0]
    elif args and _is_device(args[0]):
        device = args[0]
        dtype = args[1] if len(args) > 1 else dtype
    elif args:
        dtype = args[0]
    require_cpu(device)
    if tensor is not None:
        dtype = tensor.dtype
    return None if dtype is None else float_dtype(dtype)


def _is_device(given: object) -> bool:
    """torch.device, or its name ("cpu", "cuda:1"); any other string is a dtype's."""
    if given is None or type(given).__name__ == "device" or isinstance(given, int):
        return True
    if not isinstance(given, str):
        return False
    try:
        dtype_of(given)
    except TypeError:
        return True
    return False


def checked_input(input: ArrayLike, dtype: np.dtype) -> np.ndarray:
    """The input as an array, if it has the weights' dtype."""
    array = array_of(input, "input")
    if array.dtype != dtype:
        raise ValueError(wrong_dtype("input", array.dtype, dtype))
    return array
