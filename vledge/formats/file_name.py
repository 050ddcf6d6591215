"""Names under which a safetensors file would be taken for another one."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["check_name"]

# Ending → what programs take such a file for.
_OTHERS: Final = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), "torch's"),
    **dict.fromkeys((".pt2", ".jit"), "torch's archives"),
    **dict.fromkeys((".onnx", ".ort"), "ONNX"),
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "Keras'"),
    **dict.fromkeys((".npz", ".npy"), "NumPy's"),
    **dict.fromkeys((".tflite", ".pb"), "TensorFlow's"),
    **dict.fromkeys((".pkl", ".pickle"), "pickles"),
}


def check_name(path: str | os.PathLike[str]) -> None:
    """ValueError for a name that promises a format which is not written."""
    name = os.fspath(path)
    stem, ending = os.path.splitext(name)
    kind = _OTHERS.get(ending.lower())
    if kind is not None:
        raise ValueError(
            f"{name}: files named *{ending} are {kind}, and what is written is safetensors: name "
            f"it {os.path.basename(stem)}.safetensors"
        )
