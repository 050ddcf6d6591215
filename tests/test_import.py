"""What `import vledge` may cost, and what it must not bring along."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import vledge
from tests import imports
from tests.peers import peer

UNWANTED = (
    "torch", "onnx", "scipy", "safetensors", "matplotlib", "argparse", "google",
    "onnxruntime", "importlib.metadata", "urllib", "http", "multiprocessing", "dataclasses",
)  # fmt: skip


# Package → what it may import, which stands above it in this table: so no arrow leads back. Doors
# apart, that is all that it imports. Whoever adds a line here should be able to say it aloud.
LOW = (
    "small_matrix", "_ext", "_version", "errors", "budget", "array_like", "pieces", "out_arrays",
    "shown", "recurrent.cells",
)  # fmt: skip
ARROWS = {
    "recurrent.cells": (),  # a table without imports, which files' readers and kernels ask, too
    "pieces": (),
    "small_matrix": ("pieces",),  # what both files and kernels know of small weights
    "_ext": ("recurrent.cells", "small_matrix", "pieces"),
    "_version": (),
    "errors": (),
    "budget": ("errors",),
    "array_like": (),
    "shown": (),
    "progress": (),
    "out_arrays": ("_ext",),
    "machine": ("_ext", "_version", "errors"),
    "model": ("errors", "budget"),
    "formats": (
        "small_matrix", "errors", "budget", "pieces", "shown", "recurrent.cells", "machine",
        "model",
    ),
    "packing": ("_ext", "array_like", "shown"),
    "weights": ("small_matrix", "errors"),
    "convolution": ("small_matrix", "_ext", "errors"),
    "recurrent": ("small_matrix", "_ext", "array_like", "recurrent.cells", "packing", "weights"),
    "lengths": ("_ext", "array_like", "packing", "recurrent"),
    "planning": (*LOW, "machine", "packing", "recurrent", "lengths"),
    "nn": (*LOW, "formats", "packing", "weights", "convolution", "recurrent", "lengths"),
    "graph": (
        *LOW, "machine", "model", "formats", "packing", "convolution", "recurrent", "lengths",
    ),
    "streaming": (*LOW, "model", "formats", "recurrent", "nn", "graph"),
    "quantization": (
        "small_matrix", "errors", "pieces", "shown", "formats", "packing", "weights", "recurrent",
        "nn", "graph",
    ),
    "shipped": ("formats", "packing", "nn"),
    "validation": (
        *LOW, "machine", "model", "formats", "weights", "recurrent", "lengths", "graph",
    ),
    "layer_file": ("errors", "budget", "formats", "weights", "recurrent.cells", "nn", "graph"),
    "scoring": (
        *LOW, "progress", "machine", "model", "formats", "packing", "recurrent", "lengths",
        "planning", "nn", "graph", "validation", "layer_file",
    ),
    "integrations": (
        *LOW, "progress", "model", "formats", "weights", "graph", "validation", "scoring",
    ),
    "cli": (
        *LOW, "machine", "model", "formats", "weights", "recurrent", "lengths", "planning", "nn",
        "graph", "streaming", "quantization", "shipped", "validation", "layer_file", "scoring",
        "integrations", "progress",
    ),
    "__main__": ("cli",),
}  # fmt: skip

# Where a low thing offers a high one: the one import of each, and what is offered.
DOORS = {
    ("lengths.running", "planning.choice"): 'strategy="auto"',
    ("nn.recurrent.base", "graph.layers"): "from_onnx",
    ("nn.recurrent.base", "nn.recurrent.keras"): "from_keras, which makes any of the layers",
    ("nn.recurrent.parts", "nn.recurrent.keras"): "from_keras, which makes any of the layers",
    ("nn.module", "streaming.modules"): "Module.stream()",
    ("nn.module", "streaming"): "Module.stream(), its type",
    ("graph.session", "streaming.sessions"): "InferenceSession.stream()",
    ("graph.session", "streaming"): "InferenceSession.stream(), its type",
    ("_ext.convolution", "machine.threads"): "set_num_threads()",
    ("_ext.product", "machine.threads"): "set_num_threads()",
    ("_ext.pool", "machine.threads"): "set_num_threads()",
    ("machine.threads", "planning.store"): "what `vledge calibrate` has found of threads",
    ("machine.projection", "planning.store"): "what `vledge calibrate` has found of products",
    ("_ext.weights", "machine.projection"): "VLEDGE_PROJECTION",
    ("_ext.weights", "machine.blas"): "VLEDGE_PROJECTION=blas",
    ("_ext.weights", "machine.mapped_file"): "weights that lie in a mapped file are let go",
}

# Private names of others' classes: what a NamedTuple has, torch's modules, argparse, os.
PRIVATE_OF_OTHERS = {
    "_exit",
    "_replace",
    "_fields",
    "_asdict",
    "_make",
    "_modules",
    "_parameters",
    "_actions",
}


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


def package_of(module):
    return module if module in ARROWS else module.partition(".")[0]


def test_the_table_goes_one_way():
    above = []
    for package, imported in ARROWS.items():
        assert set(imported) <= set(above), package
        above.append(package)


def test_every_import_goes_down_or_through_a_door():
    found = imports.arrows()
    wrong = [
        f"{source} -> {target}"
        for source, target in sorted(found)
        if package_of(source) != package_of(target)
        and package_of(target) not in ARROWS.get(package_of(source), ())
        and (source, target) not in DOORS
    ]
    assert not wrong, wrong
    assert found >= DOORS.keys()  # a door that nobody takes is closed


def test_doors_lead_up():
    """To a package above, or inside of one against its arrows: there is a circle without it."""
    for source, target in DOORS:
        one, other = package_of(source), package_of(target)
        if one != other:
            assert other not in ARROWS[one], (source, target)
        else:
            open_doors = DOORS.keys() - {(source, target)}
            assert imports.circles(imports.arrows() - open_doors), (source, target)


def test_no_circle_of_files():
    assert imports.circles(imports.arrows() - DOORS.keys()) == []


def test_circles_are_found():
    line = {imports.Arrow(*pair) for pair in ("ab", "bc", "cd", "ec")}
    assert imports.circles(line) == []
    assert imports.circles(line | {imports.Arrow("d", "b")}) == [["b", "c", "d"]]


def test_nobody_asks_for_another_packages_privates():
    wrong = [
        f"{module}, line {line}: {name}"
        for module, name, line in imports.private_names()
        if name not in PRIVATE_OF_OTHERS
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("package", [p for p in ARROWS if (imports.PACKAGE / p).is_dir()])
def test_importing_a_package_brings_what_is_below_it_along(package):
    """Doors are opened by who goes through one, not when what is below is imported."""
    if package == "integrations":
        peer("torch")
    loaded = in_python(
        "import json, pkgutil, sys, importlib, vledge\n"
        f"found = importlib.import_module('vledge.{package}')\n"
        "for one in pkgutil.walk_packages(found.__path__, found.__name__ + '.'):\n"
        "    importlib.import_module(one.name)\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('vledge.')]))"
    )
    allowed, waiting = set(), [package, "nn"]  # `vledge` itself has the layers
    while waiting:
        allowed.add(one := waiting.pop())
        waiting += ARROWS[one]
    ours = {package_of(name.removeprefix("vledge.")) for name in loaded}
    assert package in ours
    assert ours <= allowed, sorted(ours - allowed)


def test_a_layer_brings_no_strategy_along():
    loaded = in_python(
        "import json, sys, vledge, vledge.nn; print(json.dumps(sorted(sys.modules)))"
    )
    lengths = {name for name in loaded if name.startswith(("vledge.lengths", "vledge.planning"))}
    assert lengths == {"vledge.lengths", "vledge.lengths.model_strategy"}


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


def test_a_layer_is_saved_loaded_and_run_where_only_numpy_is(tmp_path):
    """The installation without scipy: the same bits, and the BLAS path says that it is absent."""
    path = tmp_path / "lstm.safetensors"
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (32, 4), "weight_hh_l0": (32, 8)}
    weights = {n: rng.standard_normal(shape, np.float32) for n, shape in shapes.items()}
    vledge.save_weights(path, weights)
    expected = vledge.nn.LSTM.from_weights(weights)(np.ones((5, 1, 4), np.float32))[0]
    output, said = in_python(
        f"import sys, json; sys.modules.update(dict.fromkeys({[*UNWANTED[:4], 'h5py']}))\n"
        "import numpy as np, vledge\n"
        "from vledge.machine import blas\n"
        f"weights = vledge.load_weights({str(path)!r})\n"
        f"vledge.save_weights({str(path)!r}, weights)\n"
        f"lstm = vledge.nn.LSTM.from_weights(vledge.load_weights({str(path)!r}))\n"
        "y = lstm(np.ones((5, 1, 4), np.float32))[0]\n"
        "print(json.dumps([y.tolist(), blas.describe()]))"
    )
    assert np.array_equal(np.array(output, np.float32), expected)
    assert "not installed" in said
