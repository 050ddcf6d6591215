"""MNN by its session, which is quicker than its module; it gets ONNX models of equal lengths."""

import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import onnx_model, ways
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    if importlib.util.find_spec("MNN") is None or importlib.util.find_spec("onnx") is None:
        return None
    return importlib.metadata.version("MNN")


def notes() -> Sequence[str]:
    return [
        "MNN runs with precision 'high' (no float16); it takes sequence_lens and ignores it, and "
        "so gets different lengths padded, and in four buckets"
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    if workload.streaming:
        net = Net(workload, weights, threads)
        initial, final = (
            [f"{s}_{end}_l0" for s in ("h", "c")[: 1 + (workload.cell == "LSTM")]] for end in "0n"
        )

        def step(x: Array, state: Sequence[Any]) -> tuple[Array, Sequence[Any]]:
            net.run({"x": x} | dict(zip(initial, state, strict=True)))
            return net.result("y"), [net.result(name) for name in final]

        first = [inputs.h_0] if inputs.c_0 is None else [inputs.h_0, inputs.c_0]
        return [ways.stepped("mnn", inputs, step, first)]

    def equal(part: Workload) -> ways.Run:
        net, names = Net(part, weights, threads), onnx_model.names(part)

        def run(x: Array) -> Outputs:
            net.run({"x": x})
            return onnx_model.outputs(part, {name: net.result(name) for name in names})

        return run

    return ways.batches("mnn", workload, inputs, equal)


class Net:
    """A session, and its inputs and outputs by name."""

    def __init__(self, workload: Workload, weights: dict[str, Array], threads: int):
        import _tools
        import MNN

        with tempfile.TemporaryDirectory() as folder:
            onnx, mnn = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
            onnx.write_bytes(onnx_model.build(workload, weights))
            # what the script `mnnconvert` calls; the script itself installs packages and reports
            paths = ["--modelFile", str(onnx), "--MNNModel", str(mnn)]
            # without the last, a sequence is a sub-graph, which a session does not run
            settings = ["--bizCode", "benchmark", "--useOriginRNNImpl"]
            _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *paths, *settings])
            self._net = MNN.Interpreter(str(mnn))
        options = {"backend": "CPU", "numThread": threads, "precision": "high"}
        self._session = self._net.createSession(options)
        self._tensor, self._float = MNN.Tensor, MNN.Halide_Type_Float
        self._layout = MNN.Tensor_DimensionType_Caffe
        self._inputs = self._net.getSessionInputAll(self._session)
        self._outputs = self._net.getSessionOutputAll(self._session)

    def run(self, feeds: dict[str, Array]) -> None:
        for name, array in feeds.items():
            # its own fromNumpy leaves the session's inputs as they were
            array = np.ascontiguousarray(array)
            host = self._tensor(array.shape, self._float, array, self._layout)
            self._inputs[name].copyFrom(host)
        self._net.runSession(self._session)

    def result(self, name: str) -> Array:
        array: Array = self._outputs[name].getNumpyData().copy()
        return array
