"""Writers that are killed at random moments: half files, and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import vledge
from vledge.planning.costs import Costs

COUNT = 200

# A writer says how far it is, so that no kill comes before there is a file.
_PREAMBLE = """
import os, sys
import numpy as np, vledge
path = sys.argv[1]
def written():
    global k
    k += 1
    os.write(1, b".")
k = 0
"""
_WEIGHTS = """
sizes = 300_000, 7, 0
w = {f"w{n}_l0": np.zeros(size, np.float32) for n, size in enumerate(sizes)}"""
WRITERS = {
    "weights": f"""{_WEIGHTS}
while True:
    for array in w.values():
        array[...] = k
    vledge.save_weights(path, w)
    written()
""",
    "stream state": """
rng = np.random.default_rng(0)
stream = vledge.nn.GRU.from_weights({"weight_ih_l0": rng.random((192, 8), np.float32),
    "weight_hh_l0": rng.random((192, 64), np.float32)}).stream(batch=500)
frame = np.ones((500, 8), np.float32)
while True:
    stream.step(frame)
    stream.save(path)
    written()
""",
    "measured constants": """
from vledge.planning import store
from vledge.planning.defaults import DEFAULT
os.environ["XDG_CACHE_HOME"] = os.path.dirname(path)
while True:
    store.save(DEFAULT)
    written()
""",
}


def _check_weights(path: Path) -> None:
    arrays = vledge.load_weights(path)
    assert [len(arrays[f"w{n}_l0"]) for n in range(3)] == [300_000, 7, 0]
    assert len({float(n) for array in arrays.values() for n in np.unique(array)}) == 1


def _check_state(path: Path) -> None:
    h = vledge.load_weights(path)["h"]
    assert h.shape == (1, 500, 64)
    assert (h == h[:, :1]).all()  # of one step


def _check_constants(path: Path) -> None:
    import json

    (file,) = (path.parent / "vledge").glob("costs-*.json")
    Costs.from_dict(json.loads(file.read_text())["costs"])


CHECKS: dict[str, Callable[[Path], None]] = {
    "weights": _check_weights,
    "stream state": _check_state,
    "measured constants": _check_constants,
}


def measure(count: int) -> tuple[int, str]:
    """Faults, and what there is to say."""
    half = most_left = 0
    rng = np.random.default_rng()
    with tempfile.TemporaryDirectory() as folder:
        for kill in range(count):
            kind = list(WRITERS)[kill % len(WRITERS)]
            place = Path(folder) / kind.replace(" ", "-")
            place.mkdir(exist_ok=True)
            path = place / "file"
            script = _PREAMBLE + WRITERS[kind]
            writer = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
            assert writer.stdout is not None
            if not os.read(writer.stdout.fileno(), 1):
                raise RuntimeError(f"the writer of {kind} ended by itself")
            time.sleep(rng.uniform(0, 0.03))
            writer.kill()
            writer.wait()
            writer.stdout.close()
            try:
                CHECKS[kind](path)
            except Exception as error:
                half += 1
                print(f"{kind}: {type(error).__name__}: {error}", file=sys.stderr)
            scratch = [name for name in place.rglob(".*.tmp") if name.is_file()]
            most_left = max(most_left, len(scratch))
    line = (
        f"{count} writers of {', '.join(WRITERS)} killed in the midst: {half} half files; never "
        f"more than {most_left} scratch files at a time, swept by the next writer"
    )
    return half, line
