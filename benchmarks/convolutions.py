"""Convolutions of published models, layer by layer: GFLOP/s beside onnxruntime's, and errors.

    python -m benchmarks.convolutions [--filter TEXT]    (VLEDGE_ISA=avx2: another instruction set)

One thread, its own CPU time. Calls take turns, the quickest of many counts. Ours reads channels
last, as from a layer before it; `first` is from an input with channels first. Errors are root mean
squares against float64, relative to the results'; where Winograd's F(2,3) may run, its figures
stand in a row of their own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vledge._ext import isa
from vledge._ext.convolution import Convolution


class Layer(NamedTuple):
    name: str
    shape: tuple[int, ...]  # of the input
    outputs: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()  # before and after alike
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    def sizes(self) -> list[int]:
        """Of the output."""
        axes = range(len(self.kernel))
        stride = self.strides or (1,) * len(self.kernel)
        pads = self.pads or (0,) * len(self.kernel)
        more = self.output_padding or (0,) * len(self.kernel)
        if self.transposed:
            return [
                (self.shape[2 + a] - 1) * stride[a] + self.kernel[a] - 2 * pads[a] + more[a]
                for a in axes
            ]
        return [(self.shape[2 + a] + 2 * pads[a] - self.kernel[a]) // stride[a] + 1 for a in axes]


LAYERS = (
    Layer("AECMOS 1, 3 channels", (1, 3, 360, 161), 32, (3, 3), pads=(1, 1)),
    Layer("AECMOS 2", (1, 32, 180, 80), 64, (3, 3), pads=(1, 1)),
    Layer("AECMOS 3", (1, 64, 90, 40), 64, (3, 3), pads=(1, 1)),
    Layer("AECMOS 4", (1, 64, 45, 20), 128, (3, 3), pads=(1, 1)),
    Layer("PLCMOS, 1 channel", (1, 1, 240, 257), 32, (3, 3), pads=(1, 1)),
    Layer("PLCMOS", (1, 32, 120, 128), 32, (3, 3), pads=(1, 1)),
    Layer("3x3 of 16", (1, 16, 120, 64), 16, (3, 3), pads=(1, 1)),
    Layer("3x3 of 256, small", (1, 256, 7, 7), 256, (3, 3), pads=(1, 1)),
    Layer("3x3 / 2", (1, 64, 64, 64), 128, (3, 3), (2, 2), (1, 1)),
    Layer("7x7 / 2, 3 channels", (1, 3, 224, 224), 64, (7, 7), (2, 2), (3, 3)),
    Layer("1x1", (1, 64, 50, 100), 64, (1, 1)),
    Layer("1x1 of 256", (1, 256, 14, 14), 256, (1, 1)),
    Layer("silero: STFT of a frame", (1, 1, 640), 258, (256,), (128,)),
    Layer("silero: encoder 0", (1, 129, 4), 128, (3,), pads=(1,)),
    Layer("silero: encoder 1", (1, 128, 4), 64, (3,), (2,), (1,)),
    Layer("silero: encoder 2", (1, 64, 2), 64, (3,), (2,), (1,)),
    Layer("silero: STFT of a minute", (1, 1, 960000), 258, (256,), (128,)),
    Layer("Conv1d of 80, speech", (1, 80, 1000), 256, (5,), pads=(2,)),
    Layer("DFN3 erb_conv0", (1, 1, 102, 32), 64, (3, 3), pads=(0, 1)),
    Layer("DFN3 df_conv0, 2 groups", (1, 2, 102, 96), 64, (3, 3), pads=(0, 1), groups=2),
    Layer("DFN3 df_convp, 2 groups", (1, 64, 104, 96), 10, (5, 1), groups=2),
    Layer("DFN3 depthwise 1x3 / 2", (1, 64, 100, 32), 64, (1, 3), (1, 2), (0, 1), 64),
    Layer("DFN3 depthwise 1x3", (1, 64, 100, 8), 64, (1, 3), pads=(0, 1), groups=64),
    Layer("DFN3 pointwise", (1, 64, 100, 16), 64, (1, 1)),
    Layer("DFN3 transposed 1x3 / 2", (1, 64, 100, 8), 64, (1, 3), (1, 2), (0, 1), 64, True, (0, 1)),
    Layer("DFN3 conv0_out, 1 output", (1, 64, 100, 32), 1, (1, 3), pads=(0, 1)),
    Layer("GTCRN depthwise 3x3", (1, 16, 3, 33), 16, (3, 3), pads=(0, 1), groups=16),
    Layer("GTCRN conv 1x5 / 2", (1, 9, 1, 129), 16, (1, 5), (1, 2), (0, 2)),
    Layer("GTCRN grouped 1x5 / 2", (1, 16, 1, 65), 16, (1, 5), (1, 2), (0, 2), 2),
    Layer("GTCRN transposed 1x5 / 2", (1, 16, 1, 33), 16, (1, 5), (1, 2), (0, 2), 2, True),
    Layer("transposed 4x4 / 2", (1, 64, 32, 32), 32, (4, 4), (2, 2), (1, 1), 1, True),
    Layer("depthwise 3x3, multiplied", (1, 32, 56, 56), 64, (3, 3), pads=(1, 1), groups=32),
    Layer("depthwise 5 of 512", (1, 512, 400), 512, (5,), pads=(2,), groups=512),
)


class Timed(NamedTuple):
    seconds: float
    result: np.ndarray


def together(calls: dict[str, Callable[[], np.ndarray]]) -> dict[str, Timed]:
    """The quickest of each, called in turns for a tenth of a second each."""
    best = {name: float("inf") for name in calls}
    results = {name: call() for name, call in calls.items()}
    until = time.perf_counter() + 0.15 * len(calls)
    while time.perf_counter() < until:
        for name, call in calls.items():
            repeats = max(int(2e-4 / min(best[name], 1)), 1)
            begin = time.thread_time()
            for _ in range(repeats):
                call()
            best[name] = min(best[name], (time.thread_time() - begin) / repeats)
    return {name: Timed(best[name], results[name]) for name in calls}


def onnxruntime_call(
    layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray
) -> Callable[[], np.ndarray]:
    """A session of one node on one thread, its buffers bound."""
    import onnx
    import onnxruntime

    attributes = {"strides": layer.strides, "group": layer.groups}
    attributes["pads"] = layer.pads * 2
    if layer.output_padding:
        attributes["output_padding"] = layer.output_padding
    kind = "ConvTranspose" if layer.transposed else "Conv"
    node = onnx.helper.make_node(
        kind, ["x", "w", "b"], ["y"], **{k: v for k, v in attributes.items() if v}
    )
    graph = onnx.helper.make_graph(
        [node],
        "layer",
        [onnx.helper.make_tensor_value_info("x", 1, x.shape)],
        [onnx.helper.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(b, "b")],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    y = np.empty((x.shape[0], layer.outputs, *layer.sizes()), np.float32)
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def call() -> np.ndarray:
        session.run_with_iobinding(binding)
        return y

    return call


def measure(layer: Layer) -> list[str]:
    rng = np.random.default_rng(0)
    rank = len(layer.kernel)
    shape = (layer.outputs, layer.shape[1] // layer.groups)
    if layer.transposed:
        shape = (layer.shape[1], layer.outputs // layer.groups)
    w = rng.standard_normal((*shape, *layer.kernel)).astype(np.float32)
    b = rng.standard_normal(layer.outputs).astype(np.float32)
    x = np.maximum(rng.standard_normal(layer.shape), 0).astype(np.float32)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    strides, pads, sizes = layer.strides or (1,) * rank, layer.pads or (0,) * rank, layer.sizes()
    terms = int(np.prod(layer.kernel)) * layer.shape[1] // layer.groups
    places = layer.shape[2:] if layer.transposed else sizes
    work = 2 * terms * layer.outputs * int(np.prod(places))
    made = {
        form: Convolution(w, b, strides, (1,) * rank, layer.groups, layer.transposed, winograd)
        for form, winograd in (("", False), (" Winograd", True))
    }
    if made[" Winograd"].form != "winograd":
        del made[" Winograd"]
    wide = Convolution(
        w.astype(np.float64),
        b.astype(np.float64),
        strides,
        (1,) * rank,
        layer.groups,
        layer.transposed,
    )
    exact = wide(x.astype(np.float64), sizes, pads)
    lines = []
    for form, ours in made.items():
        timed = together(
            {
                "last": lambda ours=ours: ours(last, sizes, pads, threads=1),
                "first": lambda ours=ours: ours(x, sizes, pads, threads=1),
                "onnxruntime": onnxruntime_call(layer, x, w, b),
            }
        )
        speed = {name: work / t.seconds * 1e-9 for name, t in timed.items()}
        error = {
            name: np.sqrt(np.mean((t.result - exact) ** 2) / np.mean(exact**2))
            for name, t in timed.items()
        }
        lines.append(
            f"{layer.name + form:34}{timed['last'].seconds * 1e6:9.1f}"
            f"{timed['onnxruntime'].seconds * 1e6:9.1f} us"
            f"{speed['last']:8.1f}{speed['first']:8.1f}{speed['onnxruntime']:8.1f}"
            f"{timed['onnxruntime'].seconds / timed['last'].seconds:8.2f}"
            f"{error['last']:10.1e}{error['onnxruntime']:9.1e}  {ours.form}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--filter", default="", help="only layers whose name has this in it")
    only = parser.parse_args().filter
    print(
        f"{isa.selected():34}     ours   onnxrt   GFLOP/s: last  first  onnxrt"
        "   ratio     error onnxrt's"
    )
    for layer in LAYERS:
        if only in layer.name:
            print(*measure(layer), sep="\n", flush=True)


if __name__ == "__main__":
    main()
