"""Layers, modules, sequences and streams on something large, for `calls`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

import vledge
from benchmarks.reliability.interrupts import layer, recurrent_model
from vledge import nn, packing

N: Final = 1 << int(os.environ.get("VLEDGE_SWEEP_BITS", "26"))  # numbers: 256 MiB of float32


class Call(NamedTuple):
    prepare: Callable[[Path], Any]  # what is given to the call, made in a folder; not measured
    call: Callable[[Any], object]


LAYERS: Final[dict[str, Call]] = {}


def zeros(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.zeros(shape, dtype)


def drawn(*shape: int, dtype: str = "f4") -> np.ndarray:
    piece = np.random.default_rng(0).uniform(-0.1, 0.1, 1 << 18).astype(dtype)
    return np.resize(piece, shape)


def lengths_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 20, count)


def filled(module: Any) -> Any:
    """The module with weights drawn."""
    for _, part in module.named_modules():
        weights = {name: drawn(*one.shape) for name, one in part._declared.items()}
        part.load_state_dict(weights, strict=False)
    return module


def add(name: str, prepare: Callable[[], Any], call: Callable[[Any], object]) -> None:
    LAYERS[name] = Call(lambda _: prepare(), call)


def on(name: str, make: Callable[[], Any], *shape: int, dtype: str = "f4") -> None:
    """What is made, called with zeros."""
    add(name, make, lambda one: one(zeros(*shape, dtype=dtype)))


for _kind in ("LSTM", "GRU"):
    _small, _tiny = partial(layer, _kind, 64, 64), partial(layer, _kind, 4, 8)
    on(f"{_kind}, one long sequence", _small, N // 64, 1, 64)
    on(f"{_kind}, one step of many rows", _small, 1, N // 64, 64)
    on(f"{_kind}, many rows", _small, 64, N // 4096, 64)
    on(f"{_kind}, 8 units, one long sequence", _tiny, N // 4, 1, 4)
LSTM: Final = partial(layer, "LSTM", 64, 64)
on("LSTM, 4,000 units, a few steps", partial(layer, "LSTM", 64, 4000), 20, 1, 64)
on("LSTM, 4,000 units, 64 rows", partial(layer, "LSTM", 64, 4000), 20, 64, 64)
on("LSTM, 500,000 features", partial(layer, "LSTM", 500_000, 16), 100, 1, 500_000)
on("LSTM, big-endian numbers given", LSTM, N // 64, 1, 64, dtype=">f4")
add("LSTM, every second number given", LSTM, lambda one: one(zeros(N // 64, 1, 128)[:, :, ::2]))
add(
    "LSTM, batch first",
    lambda: nn.LSTM.from_weights(
        {"weight_ih_l0": drawn(256, 64), "weight_hh_l0": drawn(256, 64)}, batch_first=True
    ),
    lambda one: one(zeros(N // 4096, 64, 64)),
)
on("LSTM, two directions", partial(layer, "LSTM", 64, 64, 2, True), N // 64, 1, 64)
on("IndRNN", lambda: filled(nn.IndRNN(64, 64)), N // 64, 1, 64)
for _strategy in ("padded", "packed", "bucketed", "lanes", "masked", "auto"):
    add(
        f"LSTM with lengths, {_strategy}",
        lambda: (layer("LSTM", 16, 16), zeros(20, N // 320, 16), lengths_of(N // 320)),
        lambda given, strategy=_strategy: given[0](  # type: ignore[misc]
            given[1], lengths=given[2], strategy=strategy
        ),
    )
for _storage in ("int8", "int8-fast", "int16"):
    on(
        f"LSTM of {_storage}, one long sequence",
        lambda storage=_storage: vledge.quantize(  # type: ignore[misc]
            layer("LSTM", 64, 256), storage
        ),
        N // 64,
        1,
        64,
    )
    add(
        f"quantize a layer to {_storage}",
        partial(layer, "LSTM", 2000, 4000),
        lambda one, storage=_storage: vledge.quantize(one, storage),  # type: ignore[misc]
    )
add(
    "a layer is made of weights",
    lambda: {"weight_ih_l0": drawn(16_000, 2000), "weight_hh_l0": drawn(16_000, 4000)},
    nn.LSTM.from_weights,
)

# ---- modules

MODULES: Final[dict[str, tuple[Callable[[], Any], tuple[int, ...]]]] = {
    "Linear": (lambda: nn.Linear(256, 256), (N // 256, 256)),
    "Linear of 8,000": (lambda: nn.Linear(8000, 8000), (4, 8000)),
    "Conv1d": (lambda: nn.Conv1d(64, 64, 5), (1, 64, N // 64)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(64).eval(), (N // 64, 64)),
    "LayerNorm": (lambda: nn.LayerNorm(64), (N // 64, 64)),
    "MaxPool1d": (lambda: nn.MaxPool1d(3), (1, 64, N // 64)),
    "MaxPool1d of one row": (lambda: nn.MaxPool1d(3, return_indices=True), (1, N)),
    "AvgPool1d": (lambda: nn.AvgPool1d(3), (1, 64, N // 64)),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(1), (1, 64, N // 64)),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(7), (1, 64, N // 64)),
    "Flatten": (nn.Flatten, (64, N // 64)),
    "Softmax": (lambda: nn.Softmax(-1), (N // 64, 64)),
    "Softmax of one row": (lambda: nn.Softmax(0), (N,)),
    "LogSoftmax": (lambda: nn.LogSoftmax(0), (64, N // 64)),
    "PReLU": (nn.PReLU, (N,)),
    "LSTMCell": (lambda: nn.LSTMCell(64, 64), (N // 64, 64)),
    "GRUCell": (lambda: nn.GRUCell(64, 64), (N // 64, 64)),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)),
        (N // 64, 64),
    ),
}
for _name in ("ELU", "GELU", "Hardsigmoid", "Hardtanh", "LeakyReLU", "ReLU", "ReLU6", "SiLU",
              "Sigmoid", "Softplus", "Tanh"):  # fmt: skip
    MODULES[_name] = (getattr(nn, _name), (N,))
for _name, (_module, _shape) in MODULES.items():
    add(
        f"nn.{_name}",
        lambda module=_module, shape=_shape: (filled(module()), drawn(*shape)),  # type: ignore[misc]
        lambda given: given[0](given[1]),
    )
on("nn.Embedding", lambda: filled(nn.Embedding(1000, 64)), N // 64, dtype="i8")
on("nn.EmbeddingBag", lambda: filled(nn.EmbeddingBag(1000, 64)), N // 640, 10, dtype="i8")

# ---- sequences


def _padded() -> tuple[np.ndarray, np.ndarray]:
    return zeros(20, N // 320, 16), lengths_of(N // 320)


def _packed() -> Any:
    return packing.pack_padded_sequence(*_padded(), enforce_sorted=False)


def _sequences() -> list[np.ndarray]:
    return [zeros(n, 16) for n in lengths_of(N // 320)]


add(
    "pack_padded_sequence",
    _padded,
    lambda given: packing.pack_padded_sequence(*given, enforce_sorted=False),
)
add("pack_sequence", _sequences, lambda given: packing.pack_sequence(given, enforce_sorted=False))
add("pad_sequence", _sequences, packing.pad_sequence)
add("pad_packed_sequence", _packed, packing.pad_packed_sequence)
add("unpack_sequence", _packed, packing.unpack_sequence)
add("unpad_sequence", _padded, lambda given: packing.unpad_sequence(*given))
add("last_output", _padded, lambda given: vledge.last_output(*given))
add("max_over_steps", _padded, lambda given: vledge.max_over_steps(*given))
add("mean_over_steps", _padded, lambda given: vledge.mean_over_steps(*given))
add("windows", lambda: zeros(N // 64, 16), lambda x: vledge.windows(x, 5, 1))
add("plan", LSTM, lambda one: vledge.plan(lengths_of(2_000_000), one))
add(
    "run_many, short sequences",
    lambda: (layer("LSTM", 16, 16), [zeros(n, 16) for n in lengths_of(200_000)]),
    lambda given: list(vledge.run_many(*given)),
)
add(
    "run_many, one long sequence",
    LSTM,
    lambda one: list(vledge.run_many(one, [zeros(N // 64, 64)])),
)
add(
    "keep_states",
    lambda: (zeros(1, 200_000, 16),) * 2,
    lambda states: vledge.keep_states({}, range(200_000), states),
)

# ---- streams

MANY: Final = N // 256


def _many() -> Any:
    return LSTM().stream(batch=MANY)


add("a stream's push", lambda: LSTM().stream(), lambda s: s.push(zeros(N // 64, 1, 64)))
add(
    "a stream's push, small integers",
    lambda: vledge.quantize(LSTM()).stream(),
    lambda s: s.push(zeros(N // 64, 1, 64)),
)
add("a stream's step of many rows", _many, lambda s: s.step(zeros(MANY, 64)))
add("a stream is made for many rows", LSTM, lambda one: one.stream(batch=N // 64))
add("a stream's state", _many, lambda s: setattr(s, "state", s.state))
LAYERS["a stream's state is saved"] = Call(
    lambda place: (_many(), place / "state"), lambda given: given[0].save(given[1])
)
add("a stream is reset", _many, lambda s: s.reset())
add(
    "a convolution's push",
    lambda: filled(nn.Sequential(nn.Conv1d(16, 16, 3))).stream(),
    lambda s: s.push(zeros(1, 16, N // 16)),
)
add(
    "a session's push",
    lambda: vledge.InferenceSession(recurrent_model()).stream(batch=1, time_axis=0),
    lambda s: s.push(zeros(N // 64, 1, 64)),
)
add(
    "a lookahead stream's push",
    lambda: layer("LSTM", 64, 64, 1, True).stream(lookahead=20),
    lambda s: s.push(zeros(N // 64, 1, 64)),
)
