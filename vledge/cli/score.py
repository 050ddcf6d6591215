"""``vledge score FILES… --model M --output FOLDER``: a model over archives of sequences.

On this machine, or with ``--scheduler`` on the workers of a Dask cluster.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
from collections.abc import Generator
from typing import Final

from vledge.cli.given_inputs import pair
from vledge.cli.recurrent_layer import add_layer_argument
from vledge.cli.table import rows
from vledge.scoring.cluster import score_on_cluster
from vledge.scoring.files.fragments import Fragment, find_fragments
from vledge.scoring.files.manifest import FOLDER, Manifests, Summary
from vledge.scoring.pipeline import Failed, Finished, Job, Written, score
from vledge.scoring.progress import Progress, duration
from vledge.scoring.scorer import DEFAULT_MEMORY, Scorer
from vledge.scoring.tables.bad_rows import POLICIES

#: Files that are named in what is printed at the end, with what is wrong in them.
SHOWN: Final = 10
#: Seconds that a run gets to clear up after Ctrl-C; workers elsewhere have to be told.
CLEARING: Final = 0.08
CLEARING_ELSEWHERE: Final = 3.0
UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}

EXAMPLES = """\
examples:
  vledge score 'in/*.parquet' --model model.safetensors --input frames --output out/
  vledge score in/ --model model.onnx --input x=frames --output-column score=logits --output out/
  vledge score long.parquet --model gru.pt --id device --time t --input ax,ay,az --output out/
  vledge score in/ --model model.pt --output out/ --scheduler tcp://head:8786
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge score``."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="Parquet, Arrow or .npz files, folders of them, or patterns such as 'in/*.parquet'",
    )
    parser.add_argument(
        "--model", required=True, help="a file with a recurrent layer, or a whole ONNX model"
    )
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="where each file's result is written"
    )
    parser.add_argument(
        "--input",
        metavar="[NAME=]COLUMN[,COLUMN]",
        help="the column of sequences, or several that are features; not needed where one fits",
    )
    parser.add_argument(
        "--output-column",
        action="append",
        default=[],
        metavar="[COLUMN=]OUTPUT",
        help="what is wanted, once for each: of a layer last (the default), output, h_n, c_n; of a "
        "whole model its outputs (the first), or NAME:last for the last step of one",
    )
    add_layer_argument(parser)
    parser.add_argument("--id", metavar="COLUMN", help="of a long table: whose step a row is")
    parser.add_argument("--time", metavar="COLUMN", help="of a long table: orders the steps")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="an input that is a number, the same for all sequences, once for each",
    )
    parser.add_argument(
        "--time-first", action="store_true", help="the model takes [time, batch, features]"
    )
    parser.add_argument(
        "--keep",
        metavar="COLUMN[,COLUMN]",
        help="the input's columns that stay in the result (all of them)",
    )
    parser.add_argument(
        "--on-bad",
        choices=POLICIES,
        default="error",
        help="rows that are null, empty, or hold NaN or infinity: the file fails (the default), "
        "their outputs are null, or they are left out",
    )
    parser.add_argument(
        "--memory",
        type=_nbytes,
        default=DEFAULT_MEMORY,
        metavar="SIZE",
        help="for the rows that are read, run and written at a time: 200MB, 2GB (512MB)",
    )
    parser.add_argument("--threads", type=int, help="default: as all of vledge")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster: tcp://head:8786")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave out files whose results are there already, of this very input, model and "
        "options (the default)",
    )
    parser.add_argument(
        "--checksum",
        action="store_true",
        help="know inputs by a checksum of all their bytes, and not by size and time of change",
    )


def run(arguments: argparse.Namespace) -> int:
    """Score what is not done yet, and say what came of it."""
    scorer = Scorer(
        arguments.model,
        _input(arguments.input),
        _outputs(arguments.output_column),
        layer=arguments.layer,
        id=arguments.id,
        time=arguments.time,
        fixed=_numbers(arguments.set),
        time_first=arguments.time_first,
        on_bad=arguments.on_bad,
        memory=arguments.memory,
        threads=arguments.threads,
    )
    kept = arguments.keep.split(",") if arguments.keep else None
    fragments = find_fragments(arguments.files, arguments.output)
    manifests = Manifests(
        arguments.output, {**scorer.description(), "kept": kept}, arguments.checksum
    )
    manifests.sweep(fragments)
    summaries: dict[Fragment, Summary] = {}
    if arguments.resume:
        for fragment in fragments:
            summary = manifests.finished(fragment)
            if summary is not None:
                summaries[fragment] = summary
    waiting = [fragment for fragment in fragments if fragment not in summaries]
    before = len(summaries)
    job = Job(scorer, manifests, kept)
    events: Generator[Written | Finished | Failed, None, None] = score(waiting, job)
    if arguments.scheduler:
        events = score_on_cluster(waiting, job, arguments.scheduler)
    progress = Progress(waiting)
    failed: list[Failed] = []
    try:
        for event in events:
            progress(event)
            if isinstance(event, Failed):
                failed.append(event)
            elif isinstance(event, Finished):
                summaries[event.fragment] = event.summary
    except KeyboardInterrupt:
        progress.close()
        patience = CLEARING_ELSEWHERE if arguments.scheduler else CLEARING
        _interrupted(events, patience, len(summaries), len(fragments))
        return 130
    progress.close()
    print(rows(_told(summaries, before, progress, arguments.output, arguments.on_bad)))
    for one in failed[:SHOWN]:
        print(f"vledge: error: {one.error}", file=sys.stderr)
    if len(failed) > SHOWN:
        print(f"vledge: error: {len(failed) - SHOWN:,} more files failed", file=sys.stderr)
    return 1 if failed else 0


def _interrupted(
    events: Generator[Written | Finished | Failed, None, None],
    patience: float,
    done: int,
    of: int,
) -> None:
    """Clear up, and be gone: a batch that runs in another thread may take its time."""
    print(
        f"vledge: stopped; {done:,} of {of:,} files are done, the same command goes on",
        file=sys.stderr,
    )
    closing = threading.Thread(target=events.close, daemon=True)
    closing.start()
    closing.join(patience)
    if any(t.name.startswith("vledge-") or t is closing for t in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def _told(
    summaries: dict[Fragment, Summary], before: int, progress: Progress, output: str, on_bad: str
) -> list[tuple[str, str]]:
    """What is printed at the end."""
    done = len(summaries) - before
    lines = [("files", f"{done:,} scored" + (f", {before:,} were done before" if before else ""))]
    if progress.rows:
        rate = progress.rows / max(progress.seconds, 1e-9)
        lines.append(
            ("rows", f"{progress.rows:,} in {duration(progress.seconds)}, {rate:,.0f} rows/s")
        )
    bad = {f: s.bad for f, s in summaries.items() if s.bad.total}
    if bad:
        total = sum(one.total for one in bad.values())
        what = "outputs are null" if on_bad == "null" else "left out"
        lines.append(("bad rows", f"{total:,}, {what}; all places are in {output}/{FOLDER}"))
        lines += [("", f"{f.source}: {one}") for f, one in list(bad.items())[:SHOWN]]
    lines.append(("written", output))
    return lines


def _input(text: str | None) -> dict[str, list[str]] | list[str] | None:
    if text is None:
        return None
    name, separator, columns = text.rpartition("=")
    names = columns.split(",")
    return {name: names} if separator else names


def _outputs(texts: list[str]) -> dict[str, str] | None:
    outputs: dict[str, str] = {}
    for text in texts:
        column, separator, name = text.partition("=")
        if column in outputs:
            raise ValueError(f"--output-column {text}: there is a column {column!r} already")
        outputs[column] = name if separator else column
    return outputs or None


def _numbers(texts: list[str]) -> dict[str, float]:
    numbers = {}
    for text in texts:
        name, number = pair(text, "--set", "NAME=NUMBER")
        try:
            numbers[name] = float(number)
        except ValueError:
            raise ValueError(f"--set {text}: expected a number") from None
    return numbers


def _nbytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", text.strip().lower())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500MB or 2GB")
    return max(1, int(float(match[1]) * UNITS[match[2]]))
