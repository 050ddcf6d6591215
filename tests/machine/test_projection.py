"""Who multiplies layers' inputs: the tiles, unless calibration has found scipy's BLAS quicker."""

import numpy as np
import pytest

from tests import reference
from vledge._ext.recurrent import run
from vledge._ext.weights import Direction
from vledge.machine import blas, projection
from vledge.machine.projection import Product
from vledge.planning import save
from vledge.planning.calibration import PRODUCTS, calibrate
from vledge.planning.costs import Costs
from vledge.planning.defaults import DEFAULT

#: Of float32 BLAS is quicker for large products, of float64 never.
FOUND = [
    Product(4, 16, 64, 1.2), Product(4, 16, 2048, 0.96), Product(4, 1024, 64, 0.99),
    Product(4, 1024, 2048, 0.8), Product(8, 1024, 2048, 1.1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = projection.selected()
    projection.select()
    yield tmp_path
    projection.select(before)


def calibrated(products=FOUND):
    save(Costs.from_dict({**DEFAULT.as_dict(), "source": "a test", "products": products}))


def output(name, size=600):
    """Of a layer whose input's terms are so many that their order shows in the last bits."""
    projection.select(name)
    params = reference.random_params(np.random.default_rng(0), "lstm", size, 300)
    direction = Direction("lstm", **{n: a.astype(np.float32) for n, a in params.items()})
    x = np.random.default_rng(1).standard_normal((40, size), np.float32)
    return run([direction], x, np.full(4, 10), threads=1)[0]


def test_auto_is_the_default_and_the_tiles_before_calibration():
    assert projection.selected() == "auto"
    assert projection.chosen(4, 1024, 2048) == "tile"
    assert np.array_equal(output("auto"), output("tile"))
    assert "until `vledge calibrate` has measured both" in described("auto")


def described(name):
    projection.select(name)
    return blas.describe() if blas.module_file() else "until `vledge calibrate` has measured both"


def test_what_is_clearly_quicker_at_the_nearest_size_is_chosen():
    calibrated()
    for itemsize, depth, columns, wanted in (
        (4, 700, 1500, "blas"), (4, 5000, 9000, "blas"), (4, 1, 1, "tile"), (4, 0, 4, "tile"),
        (4, 16, 2048, "tile"), (4, 900, 80, "tile"), (8, 1024, 2048, "tile"),
    ):  # fmt: skip
        assert projection.chosen(itemsize, depth, columns) == wanted
    for name in ("tile", "blas"):  # asked for: whatever was measured
        projection.select(name)
        assert projection.chosen(4, 1024, 2048) == name
        assert projection.chosen(8, 16, 64) == name


def test_a_layer_has_the_bits_of_what_is_chosen():
    pytest.importorskip("scipy")
    calibrated()
    by_tiles, by_blas = output("tile"), output("blas")
    assert not np.array_equal(by_tiles, by_blas), "the test tells nothing"
    assert np.array_equal(output("auto"), by_blas)
    assert np.array_equal(output("auto", 10), output("tile", 10))
    assert "scipy's for input projections near 1 sizes" in described("auto")


def test_without_scipy_the_tiles_compute_whatever_was_measured(monkeypatch):
    calibrated()
    monkeypatch.setattr(blas, "is_there", lambda: False)
    assert np.array_equal(output("auto"), output("tile"))


def test_what_runs_is_told_with_the_reason():
    pytest.importorskip("scipy")
    assert "as asked for" in described("tile")
    assert "as asked for" in described("blas")
    calibrated([Product(4, 16, 64, 1.06), Product(8, 16, 64, 1.71)])
    assert "vledge's own tiles" in described("auto")
    assert "it takes 1.06 to 1.71 times as long at 2 sizes measured" in described("auto")


def test_calibration_measures_both_by_size_and_leaves_the_choice_as_it_was():
    projection.select("blas" if blas.module_file() else "auto")
    before = projection.selected()
    measured = calibrate(0)
    assert projection.selected() == before
    sizes = [one[:3] for one in measured.products]
    assert sizes == (list(PRODUCTS) if blas.module_file() else [])
    assert all(0.01 < one.blas < 100 for one in measured.products)
    assert Costs.from_dict(measured.as_dict()) == measured
