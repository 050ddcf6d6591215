"""``python -m benchmarks.models``: whole ONNX models, ours beside onnxruntime and torch.jit.

Silero's voice activity detector, one frame of 32 ms after the other with the state carried, and the
JapaneseVowels classifier on one series and on padded batches with lengths. Outputs are compared
before anything is timed; times are medians of interleaved rounds, on one thread unless
``--threads`` says otherwise. Silero's files are fetched from its package.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.measure import measured

FRAME_SECONDS = 0.032
PACKAGE, DATA = "silero-vad==6.2.3", "silero_vad/data/"
SILERO_FILES = ("silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_op18_ifless.onnx")
Ways = dict[str, Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(arguments.threads))
    import vledge

    vledge.set_num_threads(arguments.threads)
    print(f"{'model and input':44} {'vledge':>9} {'÷ onnxruntime':>14} {'÷ torch.jit':>12}")
    for name, ways, seconds in (*_silero(arguments.threads), *_vowels(arguments.threads)):
        samples = measured(ways, arguments.rounds)
        medians = {way: statistics.median(times) for way, times in samples.items()}
        ours = medians.pop("vledge")
        line = f"{name:44} {ours * 1e6:6.0f} us {ours / medians['onnxruntime']:14.2f}"
        line += f" {ours / medians['torch.jit']:12.2f}" if "torch.jit" in medians else " " * 13
        if seconds:
            factors = ", ".join(f"{t / seconds:.5f}" for t in (ours, *medians.values()))
            line += f"   real-time factors {factors}"
        print(line)


def _peer_session(path: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _compare(name: str, actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    error = float(np.abs(actual - expected).max())
    if not error <= tolerance:
        sys.exit(f"{name}: the largest difference is {error}, more than {tolerance}")


def _silero(threads: int) -> Iterator[tuple[str, Ways, float]]:
    import vledge
    from tests.registry import registry_file

    rng = np.random.default_rng(0)
    window = (0.1 * rng.standard_normal((1, 576))).astype(np.float32)
    for file in SILERO_FILES:
        path = str(registry_file(PACKAGE, DATA + file))
        ours, theirs = vledge.InferenceSession(path), _peer_session(path, threads)
        feed = {"input": window, "state": np.zeros((2, 1, 128), np.float32)}
        if len(ours.get_inputs()) == 3:
            feed["sr"] = np.array(16_000)
        first = ours.run(None, feed)
        _compare(file, first[0], theirs.run(None, feed)[0], 1e-4)
        ways: Ways = {
            "vledge": lambda ours=ours, feed=feed: ours.run(None, feed),
            "onnxruntime": lambda theirs=theirs, feed=feed: theirs.run(None, feed),
        }
        if file == "silero_vad.onnx":
            jit = _silero_of_torch(window, threads)
            if jit is not None:
                _compare("silero_vad.jit", first[0], jit().numpy(), 1e-4)
                ways["torch.jit"] = jit
        yield f"{file}, a frame", ways, FRAME_SECONDS


def _silero_of_torch(window: np.ndarray, threads: int) -> Callable[[], Any] | None:
    """The same network as torch runs it: state in, state out, as the ONNX files have it."""
    try:
        import torch
    except ImportError:
        return None
    from tests.registry import registry_file

    torch.set_num_threads(threads)
    network = torch.jit.load(str(registry_file(PACKAGE, DATA + "silero_vad.jit")))._model
    samples, state = torch.from_numpy(window), torch.zeros(2, 1, 128)

    def run() -> Any:
        with torch.inference_mode():
            return network(samples, state)[0]

    return run


def _vowels(threads: int) -> Iterator[tuple[str, Ways, float]]:
    import vledge
    from vledge.shipped import japanese_vowels

    path = str(japanese_vowels.folder() / "model.onnx")
    ours, theirs = vledge.InferenceSession(path), _peer_session(path, threads)
    series = japanese_vowels.load_test_set().series
    for count in (1, 16, len(series)):
        batch = series[:count]
        feed = {
            "x": vledge.pad_sequence(batch, batch_first=True),
            "lengths": np.array([len(one) for one in batch]),
        }
        _compare("JapaneseVowels", ours.run(None, feed)[0], theirs.run(None, feed)[0], 1e-4)
        yield (
            f"JapaneseVowels, {count} series",
            {
                "vledge": lambda feed=feed: ours.run(None, feed),
                "onnxruntime": lambda feed=feed: theirs.run(None, feed),
            },
            0,
        )


if __name__ == "__main__":
    main()
