"""``python tools/abi3_cost.py``: what one wheel for all Pythons (abi3) would cost.

The tree is compiled once more, into ``build/abi3``, against Python 3.11's limited API; then short
calls are timed with either build, in turns, each in a process of its own, by their CPU time.
docs/records/arm.md has the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "abi3"
LIMITED = "-DPy_LIMITED_API=0x030B0000 -DCYTHON_LIMITED_API=1 -w"
TURNS = 9

# One turn: the least of a few times per call, in microseconds.
TURN = """
import json, sys, time
import numpy as np
import vledge
from vledge import nn

def zeros(layer):
    layer.load_state_dict({n: np.full(d.shape, 0.1, d.dtype) for n, d in layer._declared.items()})
    return layer

cell, layer, linear = zeros(nn.GRUCell(8, 16)), zeros(nn.GRU(8, 16)), zeros(nn.Linear(16, 4))
stream = layer.stream()
x, h, frames = np.ones((1, 8), "f4"), np.ones((1, 16), "f4"), np.ones((5, 1, 8), "f4")
four = [np.ones((n, 8), "f4") for n in (7, 5, 3, 2)]
calls = {
    "a GRU cell of 16 units": lambda: cell(x, h),
    "a step of its stream": lambda: stream.step(x),
    "a sequence of five steps": lambda: layer(frames),
    "a small Linear": lambda: linear(h),
    "packing four sequences": lambda: vledge.pack_sequence(four),
}
least = {}
for name, call in calls.items():
    for _ in range(7):
        start = time.thread_time()
        for _ in range(2000):
            call()
        least[name] = min(least.get(name, 1e9), (time.thread_time() - start) / 2000 * 1e6)
json.dump(least, sys.stdout)
"""


def main() -> int:
    build()
    times: dict[Path, list[dict[str, float]]] = {ROOT: [], COPY: []}
    for _ in range(TURNS):
        for tree, turns in times.items():
            done = subprocess.run(
                [sys.executable, "-c", TURN],
                env={**os.environ, "PYTHONPATH": str(tree)},
                cwd=tree,
                stdout=subprocess.PIPE,
                check=True,
            )
            turns.append(json.loads(done.stdout))
    print(f"{'':<26} {'as now':>10} {'abi3':>10}   ratio, the median of {TURNS} pairs")
    for name in times[ROOT][0]:
        ours, limited = ([turn[name] for turn in times[tree]] for tree in (ROOT, COPY))
        ratio = statistics.median(b / a for a, b in zip(ours, limited, strict=True))
        print(f"{name:<26} {min(ours):>7.2f} us {min(limited):>7.2f} us   {ratio:.2f}")
    ours_mb, limited_mb = (
        sum(path.stat().st_size for path in (tree / "vledge/_ext").glob("*.so")) / 1e6
        for tree in (ROOT, COPY)
    )
    sizes = f"{ours_mb:>7.2f} MB {limited_mb:>7.2f} MB   {limited_mb / ours_mb:.2f}"
    print(f"{'compiled modules':<26} {sizes}")
    return 0


def build() -> None:
    for name in ("vledge", "ext", "models"):
        skip = shutil.ignore_patterns("*.so", "*.c.d", "__pycache__")
        shutil.copytree(ROOT / name, COPY / name, dirs_exist_ok=True, ignore=skip)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, COPY / name)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=COPY,
        env={**os.environ, "CFLAGS": f"{os.environ.get('CFLAGS', '')} {LIMITED}"},
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
