"""What weights are stored as, and what they are computed in."""

import pickle

import numpy as np
import pytest

from vledge._ext.weights import GATES, STORAGES, Direction


def weights(cell, dtype=np.float32):
    rows = GATES[cell] * 5
    recurrent = (5,) if cell.startswith("indrnn") else (rows, 5)
    return np.ones((rows, 3), dtype), np.ones(recurrent, dtype)


def activations(cell):
    return (("tanh", 0.0, 0.0),) if cell == "rnn" else None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", GATES)
def test_weights_are_stored_as_they_are_given(instruction_set, cell, dtype):
    layer = Direction(cell, *weights(cell, dtype), activations=activations(cell))
    assert (layer.storage, layer.dtype) == (np.dtype(dtype).name, dtype)
    named = Direction(
        cell, *weights(cell, dtype), activations=activations(cell), storage=layer.storage
    )
    assert named.nbytes == layer.nbytes
    copy = pickle.loads(pickle.dumps(named))
    assert (copy.storage, copy.dtype) == (layer.storage, layer.dtype)


@pytest.mark.parametrize("cell", GATES)
def test_without_a_kernel_for_a_storage_there_is_no_layer(instruction_set, cell):
    with pytest.raises(
        ValueError, match=f"no kernel of .* runs cell '{cell}' in float64 on .*float32"
    ):
        Direction(
            cell, *weights(cell, np.float64), activations=activations(cell), storage="float32"
        )


def test_an_unknown_storage_is_refused():
    with pytest.raises(ValueError, match=f"storage 'int3' is not one of {', '.join(STORAGES)}"):
        Direction("lstm", *weights("lstm"), storage="int3")
