"""The loops that multiply for nothing, and what the least of a step is made of."""

import platform

import numpy as np
import pytest

from benchmarks.measuring.small_limits import least, multiply_limit
from vledge._ext import isa
from vledge.small_matrix import FORMS

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="the limits are loops for x86-64",
)


@pytest.mark.parametrize("storage", FORMS)
def test_every_way_to_multiply_has_a_loop(integers, storage):
    limit = multiply_limit(storage)
    limit.run()
    bytes_at_once = storage == "int8-fast" and isa.selected_integers() != "pairs"
    weights = 4 * isa.lanes(np.float32) // (1 if bytes_at_once else 2)  # of an instruction
    assert limit.amount == 12 * 20_000 * weights


def test_the_parts_of_a_step():
    """Two rows, 3 weights for the input and 5 for the state, 7 bytes."""
    seconds = {"multiply": 10.0, "byte": 1.0, "equation": 0.5}
    sequence = least(2, (3, 5), 7, **seconds, one_step=False)
    assert sequence == (160, 7, 1, 60 + 100 + 1)
    slow = {**seconds, "byte": 20.0}
    assert least(2, (3, 5), 7, **slow, one_step=False).all == 60 + 140 + 1
    assert least(2, (3, 5), 7, **slow, one_step=True).all == 160 + 1
    assert least(2, (3, 5), 7, 1.0, 20.0, 0.5, one_step=True).all == 140 + 1
