"""``vledge plan LENGTHS --model MODEL``: which strategy suits sequences of these lengths."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vledge.planning.ranking import Plan


import numpy as np

from vledge.cli.numpy_file import array_of
from vledge.cli.recurrent_layer import add_layer_argument
from vledge.cli.table import rows, size
from vledge.shown import counted

EXAMPLES = """\
examples:
  vledge plan lengths.txt --model model.onnx
  vledge plan data.csv --column frames --model checkpoint.pt --memory-limit 64MB --plot plan.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge plan``."""
    parser.add_argument(
        "lengths",
        help="a file of whole numbers: text, .npy, .csv (see --column), or - for text on stdin",
    )
    parser.add_argument(
        "--model",
        required=True,
        help="a file with recurrent layers: weights, Keras, or a whole model",
    )
    add_layer_argument(parser, "default: all of the file's together")
    parser.add_argument("--column", help="of a .csv file: its name, or its number from 1")
    parser.add_argument("--threads", type=int, help="default: as many as vledge uses")
    parser.add_argument(
        "--memory-limit", metavar="BYTES", help="beyond the input: 64MB, 500kB, 2GB or bytes"
    )
    parser.add_argument(
        "--form",
        choices=["list", "padded", "packed", "masked"],
        default="list",
        help="how the batch comes and goes back (list)",
    )
    parser.add_argument("--plot", metavar="PNG", help="draw a picture; needs vledge[plot]")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the ranking; status 1 where no strategy stays within the limit."""
    from vledge.planning import plan

    if arguments.column is not None and not arguments.lengths.endswith(".csv"):
        raise ValueError("--column goes with a .csv file")
    made = plan(
        read_lengths(arguments.lengths, arguments.column),
        _model(arguments.model, arguments.layer),
        threads=arguments.threads,
        memory_limit=None if arguments.memory_limit is None else nbytes(arguments.memory_limit),
        form=arguments.form,
    )
    if arguments.plot:
        from vledge.planning.picture import draw

        draw(made, arguments.plot)
    if arguments.json:
        print(json.dumps(_record(made), indent=1))
    else:
        print(_text(made))
    return 0 if made.ranking[0].fits else 1


def _text(made: Plan) -> str:
    steps, longest = int(made.lengths.sum()), int(made.lengths.max())
    limit = "" if made.memory_limit is None else f", at most {size(made.memory_limit)}"
    lines = [("strategy", "time", "peak memory", "real", "wasted", "why")]
    for one in (*made.ranking, made.rectangle):
        options = "".join(f", {name} {value}" for name, value in one.options.items())
        lines.append(
            (
                one.strategy + options,
                f"{one.seconds * 1e3:.3g} ms",
                size(one.peak_bytes),
                _count(one.real),
                _count(one.wasted),
                one.reason,
            )
        )
    text = [
        f"{counted(len(made.lengths), 'sequence')}, {counted(steps, 'step')}, longest {longest:,}"
        f": {made.padding:.0%} of the padded batch is padding",
        f"{'; '.join(map(str, made.shapes))}; {counted(made.threads, 'thread')}, "
        f"as {made.form}{limit}",
        rows(lines, right=(1, 2, 3, 4)),
    ]
    text += [f"left out: {name}: {why}" for name, why in made.left_out.items()]
    text.append(f"constants: {made.source}")
    if not made.ranking[0].fits:
        text.append("no strategy stays within the memory limit")
    return "\n".join(text)


def _count(multiply_adds: int) -> str:
    value = float(multiply_adds)
    for unit in ("", " k", " M", " G", " T"):
        if value < 1000 or unit == " T":
            return f"{value:.3g}{unit}"
        value /= 1000
    raise AssertionError


def _record(made: Plan) -> dict[str, object]:
    return {
        "sequences": len(made.lengths),
        "steps": int(made.lengths.sum()),
        "padding": made.padding,
        "layers": [shape._asdict() for shape in made.shapes],
        "form": made.form,
        "threads": made.threads,
        "memory_limit": made.memory_limit,
        "constants": made.source,
        "ranking": [asdict(one) for one in made.ranking],
        "rectangle": asdict(made.rectangle),
        "left_out": made.left_out,
    }


def nbytes(text: str) -> int:
    """A number of bytes as people write it, in steps of 1,000; ``KiB`` and the like of 1,024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no number of bytes: expected one like 64MB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmg".index(unit.lower() or " "))


def read_lengths(path: str, column: str | None = None) -> np.ndarray:
    """int64 [B] out of text, .npy or a column of .csv.

    Raises ValueError, with the place, for what is no whole number from 0.
    """
    if path.endswith(".npy"):
        array = array_of(path)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"{path}: expected whole numbers in one dimension, got {array.ndim}-D {array.dtype}"
            )
        lengths: np.ndarray = array.astype(np.int64)
    elif path.endswith(".csv"):
        with open(path, newline="", encoding="utf-8-sig") as file:
            lengths = _csv_column(path, list(csv.reader(file)), column)
    else:
        if re.fullmatch(r"[\d,]+", path) and not os.path.exists(path):
            raise ValueError(f"lengths come out of a file, or by `echo {path} | vledge plan -`")
        if path == "-":
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        lines = enumerate(text.splitlines(), 1)
        words = [(number, word) for number, line in lines for word in re.split(r"[,;\s]+", line)]
        lengths = np.array(
            [_whole(word, f"{path}:{number}") for number, word in words if word], np.int64
        )
    if not len(lengths):
        raise ValueError(f"{path} holds no lengths")
    if lengths.min() < 0:
        raise ValueError(f"{path}: a length is {lengths.min()}, expected none below 0")
    return lengths


def _csv_column(path: str, lines: list[list[str]], column: str | None) -> np.ndarray:
    if not lines:
        raise ValueError(f"{path} is empty")
    header = None if all(_is_whole(cell) for cell in lines[0]) else [c.strip() for c in lines[0]]
    width = len(lines[0])
    if column is None and width == 1:
        place = 0
    elif column is not None and header is not None and column in header:
        place = header.index(column)
    elif column is not None and column.isdecimal() and 1 <= int(column) <= width:
        place = int(column) - 1
    else:
        held = ", ".join(header) if header else f"1 to {width}"
        raise ValueError(
            f"{path}: say which column has the lengths with --column; there are: {held}"
        )
    first = 1 if header is None else 2
    lengths = []
    for number, line in enumerate(lines[first - 1 :], first):
        if not line:
            continue
        if place >= len(line):
            raise ValueError(f"{path}:{number}: has {len(line)} columns, expected {width}")
        lengths.append(_whole(line[place].strip(), f"{path}:{number}"))
    return np.array(lengths, np.int64)


def _is_whole(word: str) -> bool:
    return re.fullmatch(r"\s*[+-]?\d+\s*", word) is not None


def _whole(word: str, place: str) -> int:
    if not _is_whole(word) or len(word) > 18:
        raise ValueError(f"{place}: {word!r} is no whole number")
    return int(word)


def _model(path: str, name: str | None) -> Any:
    """The shapes of the recurrent layers in a file of weights, or of the nodes of a graph."""
    from vledge.formats import holds_graph

    shapes = _nodes(path) if holds_graph(path) else _layers(path)
    if name is not None and name not in shapes:
        from vledge.weights.plain import plain_name

        name = plain_name(name.rstrip(".") + ".")
    if not shapes or (name is not None and name not in shapes):
        held = ", ".join(map(repr, shapes)) or "none"
        raise ValueError(
            f"{path}: recurrent layers that a plan is for: {held}; `vledge inspect {path}` lists "
            "all that is in it"
        )
    return [shape for own, shape in shapes.items() if name in (None, own)]


def _layers(path: str) -> dict[str, object]:
    """Shapes by the prefix of the weights' names."""
    from vledge import nn
    from vledge.formats import load_weights
    from vledge.layer_file import keras_layers
    from vledge.planning.shapes import LayerShape, shapes_of

    keras = keras_layers(path)
    if keras is not None:
        return {
            one.name: LayerShape(
                (one.kind or "").lower(),
                one.input_size,
                one.hidden_size[0],
                num_layers=len(one.hidden_size),
                bidirectional=one.bidirectional,
            )
            for one in keras
            if one.loads_as == one.kind
        }
    layers = nn.recognize(load_weights(path))
    return {one.prefix: shapes_of(one)[0] for one in layers if not one.kind.endswith("Cell")}


def _nodes(path: str) -> dict[str, object]:
    """Shapes by node, of those that a layer of vledge.nn can be."""
    from vledge.graph.layers import summaries
    from vledge.graph.plan import simplified
    from vledge.graph.session import read_model
    from vledge.recurrent.cells import OPERATORS
    from vledge.recurrent.shape import LayerShape

    return {
        node.name: LayerShape(
            node.kind.lower(),
            node.input_size,
            node.hidden_size,
            bidirectional=node.direction == "bidirectional",
            reverse=node.direction == "reverse",
        )
        for node in summaries(simplified(read_model(path)))
        if node.kind in OPERATORS and node.path == "kernel" and node.input_size and node.hidden_size
    }
