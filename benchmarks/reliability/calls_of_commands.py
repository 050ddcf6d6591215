"""The commands on something large, for `calls`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.reliability.calls_of_files import DEPTH, onnx_file, saved, saved_model, weights
from benchmarks.reliability.calls_of_layers import Call, N, drawn, lengths_of, zeros
from benchmarks.reliability.interrupts import recurrent_model
from vledge.cli import main
from vledge.formats.vledge_model import write

COMMANDS: Final[dict[str, Call]] = {}
BY_CTRL_C: Final = 130


def _run(words: list[str]) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        status = main(words)
    if status not in (0, BY_CTRL_C):
        raise RuntimeError(f"vledge {words[0]} ended with {status}")


def command(name: str, arguments: Callable[[Path], list[str]]) -> None:
    COMMANDS[f"vledge {name}"] = Call(lambda place: [name.split()[0], *arguments(place)], _run)


def _array(place: Path, *shape: int) -> str:
    np.save(place / "x.npy", drawn(*shape))
    return str(place / "x.npy")


def _table(place: Path, *shape: int) -> str:
    np.savetxt(place / "x.csv", drawn(*shape), "%.4f", ",")
    return str(place / "x.csv")


def _lengths(place: Path) -> str:
    np.save(place / "n.npy", lengths_of(2_000_000))
    return str(place / "n.npy")


def _model(place: Path) -> str:
    write(place / "lstm", recurrent_model())
    return str(place / "lstm")


def _layer(place: Path) -> str:
    return str(saved(place, {"weight_ih_l0": drawn(256, 64), "weight_hh_l0": drawn(256, 64)}))


def _weights(place: Path) -> str:
    return str(saved(place, weights()))


def _to(place: Path) -> str:
    return str(place / "o.safetensors")


command("inspect weights", lambda place: [_weights(place)])
command("inspect a model", lambda place: [str(saved_model(place))])
command("convert weights", lambda place: [_weights(place), _to(place)])
command("convert a model", lambda place: [str(saved_model(place)), _to(place)])
command("quantize weights", lambda place: [_weights(place), _to(place)])
command("run numbers drawn", lambda place: [_model(place), "--random", f"x={N // 64}x1x64"])
command(
    "run an array",
    lambda place: [
        _model(place), "--input", "x=" + _array(place, N // 64, 1, 64), "--output",
        str(place / "y.npy"),
    ],
)  # fmt: skip
command("run a table", lambda place: [_layer(place), "--input", _table(place, DEPTH, 64)])
command(
    "many",
    lambda place: [
        _layer(place), _array(place, N // 64, 64), "--output", str(place / "many"),
    ],
)  # fmt: skip
command("profile", lambda place: [_model(place), "--random", "x=200000x1x64"])
command("plan", lambda place: [_lengths(place), "--model", _layer(place)])
command("calibrate", lambda place: [])
command("bench", lambda place: ["--engines", "vledge", "--hidden-size", "1024"])
command(
    "stream a table",
    lambda place: [
        _model(place), "--input", _table(place, DEPTH, 64), "--output", str(place / "out.csv"),
    ],
)  # fmt: skip
if find_spec("pyarrow") is not None:

    def _archive(place: Path) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        steps = N // 256
        values = pa.FixedSizeListArray.from_arrays(pa.array(zeros(steps * 64)), 64)
        bounds = pa.array(np.arange(steps // 20 + 1, dtype=np.int32) * 20)
        pq.write_table(
            pa.table({"frames": pa.ListArray.from_arrays(bounds, values)}), place / "in.parquet"
        )
        return [
            "--model", _layer(place), "--input", "frames", "--output", str(place / "scores"),
            str(place / "in.parquet"),
        ]  # fmt: skip

    command("score", _archive)
if find_spec("onnxruntime") is not None:
    for _name in ("validate", "record"):
        command(
            _name,
            lambda place, name=_name: [  # type: ignore[misc]
                str(onnx_file(place)), "--random", f"x=64x{DEPTH // 4}",
                *(["--against", "onnxruntime"] if name == "validate" else ["-o", str(place / "r")]),
            ],
        )  # fmt: skip
