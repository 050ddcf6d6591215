"""Thresholds: by name, with units, and in force wherever compiled code chooses by one."""

import re
from pathlib import Path

import numpy as np
import pytest

from vledge._ext import recurrent
from vledge._ext.product import Product
from vledge._ext.program import run_handler
from vledge._ext.weights import Direction

LIST = Path(__file__).parents[2] / "ext" / "limit_list.h"


def lstm(input_size, hidden_size, dtype=np.float32, storage=None):
    rng = np.random.default_rng(0)
    shapes = ((4 * hidden_size, input_size), (4 * hidden_size, hidden_size))
    matrices = (rng.standard_normal(s).astype(dtype) for s in shapes)
    return Direction("lstm", *matrices, storage=storage)


def test_every_limit_of_the_list_has_a_unit():
    named = re.findall(r'^LIMIT\((\w+), .*, "(.+)"\)$', LIST.read_text(), re.MULTILINE)
    assert list(recurrent.limits()) == [name for name, _ in named]
    assert recurrent.limit_units() == dict(named)


def test_limits_change_and_an_unknown_one_is_refused(limits):
    assert limits(chunk_bytes=1)["chunk_bytes"] == 1
    assert limits()["chunk_bytes"] == 1
    with pytest.raises(ValueError, match="no limit named chunks"):
        limits(chunks=1)


def test_rows_of_a_chunk(limits):
    layer = lstm(8, 16)
    row_bytes = 4 * 16 * 4
    limits(chunk_bytes=10 * row_bytes, most_chunk_bytes=10**9)
    assert recurrent.chunk_rows(layer, 1, 100) == 10
    assert recurrent.chunk_rows(layer, 30, 100) == 30  # one step's rows always fit
    assert recurrent.chunk_rows(layer, 1, 3) == 3
    wide = lstm(400, 16)  # half of W_ih is more than the threshold
    assert recurrent.chunk_rows(wide, 1, 10**6) == 200
    limits(most_chunk_bytes=50 * row_bytes)
    assert recurrent.chunk_rows(wide, 1, 10**6) == 50


def test_rows_of_a_chunk_of_small_weights(limits):
    """Half of W_ih counts only where that is large."""
    small = lstm(400, 16, storage="int8")
    row_bytes, input_bytes = 4 * 16 * 4, 4 * 16 * 400
    limits(chunk_bytes=10 * row_bytes, large_small_bytes=input_bytes + 1)
    assert recurrent.chunk_rows(small, 1, 10**6) == 10
    limits(large_small_bytes=input_bytes)
    assert recurrent.chunk_rows(small, 1, 10**6) == 50


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_do_not_depend_on_blocks_or_threads(instruction_set, limits, dtype):
    rng = np.random.default_rng(0)
    product = Product(rng.standard_normal((37, 29)).astype(dtype))
    x = rng.standard_normal((50, 29)).astype(dtype)
    before = product(x, threads=1)
    for rows in (1, 7):
        limits(block_bytes=1, least_block_rows=rows, thread_work=1)
        for threads in (1, 3, 64):
            assert np.array_equal(product(x, threads=threads), before)
            assert np.array_equal(product(x[:2], threads=threads), before[:2])


def test_a_native_matmul_takes_the_same_thresholds(instruction_set, limits):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((50, 29), (29, 37)))
    (before,) = run_handler("matmul", [a, b], threads=1)
    for changes in (
        {"block_bytes": 1, "least_block_rows": 7, "thread_work": 1},
        {"thin_rows": 50, "thread_work": 1},
    ):
        limits(**changes)
        for threads in (1, 3):
            (result,) = run_handler("matmul", [a, b], threads=threads)
            assert np.allclose(result, before, atol=1e-5)
