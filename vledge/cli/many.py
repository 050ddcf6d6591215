"""``vledge many MODEL SEQUENCES… --output OUT.npz``: a recurrent layer over many sequences.

They are read as rows become free and written as they end, so memory depends on the rows.
"""

from __future__ import annotations

import argparse
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np

from vledge.cli.numpy_file import NpzFile, array_of, member_of, opened
from vledge.cli.recurrent_layer import add_layer_argument
from vledge.cli.table import rows
from vledge.layer_file import load_layer
from vledge.lengths import last_output, run_many
from vledge.machine.atomic_file import writing
from vledge.progress import Bar

Source = tuple[str, Callable[[], np.ndarray]]


EXAMPLES = """\
examples:
  vledge many checkpoint.pt recordings/ --output outputs.npz
  vledge many model.keras a.npy b.npy --layer encoder --last --output last.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge many``."""
    parser.add_argument("model", help="a file with a recurrent layer: weights, Keras, or a graph")
    parser.add_argument(
        "sequences",
        nargs="+",
        help=".npy files [steps, features], .npz files of such arrays, or folders of both",
    )
    parser.add_argument("--output", help="write a .npz file with one array for each sequence")
    parser.add_argument(
        "--last", action="store_true", help="write the last output only, not all steps"
    )
    add_layer_argument(parser)
    parser.add_argument(
        "--nonlinearity", choices=["tanh", "relu"], default="tanh", help="of a plain RNN"
    )
    parser.add_argument("--lanes", type=int, default=64, help="sequences that run at a time (64)")
    parser.add_argument(
        "--strategy",
        choices=["lanes", "bucketed"],
        help="default: lanes, and bucketed for a bidirectional layer",
    )


def run(arguments: argparse.Namespace) -> int:
    """Load, run, write, and print how much there was."""
    layer = load_layer(arguments.model, arguments.layer, arguments.nonlinearity)
    sources = list(_sources(arguments.sequences))
    names = [name for name, _ in sources]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two sequences are named {min(repeated)}: their outputs would be, too")
    if not sources:
        raise ValueError(f"no .npy or .npz files in {', '.join(arguments.sequences)}")
    bar = Bar(len(sources))
    results = run_many(
        layer,
        (read() for _, read in sources),
        lanes=arguments.lanes,
        strategy=arguments.strategy,
        ordered=False,
        progress=bar,
    )
    steps = 0
    start = time.perf_counter()
    with ExitStack() as held:
        held.callback(bar.close)
        held.enter_context(_by_name(names))
        archive = None
        if arguments.output:
            archive = held.enter_context(
                zipfile.ZipFile(held.enter_context(writing(arguments.output)), "w")
            )
        for place, output, _ in results:
            steps += len(output)
            if archive is not None:
                if arguments.last:
                    sizes = layer.direction_sizes
                    (output,) = last_output(
                        [output], bidirectional=len(sizes) == 2, forward_size=sizes[0]
                    )
                with archive.open(names[place] + ".npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, output, allow_pickle=False)
    seconds = time.perf_counter() - start
    print(
        rows(
            [
                ("layer", repr(layer)),
                ("sequences", f"{len(sources):,} of {steps:,} steps"),
                ("time", f"{seconds:.3f} s, {steps / seconds:,.0f} steps/s, reading included"),
                ("written", arguments.output or "nothing: no --output"),
            ]
        )
    )
    return 0


@contextmanager
def _by_name(names: list[str]) -> Iterator[None]:
    """What is said of ``sequence 3`` has its name beside it."""
    try:
        yield
    except ValueError as error:
        said = re.sub(r"^sequence (\d+)", lambda n: f"{n[0]} ({names[int(n[1])]})", str(error))
        raise ValueError(said) from error


def _sources(paths: list[str]) -> Iterator[Source]:
    """(name, how to read it) of each sequence, nothing read yet."""
    for path in paths:
        if os.path.isdir(path):
            inside = (os.path.join(path, name) for name in sorted(os.listdir(path)))
            yield from _sources([name for name in inside if name.endswith((".npy", ".npz"))])
        elif path.endswith(".npz"):
            archive = opened(path)
            if not isinstance(archive, NpzFile):
                raise ValueError(f"{path} is no .npz file")
            for name in archive.files:
                yield name, partial(member_of, archive, name, path)
        else:
            name = os.path.basename(path).removesuffix(".npy")
            yield name, partial(array_of, path)
