"""``vledge stream MODEL --input -``: frames in from a pipe or a file, outputs as they come.

    arecord -t raw -f S16_LE -r 16000 -c 1 | vledge stream model.onnx --format int16

A frame is what the model takes for one time step: as many numbers as its input has features, or
``--hop`` samples.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from typing import IO, Any

import numpy as np

from vledge.cli.ending import Ended, Ending
from vledge.cli.frames import FORMATS, FrameReader
from vledge.cli.given_inputs import add_set_argument, pair, set_numbers
from vledge.cli.recurrent_layer import add_layer_argument
from vledge.formats import holds_graph
from vledge.formats.file_name import check_name
from vledge.layer_file import load_layer
from vledge.machine.atomic_file import check_writable
from vledge.streaming import LookaheadStream, Stream

EXAMPLES = """\
examples:
  arecord -t raw -f S16_LE -r 16000 -c 1 | vledge stream silero_vad.onnx \\
      --format int16 --set sr=16000 --hop 512 --context 64
  vledge stream silero_vad.onnx --input speech.wav --set sr=16000 --hop 512 --context 64
  tail -f sensor.csv | vledge stream weights.safetensors --state state.safetensors
"""
# What inputs that say how many samples a second there are are called.
RATES = ("sr", "rate", "fs", "sample_rate", "samplerate", "sampling_rate")
_GRAPHS_ONLY = ("set", "states", "time_axis", "hop", "context")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge stream``."""
    parser.add_argument(
        "model", help="an ONNX file, one by `vledge convert`, or weights with a recurrent layer"
    )
    parser.add_argument("--input", default="-", metavar="FILE", help="frames; - is stdin (-)")
    parser.add_argument("--output", default="-", metavar="FILE", help="outputs; - is stdout (-)")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="of the input: a line for each frame, a WAV file, or raw little-endian samples; "
        "integers are divided by their range (wav if it begins like one, else csv)",
    )
    parser.add_argument(
        "--output-format", choices=["csv", "float32"], default="csv", help="of the output (csv)"
    )
    add_set_argument(parser)
    parser.add_argument(
        "--hop", type=int, metavar="N", help="each call of an ONNX model takes the next N samples"
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="... and in front of them the last N before (0), as Silero's detectors want 64",
    )
    parser.add_argument(
        "--time-axis", type=int, metavar="N", help="the axis of an ONNX input that is time"
    )
    parser.add_argument(
        "--states",
        action="append",
        default=[],
        metavar="INPUT=OUTPUT",
        help="a state of an ONNX model, and the output that is its next value, once for each; "
        "without any, those are taken that the names tell: state and stateN, h_0 and h_n",
    )
    add_layer_argument(parser)
    parser.add_argument(
        "--state",
        metavar="FILE",
        help="go on from this file if it is there; write it at the end, and at Ctrl-C, SIGTERM or "
        "when the reader of the output has gone",
    )
    parser.add_argument(
        "--lookahead",
        type=int,
        metavar="N",
        help="run a bidirectional layer, each output N frames late; those of the last frames come "
        "at the end of the input, or with --state in the next call",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read a frame, step, write, until the input ends or nobody wants more."""
    if arguments.state:  # here, and not when hours of frames have been run
        check_name(arguments.state)
        check_writable(arguments.state)
    model, options = _model(arguments)
    if arguments.lookahead is not None:
        options["lookahead"] = arguments.lookahead
    if arguments.state and os.path.exists(arguments.state):
        stream = Stream.load(arguments.state, model, **options)
    else:
        stream = model.stream(**options)
    if len(stream.frames) != 1:
        raise ValueError(
            f"the model takes several inputs a frame, {', '.join(stream.frames)}, of which a pipe "
            "has one: give those that never change by --set, states by --states, or stream it in "
            "Python, session.stream()"
        )
    with ExitStack() as files, Ending() as ending:
        source = _opened(arguments.input, "rb", files)
        target = _opened(arguments.output, "wb", files)
        try:
            _stream(arguments, stream, source, target, ending)
        except Ended:
            pass
        finally:  # an error, too: the frames before it have been run
            if arguments.state:
                stream.save(arguments.state)
    return ending.status


def _stream(
    arguments: argparse.Namespace,
    stream: Stream,
    source: IO[bytes],
    target: IO[bytes],
    ending: Ending,
) -> None:
    """All frames; BrokenPipeError when nobody reads the output, Ended at a signal."""
    ((shape, dtype),) = stream.frames.values()
    name = "the input" if arguments.input == "-" else arguments.input
    size = int(np.prod(shape))
    with ending.waiting():
        reader = FrameReader(source, name, arguments.format, size, dtype.kind in "iu")
    _check_rate(reader, arguments, name)
    frames = iter(reader)
    while True:
        with ending.waiting():
            frame = next(frames, None)
        if frame is None:
            break
        result = stream.step(frame.reshape(shape).astype(dtype))
        if result is not None:  # with lookahead, the first ones come late
            with ending.waiting():
                _write(result, target, arguments.output_format)
    if reader.left:
        print(f"vledge: warning: {reader.left}, and were not run", file=sys.stderr)
    if isinstance(stream, LookaheadStream) and not arguments.state:
        for result in stream.flush():
            with ending.waiting():
                _write(result, target, arguments.output_format)


def _model(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The layer or the session, and the options of its ``stream``."""
    if arguments.layer is not None or not holds_graph(arguments.model):
        for option in _GRAPHS_ONLY:
            if getattr(arguments, option) not in (None, []):
                raise ValueError(
                    f"--{option.replace('_', '-')} is for whole models, and of {arguments.model} a "
                    "recurrent layer is streamed by itself"
                )
        return load_layer(arguments.model, arguments.layer), {}
    from vledge.graph.session import InferenceSession

    session = InferenceSession(arguments.model)
    states = dict(pair(text, "--states", "INPUT=OUTPUT") for text in arguments.states)
    return session, {
        "time_axis": arguments.time_axis,
        "states": states or None,
        "fixed": set_numbers(arguments.set, session.get_inputs()),
        "hop": arguments.hop,
        "context": arguments.context,
    }


def _check_rate(reader: FrameReader, arguments: argparse.Namespace, name: str) -> None:
    """A WAV file of another rate than what the model is told is a mistake that nobody hears."""
    if reader.wav is None:
        return
    for text in arguments.set:
        key, _, number = text.partition("=")
        if key.lower() in RATES and float(number) != reader.wav.rate:
            raise ValueError(
                f"{name} has {reader.wav.rate} samples a second, and --set {text}: convert it, "
                f"ffmpeg -i {name} -ar {number} -ac 1 OUT.wav"
            )


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
