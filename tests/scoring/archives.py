"""Models, tables and files that tests of scoring start from."""

import numpy as np
import pytest

import vledge
from tests.peers import peer

pa = peer("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FEATURES = 3


def weights(cell="GRU", input_size=FEATURES, hidden_size=16, directions=1, layers=1, seed=0):
    """A layer's weights, by torch's names."""
    rng = np.random.default_rng(seed)
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[cell]
    found = {}
    for layer in range(layers):
        size = input_size if layer == 0 else hidden_size * directions
        for suffix in ("", "_reverse")[:directions]:
            shapes = {
                "weight_ih": (gates * hidden_size, size),
                "weight_hh": (gates * hidden_size, hidden_size),
            }
            for name, shape in shapes.items():
                found[f"{name}_l{layer}{suffix}"] = rng.normal(0, 0.3, shape).astype(np.float32)
    return found


def layer(cell="GRU", **sizes):
    """The layer of these weights."""
    return getattr(vledge.nn, cell).from_weights(weights(cell, **sizes))


def sequences(count, features=FEATURES, longest=40, seed=1):
    """Noise of different lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return [rng.standard_normal((n, features)).astype(np.float32) for n in lengths]


def lists(arrays, features=FEATURES):
    """A column list<fixed_size_list<float>>; None is null."""
    kind = pa.list_(pa.list_(pa.float32(), features))
    return pa.array([None if a is None else a.tolist() for a in arrays], kind)


def table(arrays, **columns):
    """Ids and frames."""
    return pa.table({"id": pa.array(range(len(arrays))), "frames": lists(arrays), **columns})


def write_archive(folder, files=3, rows=50, **options):
    """Parquet files of different sequences; their names."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(files):
        path = folder / f"part-{number}.parquet"
        pq.write_table(table(sequences(rows, seed=number)), path, **options)
        found.append(path)
    return found


def numbers(column):
    """A column of fixed-size lists as an array [rows, *]."""
    return np.array(column.to_pylist(), np.float32)
