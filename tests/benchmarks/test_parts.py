"""The driver that calls the kernels by themselves. Nothing here depends on how long anything takes,
but for what takes many times as long as something else."""

import platform

import numpy as np
import pytest

from benchmarks.measuring import parts
from benchmarks.measuring.step_calls import step_calls
from benchmarks.measuring.workloads import Workload
from tests.peers import peer

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="the limits are loops for x86-64",
)

WORKS = [
    Workload("LSTM step", "other", "step", "LSTM", 5, 100, (1,)),
    Workload("GRU loop", "other", "loop", "GRU", 5, 100, (3,)),
    Workload("LSTM full", "other", "full", "LSTM", 7, 33, (40,) * 20, 2, True),
    Workload("GRU var", "other", "var", "GRU", 40, 128, (2, 50, 1, 9, 50)),
]


@pytest.mark.parametrize("workload", WORKS, ids=lambda w: w.name)
def test_the_driver_stays_in_its_memory(workload, instruction_set):
    for layer in range(workload.num_layers):
        walk = parts.Walk(workload, layer)
        before = walk.memory.copy()
        count = parts._driver().floats(walk)
        guarded = np.full(count + 4096, 7, np.float32)
        guarded = guarded[-guarded.ctypes.data % 64 // 4 :]
        guarded[:count] = walk.memory[:count]
        walk.memory = guarded
        for ways in ((True, False, False), (False, True, False), (True, True, True)):
            walk.run(*ways, times=3)
        assert (guarded[count:] == 7).all()
        assert (guarded[:count] != before[:count]).any()


def test_parts_add_up():
    workload = Workload("LSTM full", "other", "full", "LSTM", 64, 128, (20,) * 8)
    found = parts.measured(workload, threads=1, rounds=3)
    assert sum(found[part] for part in parts.PARTS) == pytest.approx(1)
    for part in ("projection", "recurrent products", "equations", "products at the limits"):
        assert found[part] > 0
    assert 0.2 < 1 - found["rest"] < 2
    assert found["equations"] < found["recurrent products"]


def test_a_single_step_reads_both_matrices_as_one():
    workload = Workload("GRU step", "other", "step", "GRU", 64, 128, (1,))
    found = parts.measured(workload, threads=1, rounds=1)
    assert found["recurrent products"] == pytest.approx(2 * found["projection"])


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_every_call_of_a_step_makes_the_same_step(cell):
    peer("onnx")
    work, calls = step_calls(cell, 8)
    layer, session = calls["layer(x, state)"](), calls["session.run"]()
    np.testing.assert_array_equal(layer[0].ravel(), np.asarray(session[0]).ravel())
    assert calls["stream.step(x)"]().shape == (1, work.hidden_size)
    assert parts.kernels(work).amount > 1
