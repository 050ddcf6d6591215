"""What `import vledge` may cost, and what it must not bring along."""

import json
import subprocess
import sys

UNWANTED = (
    "torch", "onnx", "scipy", "safetensors", "matplotlib", "argparse", "google",
    "onnxruntime", "importlib.metadata", "urllib", "http", "multiprocessing",
)  # fmt: skip


def in_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_no_unwanted_module():
    loaded = in_python(
        "import sys, json, numpy; before = set(sys.modules); import vledge, vledge.nn;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    roots = {name.split(".")[0] for name in loaded} | set(loaded)
    assert not roots & set(UNWANTED), sorted(roots & set(UNWANTED))


def test_import_time_against_numpys_own():
    """Beyond numpy, a fraction of numpy: the medians of five processes that time both."""
    code = (
        "import time, json; a = time.perf_counter(); import numpy; b = time.perf_counter();"
        "import vledge; c = time.perf_counter(); print(json.dumps([b - a, c - b]))"
    )
    ratios = sorted(ours / numpys for numpys, ours in (in_python(code) for _ in range(5)))
    assert ratios[2] < 0.5, ratios
