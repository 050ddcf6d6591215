"""What a loaded layer holds, and what loading takes at its peak."""

import mmap
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge import nn
from vledge.machine.mapped_file import MappedFile, in_memory, release

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


def test_packing_leaves_no_pages_of_the_file(tmp_path):
    path = tmp_path / "lstm.safetensors"
    weights = stack("LSTM", 512, 512, bias=True)
    vledge.save_weights(path, weights)
    loaded = vledge.load_weights(path)
    total = sum(float(array.sum()) for array in loaded.values())
    assert resident(path) >= sum(array.nbytes for array in weights.values())
    layer = nn.LSTM.from_weights(loaded)
    assert layer.nbytes >= sum(array.nbytes for array in weights.values())
    assert resident(path) == 0
    assert sum(float(array.sum()) for array in loaded.values()) == total  # they come back
    for name, array in weights.items():
        np.testing.assert_array_equal(layer.state_dict()[name], array)


@pytest.mark.parametrize("kind", KINDS)
def test_packing_touches_no_page_of_the_file(kind, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    vledge.save_weights(path, stack(kind, bias=True))
    loaded = vledge.load_weights(path)
    release(loaded["weight_hh_l0"])
    assert resident(path) == 0
    monkeypatch.setattr(MappedFile, "madvise", lambda self, advice: None)
    getattr(nn, kind).from_weights(loaded)
    assert resident(path) == 0


def mapped(path):
    with path.open("rb") as file:
        return MappedFile(file.fileno())


def test_what_lies_in_memory_is_not_copied(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(np.arange(60, dtype="f4").tobytes())
    array = np.frombuffer(mapped(path), np.float32).reshape(6, 10)
    part = in_memory(array[2:4])
    np.testing.assert_array_equal(part, np.arange(20, 40).reshape(2, 10))
    assert not np.shares_memory(part, array)
    assert in_memory(part) is part
    assert in_memory(array[1:1]).shape == (0, 10)
    column = array[:, 3]  # not in one piece: it stays
    assert in_memory(column) is column


def test_a_file_that_shrinks_is_an_error(tmp_path):
    path = tmp_path / "lstm.safetensors"
    vledge.save_weights(path, stack("LSTM"))
    loaded = vledge.load_weights(path)
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(vledge.FormatError, match="cut short"):
        nn.LSTM.from_weights(loaded)


def test_a_mapped_file_is_closed_with_its_last_array(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    file = mapped(path)
    descriptor = file.descriptor
    array = np.frombuffer(file, np.float32)[3:]
    del file
    os.fstat(descriptor)
    del array
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_only_a_mapped_file_has_pages_to_give(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(8 * mmap.PAGESIZE))
    with path.open("r+b") as file:
        private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    array = np.frombuffer(private, np.float32)
    array[:] = 7
    release(array)
    assert (array == 7).all()
    del array
    private.close()  # it would be counted, where a system places it before the next one
    array = np.frombuffer(mapped(path), np.float32)
    assert (array == 0).all()
    assert resident(path)
    release(array[3::2])
    assert resident(path) == 0
    assert (array == 0).all()
    release(np.zeros(3))


# A process that loads a stack of layers and runs it, and its peak.
PROBE = """
import sys
import numpy as np
import vledge
layer = vledge.nn.LSTM.from_weights(vledge.load_weights(sys.argv[1]))
layer(np.zeros((10, 1, layer.input_size), np.float32))
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def peak(path):
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc/self/status")
    done = subprocess.run([sys.executable, "-c", PROBE, path], capture_output=True, check=True)
    return int(done.stdout) * 1024


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_memory_grows_by_the_weights_and_no_more(format, tmp_path):
    """The peak of a process, code and all, rises by at most 1.1 bytes for a byte of weights."""
    measured = []
    for hidden_size in (16, 1024):
        weights = stack("LSTM", hidden_size, hidden_size, bias=True)
        path = tmp_path / f"{hidden_size}"
        if format == "torch":
            torch = peer("torch")
            torch.save({name: torch.from_numpy(a) for name, a in weights.items()}, path)
        else:
            vledge.save_weights(path, weights)
        peak(path)  # the first run compiles the modules
        measured.append((sum(array.nbytes for array in weights.values()), peak(path)))
    (small, least), (large, most) = measured
    assert most - least < 1.1 * (large - small)
