"""The table of cells: as the kernels have them, as each maker orders them."""

import itertools

import numpy as np
import pytest

from vledge import nn
from vledge._ext import weights as kernels
from vledge.recurrent.cells import CELLS, KINDS, OPERATORS, gate_order, in_order, kind_of


def test_the_kernels_have_the_same_cells():
    assert kernels.CELLS.keys() == CELLS.keys()


@pytest.mark.parametrize("name", CELLS)
def test_a_direction_takes_what_the_table_says(name):
    cell = CELLS[name]
    rng = np.random.default_rng(0)

    def made(**options):
        shapes = cell.kind.shapes(5, 7, **options)
        return {part: rng.normal(size=shape).astype(np.float32) for part, shape in shapes.items()}

    own = tuple(("relu", 0.0, 0.0) for _ in range(cell.replaced)) or None
    for bias in (True, False):
        direction = kernels.Direction(name, **made(bias=bias), activations=own)
        assert (direction.input_size, direction.hidden_size) == (5, 7)
    if cell.kind.projects:
        assert kernels.Direction(name, **made(proj_size=3), activations=own).proj_size == 3
    assert kind_of(name) is cell.kind
    assert kind_of(cell.kind.key) is cell.kind


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_kinds_shapes_are_torchs(kind):
    torch = pytest.importorskip("torch")
    for options in ({}, {"bias": False}, {"proj_size": 3} if KINDS[kind].projects else {}):
        layer = getattr(torch.nn, kind)(5, 7, **options)
        shapes = {f"{n}_l0": s for n, s in KINDS[kind].shapes(5, 7, **options).items()}
        assert shapes == {name: tuple(array.shape) for name, array in layer.state_dict().items()}
        assert list(shapes) == list(layer.state_dict())


def test_orders_are_those_of_the_specifications():
    assert gate_order("LSTM", "PyTorch", "ONNX") == (0, 3, 1, 2)  # iofc of ifgo
    assert gate_order("GRU", "PyTorch", "ONNX") == (1, 0, 2)  # zrh of rzn
    assert gate_order("LSTM", "PyTorch", "ncnn") == (0, 1, 3, 2)
    assert gate_order("LSTM", "PyTorch", "OpenVINO") == (1, 0, 2, 3)  # fico
    assert gate_order("LSTM", "Keras", "PyTorch") == (0, 1, 2, 3)
    assert gate_order("GRU", "Keras", "PyTorch") == (1, 0, 2)
    for kind in OPERATORS:
        assert all(sorted(one) == sorted(KINDS[kind].gates) for one in KINDS[kind].orders.values())


@pytest.mark.parametrize("kind", OPERATORS)
def test_blocks_come_back_from_every_order(kind):
    gates = len(KINDS[kind].gates)
    array = np.arange(gates * 2 * 3.0).reshape(gates * 2, 3)
    makers = ["PyTorch", *KINDS[kind].orders]
    for source, target in itertools.product(makers, makers):
        moved = in_order(kind, array, source, target)
        order = gate_order(kind, source, target)
        expected = np.concatenate([np.split(array, gates)[place] for place in order])
        np.testing.assert_array_equal(moved, expected)
        np.testing.assert_array_equal(in_order(kind, moved, target, source), array)


def test_layers_say_which_cell_they_are():
    assert nn.GRU(3, 4, reset_after=False).shape.kind is KINDS["GRU"]
    assert nn.IndRNN(3, 4).shape.kind is KINDS["IndRNN"]
    assert nn.LSTM(3, 4).shape.kind.states == "hc"
