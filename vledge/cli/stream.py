"""``vledge stream MODEL --input -``: frames in from a pipe or a file, outputs as they come.

    arecord -t raw -f S16_LE -r 16000 -c 1 | vledge stream model.onnx --format int16

A frame is what the model takes for one time step: as many numbers as its input has features.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any

import numpy as np

from vledge.cli.recurrent_layer import load_layer
from vledge.formats import holds_graph
from vledge.streaming import LookaheadStream, Stream

_RAW: dict[str, np.dtype] = {"float32": np.dtype("<f4"), "int16": np.dtype("<i2")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge stream``."""
    parser.add_argument(
        "model", help="an ONNX file, one by `vledge convert`, or weights with a recurrent layer"
    )
    parser.add_argument("--input", default="-", metavar="FILE", help="frames; - is stdin (-)")
    parser.add_argument("--output", default="-", metavar="FILE", help="outputs; - is stdout (-)")
    parser.add_argument(
        "--format",
        choices=["csv", *_RAW],
        default="csv",
        help="of the input: a line for each frame, or raw little-endian numbers; int16 is divided "
        "by 32768 (csv)",
    )
    parser.add_argument(
        "--output-format", choices=["csv", "float32"], default="csv", help="of the output (csv)"
    )
    parser.add_argument("--time-axis", type=int, help="the axis of an ONNX input that is time")
    parser.add_argument(
        "--states",
        action="append",
        default=[],
        metavar="INPUT=OUTPUT",
        help="a state of an ONNX model, and the output that is its next value; once for each",
    )
    parser.add_argument("--prefix", help="of the layer's weights, where a file has several")
    parser.add_argument(
        "--state", metavar="FILE", help="go on from this file if it is there; write it at the end"
    )
    parser.add_argument(
        "--lookahead",
        type=int,
        metavar="N",
        help="run a bidirectional layer, each output N frames late; those of the last frames come "
        "at the end of the input, or with --state in the next call",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read a frame, step, write, until the input ends."""
    model, options = _model(arguments)
    if arguments.lookahead is not None:
        options["lookahead"] = arguments.lookahead
    if arguments.state and os.path.exists(arguments.state):
        stream = Stream.load(arguments.state, model, **options)
    else:
        stream = model.stream(**options)
    if len(stream.frames) != 1:
        raise ValueError(f"the model has several inputs: {', '.join(stream.frames)}")
    ((shape, dtype),) = stream.frames.values()
    with ExitStack() as files:
        source = _opened(arguments.input, "rb", files)
        target = _opened(arguments.output, "wb", files)
        for frame in _frames(source, arguments.format, int(np.prod(shape))):
            result = stream.step(frame.reshape(shape).astype(dtype))
            if result is not None:  # with lookahead, the first ones come late
                _write(result, target, arguments.output_format)
        if isinstance(stream, LookaheadStream) and not arguments.state:
            for result in stream.flush():
                _write(result, target, arguments.output_format)
    if arguments.state:
        stream.save(arguments.state)
    return 0


def _model(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The layer or the session, and the options of its ``stream``."""
    if not holds_graph(arguments.model):
        return load_layer(arguments.model, arguments.prefix), {}
    from vledge.graph.session import InferenceSession

    pairs = [text.partition("=") for text in arguments.states]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("--states: expected INPUT=OUTPUT")
    session = InferenceSession(arguments.model)
    states = {name: output for name, _, output in pairs}
    return session, {"time_axis": arguments.time_axis, "states": states}


def _write(result: Any, target: IO[bytes], form: str) -> None:
    """One frame's outputs, a line or as many numbers, sent off at once."""
    outputs = result.values() if isinstance(result, dict) else [result]
    numbers = np.concatenate([np.ravel(output) for output in outputs])
    if form == "csv":
        target.write(",".join(f"{number:.7g}" for number in numbers).encode() + b"\n")
    else:
        target.write(numbers.astype("<f4").tobytes())
    target.flush()


def _opened(path: str, mode: str, files: ExitStack) -> IO[bytes]:
    if path == "-":
        return sys.stdin.buffer if mode == "rb" else sys.stdout.buffer
    return files.enter_context(open(path, mode))


def _frames(source: IO[bytes], form: str, size: int) -> Iterator[np.ndarray]:
    """Frames of so many numbers; ValueError for a line or an end that is none."""
    if form == "csv":
        for number, line in enumerate(source, 1):
            cells = line.decode().replace(",", " ").split()
            if not cells:
                continue
            if len(cells) != size:
                raise ValueError(f"line {number} has {len(cells)} numbers, expected {size}")
            try:
                yield np.array([float(cell) for cell in cells])
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
        return
    dtype = _RAW[form]
    while data := source.read(size * dtype.itemsize):
        if len(data) < size * dtype.itemsize:
            raise ValueError(
                f"the input ends within a frame: {len(data)} bytes of {size * dtype.itemsize}"
            )
        frame = np.frombuffer(data, dtype).astype(np.float32)
        yield frame / 32768 if form == "int16" else frame
