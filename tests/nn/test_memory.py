"""What a loaded layer holds, and what loading takes at its peak."""

import mmap
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.mapped_pages import pages_of

KINDS = {"LSTM": 4, "GRU": 3, "RNN": 1}


def stack(kind, hidden_size=256, input_size=256, bias=False):
    rng = np.random.default_rng(0)
    rows = KINDS[kind] * hidden_size
    shapes = {"weight_ih_l0": (rows, input_size), "weight_hh_l0": (rows, hidden_size)}
    if bias:
        shapes |= {"bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_packing_holds_the_weights_once(kind):
    """Beside the arrays given, no copy but the packed one: NumPy's allocations are traced."""
    weights = stack(kind)
    layer = getattr(nn, kind).from_weights(weights)  # imports what it needs
    tracemalloc.start()
    layer = getattr(nn, kind).from_weights(weights)
    size = layer.nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size <= peak < 1.1 * size


def resident(path):
    """Bytes of a mapped file in this process's memory."""
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("needs /proc/self/smaps")
    found = re.search(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", maps.read_text())
    return int(found[1]) * 1024


def test_a_files_pages_go_when_they_are_packed(tmp_path):
    path = tmp_path / "lstm.safetensors"
    weights = stack("LSTM", 512, 512, bias=True)
    vledge.save_weights(path, weights)
    loaded = vledge.load_weights(path)
    total = sum(float(array.sum()) for array in loaded.values())
    size = resident(path)
    assert size >= sum(array.nbytes for array in weights.values())
    layer = nn.LSTM.from_weights(loaded)
    assert layer.nbytes >= sum(array.nbytes for array in weights.values())
    assert resident(path) == 0  # the header and the biases went too
    assert sum(float(array.sum()) for array in loaded.values()) == total  # they come back
    for name, array in weights.items():
        np.testing.assert_array_equal(layer.state_dict()[name], array)


def test_only_a_read_only_mapping_has_pages_to_give(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(8 * mmap.PAGESIZE))
    with path.open("r+b") as file:
        private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    array = np.frombuffer(private, np.float32)
    array[:] = 7
    pages_of(array)()
    assert (array == 7).all()
    del array
    private.close()  # it would be counted, where a system places it before the next one
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(shared, np.float32)
    assert (array == 0).all()
    assert resident(path)
    pages_of(array[3::2])()
    assert resident(path) == 0
    assert (array == 0).all()
    pages_of(np.zeros(3))()
