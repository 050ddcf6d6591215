"""``vledge convert MODEL OUTPUT``: an ONNX model as vledge's own file, which needs no protobuf."""

from __future__ import annotations

import argparse
import os
import sys

from vledge.cli.table import size
from vledge.errors import UnsupportedError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge convert``."""
    parser.add_argument("model", help="an ONNX file")
    parser.add_argument("output", help="the file to write, *.safetensors")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="leave out what this output does not need, once for each output; any value may be one",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="write it even if it has operators that vledge cannot run",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, make sure that the model runs here, and write."""
    from vledge.formats import vledge_model
    from vledge.graph.part import part_for
    from vledge.graph.plan import Plan
    from vledge.graph.session import read_model

    if os.path.exists(arguments.output) and os.path.samefile(arguments.model, arguments.output):
        raise ValueError(f"{arguments.output} is the model itself")
    model = read_model(arguments.model)
    if arguments.only:
        model = part_for(model, arguments.only)
    try:
        Plan(model, {})
    except UnsupportedError as error:
        if not arguments.force:
            raise UnsupportedError(f"{error}\n(--force writes the file nevertheless)") from None
        print(f"vledge: warning: {error}", file=sys.stderr)
    vledge_model.write(arguments.output, model)
    written = os.path.getsize(arguments.output)
    print(f"{arguments.output}: {len(model.graph.nodes)} nodes, {size(written)}")
    return 0
