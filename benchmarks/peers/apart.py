"""The peers that have an environment of their own, for what they bring collides with others: what
each brings, and where it lies. `environments` sets them up, `elsewhere` runs the peers there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["ENVIRONMENTS", "FOLDER", "interpreter"]

FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"

# What each brings. MNN and tract read ONNX models, which the onnx package writes; LiteRT's are made
# by Keras 2, ExecuTorch's by torch.
ENVIRONMENTS: Mapping[str, tuple[str, ...]] = {
    "litert": ("ai-edge-litert>=2.0", "tensorflow-cpu", "tf-keras"),
    "mnn": ("MNN>=3.0", "onnx>=1.16"),
    "tract": ("tract>=0.23", "onnx>=1.16"),
    "jax": ("jax[cpu]>=0.6",),
    "executorch": ("torch==2.13.0", "executorch==1.4.1"),
}


def interpreter(name: str) -> Path:
    """The Python of a peer's environment, which may not be there yet."""
    return FOLDER / name / "bin" / "python"
