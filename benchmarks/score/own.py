"""vledge over the archive, and its engine alone, in a process of its own.

``python -m benchmarks.score.own WAY MODEL THREADS OUTPUT FILE…`` prints its seconds and its
processor seconds, and 1: that it has run all. WAY "score" is `vledge score` from files to files;
"bare" is the engine on the same sequences in the same batches, which are in memory and sorted when
the clock starts; its results stay there.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq

import vledge
from vledge.scoring.files.fragments import find_fragments
from vledge.scoring.files.manifest import Manifests
from vledge.scoring.models.batches import PackedBatches
from vledge.scoring.models.side_by_side import each_batch
from vledge.scoring.pipeline import Failed, Job, score
from vledge.scoring.scorer import Scorer
from vledge.scoring.tables.columns import read_columns


def by_score(scorer: Scorer, output: str, files: list[str]) -> Callable[[], None]:
    """Files to files."""
    kept = ["name" if files[0].endswith(".npz") else "id"]
    job = Job(scorer, Manifests(output, scorer.description()), kept)
    fragments = find_fragments(files, output)

    def run() -> None:
        for event in score(fragments, job):
            if isinstance(event, Failed):
                raise event.error

    return run


def bare(scorer: Scorer, files: list[str], threads: int) -> Callable[[], None]:
    """Batches in memory to arrays in memory."""
    layer = scorer.runner.layer
    batches_of = PackedBatches((layer.shape,))
    ready = []
    for file in files:
        ragged = read_columns([("frames", pq.read_table(file)["frames"])], scorer.runner.wanted)
        for places in batches_of(ragged.lengths, ragged.good, 1 << 30):
            ready.append((ragged.values, ragged.starts[places], ragged.lengths[places]))
    batches = [np.array([i]) for i in range(len(ready))]

    def one(places: np.ndarray) -> None:
        layer.stack.run_in_place(*ready[places[0]], False)

    return lambda: each_batch(one, batches, threads, lambda: False)


def main() -> None:
    way, model, threads, output, *files = sys.argv[1:]
    vledge.set_num_threads(int(threads))
    scorer = Scorer(model)
    run = by_score(scorer, output, files) if way == "score" else bare(scorer, files, int(threads))
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    run()
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(seconds, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1)


if __name__ == "__main__":
    main()
