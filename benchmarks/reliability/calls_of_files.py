"""Sessions, and files of hundreds of MiB read and written, for `calls`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

import vledge
from benchmarks.reliability.calls_of_layers import Call, N, drawn, zeros
from benchmarks.reliability.interrupts import model
from vledge import nn
from vledge.formats.vledge_model import write
from vledge.model.definition import Model, Node

FILES: Final[dict[str, Call]] = {}
DEPTH: Final = N // 4096


def weights(count: int = N) -> dict[str, np.ndarray]:
    return {"weight_ih_l0": drawn(4096, count // 4096), "weight_hh_l0": drawn(4096, 1024)}


def saved(place: Path, arrays: dict[str, np.ndarray]) -> Path:
    vledge.save_weights(place / "w.safetensors", arrays)
    return place / "w.safetensors"


def product() -> Model:
    nodes = [Node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, ("N", DEPTH), {"w": drawn(DEPTH, 4096)})


def saved_model(place: Path) -> Path:
    write(place / "model", product())
    return place / "model"


def _adding(given: Callable[[], Any]) -> Callable[[Path], Any]:
    return lambda _: (
        vledge.InferenceSession(model([Node("Add", ["x", "x"], ["y"])], ("N",))),
        {"x": given()},
    )


for _name, _given in {
    "big-endian numbers given": lambda: zeros(N, dtype=">f4"),
    "every second number given": lambda: zeros(2 * N)[::2],
    "a list of numbers given": lambda: [0.0] * (N // 16),
}.items():
    FILES[f"a session, {_name}"] = Call(_adding(_given), lambda given: given[0].run(None, given[1]))
FILES["a session is made of 256 MiB"] = Call(lambda _: product(), vledge.InferenceSession)
FILES["a session is made of a convolution"] = Call(
    lambda _: model(
        [Node("Conv", ["x", "w"], ["y"])],
        (1, N >> 12, "H", "W"),
        {"w": drawn(1 << 10, N >> 12, 2, 2)},
    ),
    vledge.InferenceSession,
)
FILES["a session folds constants"] = Call(
    lambda _: model(
        [
            Node("Add", ["w", "w"], ["v"]),
            Node("Tan", ["v"], ["u"]),
            Node("Mul", ["x", "u"], ["y"]),
        ],
        ("N",),
        {"w": drawn(N)},
    ),
    vledge.InferenceSession,
)


def _to_save(arrays: Callable[[], dict[str, np.ndarray]]) -> Call:
    return Call(lambda place: (place / "w", arrays()), lambda given: vledge.save_weights(*given))


FILES["save_weights"] = _to_save(weights)
FILES["save_weights, big-endian"] = _to_save(lambda: {"w": drawn(N, dtype=">f4")})
FILES["save_weights, turned"] = _to_save(lambda: {"w": drawn(DEPTH, 4096).T})
FILES["load_weights"] = Call(
    lambda place: saved(place, weights()),
    lambda path: nn.LSTM.from_weights(vledge.load_weights(path)),
)
for _deflated in (False, True):

    def _npz(place: Path, deflated: bool = _deflated) -> Path:
        (np.savez_compressed if deflated else np.savez)(place / "w.npz", **weights(N // 4))  # type: ignore[arg-type]
        return place / "w.npz"

    FILES[f"load_weights, npz{' deflated' * _deflated}"] = Call(_npz, vledge.load_weights)
FILES["a model is loaded"] = Call(saved_model, vledge.InferenceSession)


def onnx_file(place: Path, raw: bool = True) -> Path:
    import onnx

    w = drawn(DEPTH // 4, 4096)
    tensor = (
        onnx.numpy_helper.from_array(w, "w")
        if raw
        else onnx.helper.make_tensor("w", 1, w.shape, w.reshape(-1))
    )
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [info("x", 1, ["N", DEPTH // 4])],
        [info("y", 1, ["N", 4096])],
        [tensor],
    )
    onnx.save(onnx.helper.make_model(graph, ir_version=8), place / "m.onnx")
    return place / "m.onnx"


if find_spec("onnx") is not None:
    FILES["an ONNX file is loaded"] = Call(onnx_file, vledge.InferenceSession)
    FILES["an ONNX file of numbers one by one is loaded"] = Call(
        lambda place: onnx_file(place, False), vledge.InferenceSession
    )
    FILES["quantize an ONNX model"] = Call(lambda place: str(onnx_file(place)), vledge.quantize)
if find_spec("torch") is not None:

    def _checkpoint(place: Path, kind: str, zipped: bool) -> Path:
        import torch

        tensors = {k: torch.from_numpy(a).to(getattr(torch, kind)) for k, a in weights().items()}
        torch.save(tensors, place / "w.pt", _use_new_zipfile_serialization=zipped)
        return place / "w.pt"

    for _type in ("float32", "bfloat16", "float16", "float64"):
        for _zipped in (True, False):
            FILES[f"torch's {_type} is loaded{'' if _zipped else ', legacy'}"] = Call(
                lambda place, kind=_type, zipped=_zipped: _checkpoint(place, kind, zipped),  # type: ignore[misc]
                lambda path: nn.LSTM.from_weights(vledge.load_weights(path)),
            )
