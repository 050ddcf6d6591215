"""scipy's BLAS for the input projection: found both ways, without scipy's package, and right."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests import reference
from tests.kernels.test_recurrent import TOLERANCE, assert_close, case
from vledge._ext.recurrent import run
from vledge.machine import projection

pytest.importorskip("scipy", reason="scipy is not installed: the lean way, tiles only")


@pytest.fixture
def blas_projection():
    before = projection.selected()
    projection.select("blas")
    yield
    projection.select(before)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("kind", list(reference.GATES))
def test_projection_by_blas(instruction_set, blas_projection, limits, kind, dtype):
    limits(chunk_bytes=20_000, team_members=2)
    for hidden_size, lengths in ((1, [3]), (17, [9, 4, 4, 1]), (64, [40])):
        directions, *rest, expected = case(
            kind, 5, hidden_size, lengths, dtype, reverses=(False, True)
        )
        for threads in (1, 2):
            assert_close(run(directions, *rest, threads=threads), expected, dtype)
        copy = directions[0].weight_ih()
        assert copy.shape == (reference.GATES[kind] * hidden_size, 5)


def test_weights_come_back_from_the_blas_layout(blas_projection):
    rng = np.random.default_rng(0)
    params = {
        n: a.astype(np.float32) for n, a in reference.random_params(rng, "gru", 5, 20).items()
    }
    direction = case("gru", 5, 20, [1], np.float32)[0][0].__class__("gru", **params)
    assert np.array_equal(direction.weight_ih(), params["weight_ih"])


def in_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["from_file", "from_package"])
def test_both_ways_of_loading(way):
    """By the file alone, nothing of scipy's package is imported."""
    loaded, modules = in_python(
        "import json, sys; from vledge.machine import blas;"
        f"way = blas.load((blas.{way},));"
        "print(json.dumps([way, [m for m in sys.modules if m.startswith('scipy')]]))"
    )
    assert loaded == way.replace("_", " ")
    assert ("scipy.linalg" in modules) == (way == "from_package")


def test_scipy_imports_as_usual_afterwards():
    in_python(
        "from vledge.machine import blas; blas.load(); import numpy as np, scipy.linalg;"
        "assert scipy.linalg.blas.dgemm(1, np.eye(2), np.eye(2))[0, 0] == 1; print(1)"
    )


def test_missing_scipy_is_named():
    done = in_python(
        "import sys, json; sys.modules['scipy'] = None\n"
        "from vledge.machine import blas\n"
        "import vledge\n"
        "try: blas.load((lambda: blas.from_package(),))\n"
        "except vledge.MissingDependencyError as error: print(json.dumps(str(error)))"
    )
    assert done.endswith("pip install scipy")


def test_unknown_projection():
    with pytest.raises(ValueError, match="'gpu' is not one of auto, tile, blas"):
        projection.select("gpu")
