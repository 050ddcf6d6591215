"""Element-wise chains, softmax and norms: the native program, NumPy and onnxruntime on one thread.

    python -m benchmarks.elementwise [--isa avx2]

Microseconds a call, the least of many, of graphs of one to nine nodes; ours and onnxruntime's take
turns. Python's are the operators' own functions, on NumPy. A call costs onnxruntime some 4 us.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge._ext import isa

ROUNDS, SECONDS = 7, 0.03


def cases() -> dict[str, tuple[list[Any], dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """name → nodes, feed, constants"""
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    scalars = {
        k: np.array(v, np.float32)
        for k, v in {"three": 3, "zero": 0, "six": 6, "half": 0.5, "one": 1}.items()
    }
    flat = {"x": numbers(1, 123_000)}
    image = {"x": numbers(1, 64, 40, 48)}
    rows = {"x": numbers(400, 256)}
    return {
        "chain of five, 123,000": (
            [
                node("Mul", ["x", "half"], ["a"]),
                node("Add", ["a", "one"], ["b"]),
                node("Max", ["b", "zero"], ["c"]),
                node("Min", ["c", "six"], ["d"]),
                node("Mul", ["d", "x"], ["y"]),
            ],
            flat,
            scalars,
        ),
        "chain of five, 64": (
            [
                node("Mul", ["x", "half"], ["a"]),
                node("Add", ["a", "one"], ["b"]),
                node("Max", ["b", "zero"], ["c"]),
                node("Min", ["c", "six"], ["d"]),
                node("Mul", ["d", "x"], ["y"]),
            ],
            {"x": numbers(1, 64)},
            scalars,
        ),
        "LeakyRelu, 123,000": ([node("LeakyRelu", ["x"], ["y"], alpha=0.1)], flat, {}),
        "Tanh, 123,000": ([node("Tanh", ["x"], ["y"])], flat, {}),
        "Exp, 123,000": ([node("Exp", ["x"], ["y"])], flat, {}),
        "Erf, 123,000": ([node("Erf", ["x"], ["y"])], flat, {}),
        "Pow 0.3, 123,000": (
            [node("Abs", ["x"], ["a"]), node("Pow", ["a", "p"], ["y"])],
            flat,
            {"p": np.array(0.3, np.float32)},
        ),
        "x Sigmoid(x), 123,000": (
            [node("Sigmoid", ["x"], ["a"]), node("Mul", ["x", "a"], ["y"])],
            flat,
            {},
        ),
        "channels' scale and shift, [1, 64, 40, 48]": (
            [node("Mul", ["x", "s"], ["a"]), node("Add", ["a", "t"], ["y"])],
            image,
            {"s": numbers(64, 1, 1), "t": numbers(64, 1, 1)},
        ),
        "Softmax, [400, 256]": ([node("Softmax", ["x"], ["y"])], rows, {}),
        "Softmax over axis 0, [400, 256]": ([node("Softmax", ["x"], ["y"], axis=0)], rows, {}),
        "LayerNormalization, [400, 256]": (
            [node("LayerNormalization", ["x", "s", "t"], ["y"])],
            rows,
            {"s": numbers(256), "t": numbers(256)},
        ),
        "LayerNormalization of nine nodes, [400, 256]": (
            [
                node("ReduceMean", ["x"], ["m"], axes=[-1]),
                node("Sub", ["x", "m"], ["c"]),
                node("Pow", ["c", "two"], ["q"]),
                node("ReduceMean", ["q"], ["v"], axes=[-1]),
                node("Add", ["v", "e"], ["w"]),
                node("Sqrt", ["w"], ["d"]),
                node("Div", ["c", "d"], ["n"]),
                node("Mul", ["n", "s"], ["o"]),
                node("Add", ["o", "t"], ["y"]),
            ],
            rows,
            {
                "s": numbers(256),
                "t": numbers(256),
                "two": np.array(2, np.float32),
                "e": np.array(1e-5, np.float32),
            },
        ),
        "InstanceNormalization, [1, 64, 40, 48]": (
            [node("InstanceNormalization", ["x", "s", "t"], ["y"])],
            image,
            {"s": numbers(64), "t": numbers(64)},
        ),
        "ReduceMean of pixels, [1, 64, 40, 48]": (
            [node("ReduceMean", ["x"], ["y"], axes=[2, 3])],
            image,
            {},
        ),
        "ReduceMean of channels, [1, 64, 40, 48]": (
            [node("ReduceMean", ["x"], ["y"], axes=[1])],
            image,
            {},
        ),
        "TopK 5, [400, 256]": (
            [node("TopK", ["x", "k"], ["y", "i"])],
            rows,
            {"k": np.array([5])},
        ),
    }


def least(runs: list[Callable[[], Any]]) -> list[float]:
    """The least time of each, in microseconds, in turns."""
    best = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for k, run in enumerate(runs):
            end = time.perf_counter() + SECONDS
            while True:
                start = time.perf_counter()
                run()
                now = time.perf_counter()
                best[k] = min(best[k], now - start)
                if now > end:
                    break
    return [1e6 * b for b in best]


@contextmanager
def _python_alone() -> Iterator[None]:
    """Sessions made here run their operators in Python."""
    before = os.environ.get("VLEDGE_PROGRAM", "1")
    os.environ["VLEDGE_PROGRAM"] = "0"
    yield
    os.environ["VLEDGE_PROGRAM"] = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=None)
    print(isa.select(parser.parse_args().isa))
    vledge.set_num_threads(1)
    ort = peer("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    print(f"{'':44} {'ours':>8} {'ort':>8} {'Python':>8}  ort/ours")
    for name, (nodes, feed, constants) in cases().items():
        outputs = ["y"]
        model = model_bytes(nodes, feed, outputs, constants, 17)
        ours = vledge.InferenceSession(model)
        theirs = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        with _python_alone():
            python = vledge.InferenceSession(model)
        times = least([
            lambda s=ours, f=feed: s.run(None, f),
            lambda s=theirs, f=feed: s.run(None, f),
            lambda s=python, f=feed: s.run(None, f),
        ])  # fmt: skip
        print(
            f"{name:44} {times[0]:8.1f} {times[1]:8.1f} {times[2]:8.1f}  {times[1] / times[0]:.2f}"
        )


if __name__ == "__main__":
    main()
