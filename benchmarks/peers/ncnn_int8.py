"""ncnn's LSTM and GRU with weights of 8 bits, a layer by itself: what its ncnn2int8 writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vledge.recurrent.cells import in_order

__all__ = ["layer"]

PARAM_MAGIC = "7767517"
FLOAT32_TAG, INT8_TAG = (np.array([tag], np.int32).tobytes() for tag in (0, 0x000D4B38))


def layer(
    cell: str, weights: dict[str, np.ndarray], x: np.ndarray
) -> tuple[Callable[[], np.ndarray], int]:
    """A run on ``x`` [T, 1, I], on one thread, and bytes of the model.

    Raises ImportError where there is no ncnn, RuntimeError where it refuses the model.
    """
    import ncnn

    text, content = _files(cell, weights)
    net = ncnn.Net()
    net.opt.num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        param, model = Path(folder, "layer.param"), Path(folder, "layer.bin")
        param.write_text(text)
        model.write_bytes(content)
        if net.load_param(str(param)) or net.load_model(str(model)):
            raise RuntimeError("ncnn refused an int8 layer")
    given = ncnn.Mat(np.ascontiguousarray(x[:, 0]))

    def run() -> np.ndarray:
        extractor: Any = net.create_extractor()
        extractor.input("x", given)
        return np.array(extractor.extract("y")[1])[:, None]

    return run, len(content)


def _files(cell: str, weights: dict[str, np.ndarray]) -> tuple[str, bytes]:
    """The text of the .param file and the content of the .bin file."""
    w_ih, w_hh = (
        in_order(cell, weights[f"weight_{name}_l0"], "PyTorch", "ncnn") for name in ("ih", "hh")
    )
    hidden_size = w_hh.shape[1]
    scales = [127 / np.abs(w).max(axis=1) for w in (w_hh, w_ih)]
    small = [
        INT8_TAG + np.rint(w * scale[:, None]).astype(np.int8).tobytes()
        for w, scale in zip((w_hh, w_ih), scales, strict=True)
    ]
    content = small[1] + FLOAT32_TAG + _bias(cell, weights) + small[0]
    content += b"".join(scale.astype(np.float32).tobytes() for scale in reversed(scales))
    text = f"{cell} layer 1 1 x y 0={hidden_size} 1={w_ih.size} 8=2"
    return f"{PARAM_MAGIC}\n2 2\nInput x 0 1 x\n{text}\n", content


def _bias(cell: str, weights: dict[str, np.ndarray]) -> bytes:
    """In ncnn's order of gates; a GRU keeps its two of n apart."""
    ih, hh = weights["bias_ih_l0"], weights["bias_hh_l0"]
    if cell == "LSTM":
        return in_order(cell, ih + hh, "PyTorch", "ncnn").astype(np.float32).tobytes()
    two, n = len(ih) // 3 * 2, len(ih) // 3
    parts = [ih[:two] + hh[:two], ih[-n:], hh[-n:]]
    return np.concatenate(parts).astype(np.float32).tobytes()
