"""``python -m benchmarks.footprint``: what importing costs, each in new processes taken in turn.

Milliseconds to import and peak resident megabytes of the process, medians; and what vledge takes on
disk, its package as installed or in the source tree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

IMPORTS = {
    "python alone": "",
    "numpy": "import numpy",
    "vledge": "import vledge",
    "vledge, a model loaded and run": (
        "from vledge.shipped import japanese_vowels as j; j.load()(j.load_test_set().packed())"
    ),
    "scipy.linalg.cython_blas by its package": "import scipy.linalg.cython_blas",
    "scipy.linalg.cython_blas by its file": "from vledge._ext import blas; blas.load()",
    "onnxruntime": "import onnxruntime",
    "openvino": "import openvino",
    "torch": "import torch",
}
PROBE = """
import json, resource, sys, time
start = time.perf_counter()
{code}
taken = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([taken * 1e3, peak / 1024]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found: dict[str, list[list[float]]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, code in IMPORTS.items():
            done = subprocess.run(
                [sys.executable, "-c", PROBE.format(code=code)], capture_output=True, text=True
            )
            if done.returncode == 0:
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{'':42} ms   peak MB")
    for name, samples in found.items():
        if samples:
            taken, peak = (statistics.median(s[i] for s in samples) for i in (0, 1))
            print(f"{name:40} {taken:6.1f} {peak:7.1f}")
        else:
            print(f"{name:40} not installed")
    import vledge

    package = Path(vledge.__file__).parent
    size = sum(p.stat().st_size for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc")
    print(f"vledge on disk: {size / 1e6:.1f} MB in {package.name}/")


if __name__ == "__main__":
    main()
