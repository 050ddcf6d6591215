"""What `import vledge` may cost, and what it must not bring along."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import vledge

# Package → what stands above or beside it, which importing all of it must not bring along.
ABOVE = ["cli", "validation", "streaming", "planning", "lengths", "graph"]
ARROWS = {
    "formats": ABOVE,  # tests/formats/test_imports.py has more
    "nn": ABOVE,
    "lengths": [name for name in ABOVE if name != "lengths"],
    "graph": [name for name in ABOVE if name != "graph"],
    "planning": ["cli", "validation", "streaming", "graph"],
    "streaming": ["cli", "validation", "planning", "lengths"],
    "validation": ["cli"],
}

UNWANTED = (
    "torch", "onnx", "scipy", "safetensors", "matplotlib", "argparse", "google",
    "onnxruntime", "importlib.metadata", "urllib", "http", "multiprocessing", "dataclasses",
)  # fmt: skip


def in_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return json.loads(done.stdout)


def test_no_unwanted_module():
    loaded = in_python(
        "import sys, json, numpy; before = set(sys.modules); import vledge, vledge.nn;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    roots = {name.split(".")[0] for name in loaded} | set(loaded)
    assert not roots & set(UNWANTED), sorted(roots & set(UNWANTED))


@pytest.mark.parametrize("package", ARROWS)
def test_arrows_go_one_way(package):
    loaded = in_python(
        "import json, pkgutil, sys, importlib, vledge\n"
        f"found = importlib.import_module('vledge.{package}')\n"
        "for one in pkgutil.walk_packages(found.__path__, found.__name__ + '.'):\n"
        "    importlib.import_module(one.name)\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('vledge.')]))"
    )
    ours = {name.split(".")[1] for name in loaded}
    assert package in ours
    assert not ours & set(ARROWS[package]), sorted(ours & set(ARROWS[package]))


def test_import_time_against_numpys_own(tmp_path):
    """Beyond numpy, a fraction of numpy: the best of five processes that time both.

    Compiled to bytecode before, as installed packages are; some machines forbid Python to keep it.
    """
    kept = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    code = (
        "import time, json; a = time.perf_counter(); import numpy; b = time.perf_counter();"
        "import vledge; c = time.perf_counter(); print(json.dumps([b - a, c - b]))"
    )
    in_python(code, **kept)
    times = [in_python(code, **kept) for _ in range(5)]
    numpys, ours = (min(column) for column in zip(*times, strict=True))
    assert ours < 0.5 * numpys, times


def test_a_layer_runs_where_only_numpy_and_safetensors_are(tmp_path):
    """The installation without scipy: the same bits, and the BLAS path says that it is absent."""
    path = tmp_path / "lstm.safetensors"
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (32, 4), "weight_hh_l0": (32, 8)}
    weights = {n: rng.standard_normal(shape, np.float32) for n, shape in shapes.items()}
    vledge.save_weights(path, weights)
    expected = vledge.nn.LSTM.from_weights(weights)(np.ones((5, 1, 4), np.float32))[0]
    output, said = in_python(
        f"import sys, json; sys.modules.update(dict.fromkeys({[*UNWANTED[:3], 'h5py']}))\n"
        "import numpy as np, vledge\n"
        "from vledge.machine import blas\n"
        f"lstm = vledge.nn.LSTM.from_weights(vledge.load_weights({str(path)!r}))\n"
        "y = lstm(np.ones((5, 1, 4), np.float32))[0]\n"
        "print(json.dumps([y.tolist(), blas.describe()]))"
    )
    assert np.array_equal(np.array(output, np.float32), expected)
    assert "not installed" in said
