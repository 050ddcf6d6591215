"""Archives and models for the benchmark: Parquet files of noise, a layer as weights and ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vledge

__all__ = [
    "CASES",
    "Case",
    "layer_weights",
    "noise_table",
    "save_model",
    "sequences_of",
    "write_archive",
    "write_as",
]

GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True)
class Case:
    """A layer, and the lengths of the sequences that it is run on."""

    name: str
    cell: str
    input_size: int
    hidden_size: int
    shortest: int
    longest: int
    rows: int  #: of the whole archive


#: What people score: many short sequences, sensors, speech, long recordings.
CASES = (
    Case("many short ones", "GRU", 4, 32, 5, 30, 200_000),
    Case("sensors", "LSTM", 12, 64, 20, 200, 12_000),
    Case("speech frames", "LSTM", 40, 128, 50, 400, 1_600),
    Case("long recordings", "GRU", 12, 128, 1_000, 4_000, 256),
)


def layer_weights(case: Case) -> dict[str, np.ndarray]:
    """By torch's names, of a size that neither explodes nor dies."""
    rng = np.random.default_rng(0)
    rows, scale = GATES[case.cell] * case.hidden_size, case.hidden_size**-0.5
    shapes = {
        "weight_ih_l0": (rows, case.input_size),
        "weight_hh_l0": (rows, case.hidden_size),
        "bias_ih_l0": (rows,),
        "bias_hh_l0": (rows,),
    }
    return {name: rng.uniform(-scale, scale, s).astype(np.float32) for name, s in shapes.items()}


def noise_table(case: Case, rows: int, seed: int) -> pa.Table:
    """``id`` and ``frames``, a list<fixed_size_list<float>> of noise."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(case.shortest, case.longest + 1, rows)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    values = rng.standard_normal(int(offsets[-1]) * case.input_size, np.float32)
    steps = pa.FixedSizeListArray.from_arrays(pa.array(values), case.input_size)
    frames = pa.ListArray.from_arrays(pa.array(offsets), steps)
    return pa.table({"id": pa.array(np.arange(rows) + seed * rows), "frames": frames})


def write_as(path: Path, table: pa.Table) -> None:
    """The table as Parquet, Arrow's file or, without its ids, an .npz with an array a sequence."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, use_dictionary=["id"], row_group_size=50_000)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        np.savez(path, **{f"s{i}": sequence for i, sequence in enumerate(sequences_of(table))})


def sequences_of(table: pa.Table) -> list[np.ndarray]:
    """The column ``frames`` as arrays [L, features]."""
    frames = table["frames"].combine_chunks()
    features = frames.type.value_type.list_size
    flat = frames.values.values.to_numpy().reshape(-1, features).copy()  # torch wants to write
    return [flat[a:b] for a, b in pairwise(frames.offsets.to_numpy())]


def write_archive(folder: Path, case: Case, files: int) -> list[Path]:
    """The archive in so many files; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(files):
        paths.append(folder / f"part-{number}.parquet")
        write_as(paths[-1], noise_table(case, case.rows // files, number))
    return paths


def save_model(folder: Path, case: Case) -> tuple[Path, Path]:
    """The layer as safetensors and, for onnxruntime, as an ONNX file with lengths."""
    weights = layer_weights(case)
    plain, graph = folder / "model.safetensors", folder / "model.onnx"
    vledge.save_weights(plain, weights)
    _save_onnx(graph, case, weights)
    return plain, graph


def _save_onnx(path: Path, case: Case, weights: dict[str, np.ndarray]) -> None:
    """``x [T, N, I]`` and ``lengths`` to ``last [N, H]``."""
    import onnx

    helper: Any = onnx.helper
    order = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}[case.cell]  # ONNX: i o f c, and z r h

    def gates(name: str) -> np.ndarray:
        blocks = np.split(weights[name], GATES[case.cell])
        return np.concatenate([blocks[i] for i in order])

    constants = {
        "w": gates("weight_ih_l0")[np.newaxis],
        "r": gates("weight_hh_l0")[np.newaxis],
        "b": np.concatenate([gates("bias_ih_l0"), gates("bias_hh_l0")])[np.newaxis],
        "first": np.array([0]),
    }
    reset = {"linear_before_reset": 1} if case.cell == "GRU" else {}
    nodes = [
        helper.make_node(
            case.cell,
            ["x", "w", "r", "b", "lengths"],
            ["", "h"],
            hidden_size=case.hidden_size,
            **reset,
        ),
        helper.make_node("Squeeze", ["h", "first"], ["last"]),
    ]
    kinds = onnx.TensorProto
    graph = helper.make_graph(
        nodes,
        "layer",
        [
            helper.make_tensor_value_info("x", kinds.FLOAT, ["time", "batch", case.input_size]),
            helper.make_tensor_value_info("lengths", kinds.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info("last", kinds.FLOAT, ["batch", case.hidden_size])],
        [onnx.numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
