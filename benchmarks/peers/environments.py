"""``python -m benchmarks.peers.environments``: a virtual environment for each peer that brings what
collides with others, under ``build/peers``. `elsewhere` runs them there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.environments")
    parser.description = "Set up environments for peers that collide with others."
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"({' '.join(ENVIRONMENTS)})")
    names = parser.parse_args().peers or list(ENVIRONMENTS)
    if unknown := [name for name in names if name not in ENVIRONMENTS]:
        parser.error(f"no environment for {unknown[0]!r}; there are {', '.join(ENVIRONMENTS)}")
    failed = []
    for name in names:
        print(f"{name}: {', '.join(ENVIRONMENTS[name])} into {FOLDER / name}", flush=True)
        venv.create(FOLDER / name, with_pip=True)
        pip = [interpreter(name), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]]
        if subprocess.run(pip, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"not set up: {', '.join(failed)} (pip says why above)", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
