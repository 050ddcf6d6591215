"""``python -m benchmarks.score.kills``: workers of a cluster killed at random moments.

Files are scored by two workers while one after the other is killed (`kill -9`), until so many have
been; then every file's rows must be there once, with the values of one machine, and nothing else:
no half-written file of a worker that was killed, hidden or not. Prints a line.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import dask
import pyarrow.parquet as pq
from distributed import LocalCluster

from benchmarks.score.archive import Case, save_model, write_archive
from vledge.scoring.cluster import score_on_cluster
from vledge.scoring.files.fragments import find_fragments
from vledge.scoring.files.manifest import FOLDER, Manifests
from vledge.scoring.pipeline import Failed, Job
from vledge.scoring.scorer import Scorer

__all__ = ["CASE", "Killer", "killed_workers"]

CASE = Case("killed", "LSTM", 3, 64, 1, 60, 0)
# Seconds between a finished file and the next kill, at most. By files, since on a machine that is
# busy otherwise a worker takes long to start: killed again and again before, it never ends a file.
LONGEST_WAIT = 2.0


class Killer(threading.Thread):
    """Kills one of the cluster's workers after the other."""

    def __init__(self, cluster: LocalCluster, most: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.most = cluster, most
        self.killed: list[int] = []
        self.finished = threading.Event()  # a file, since the last kill
        self._choose = random.Random(seed)

    def run(self) -> None:
        """Until enough have been killed."""
        while len(self.killed) < self.most:
            self.finished.wait()
            time.sleep(self._choose.uniform(0.0, LONGEST_WAIT))
            self.finished.clear()
            # one that is killed before it has joined, its nanny gives up, and nobody replaces it
            joined = [worker.pid for worker in list(self.cluster.scheduler.workers.values())]
            living = [pid for pid in joined if pid not in self.killed]
            if living:
                self.killed.append(self._choose.choice(living))
                os.kill(self.killed[-1], signal.SIGKILL)


def killed_workers(folder: Path, files: int, rows: int, kills: int, seed: int = 0) -> int:
    """Score the files, over and over until enough workers were killed: how often that was.

    RuntimeError where a row is missing, there twice, or has other values than on one machine.
    """
    case = Case(**{**CASE.__dict__, "rows": files * rows})
    write_archive(folder / "in", case, files)
    plain, _ = save_model(folder, case)
    scorer = Scorer(plain, "frames", ["last", "output"])
    runs = 0
    # else a local cluster drops a worker for good that is slow to come back
    patience = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with (
        patience,
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        killer = Killer(cluster, kills, seed)
        killer.start()
        while runs == 0 or killer.is_alive():
            out = folder / f"out-{runs}"
            fragments = find_fragments([str(folder / "in")], str(out))
            job = Job(scorer, Manifests(str(out), scorer.description()))
            for event in score_on_cluster(fragments, job, cluster.scheduler_address):
                if isinstance(event, Failed):
                    raise event.error
                killer.finished.set()
            for fragment in fragments:
                summary = job.manifests.finished(fragment)
                if summary is None or summary.written != rows:
                    raise RuntimeError(f"{fragment.target}: {summary}, expected {rows} rows")
                if not pq.read_table(fragment.target).equals(
                    scorer(pq.read_table(fragment.source))
                ):
                    raise RuntimeError(f"{fragment.target} is not what one machine gives")
            expected = {fragment.target for fragment in fragments}
            expected |= {f"{out}/{FOLDER}/{Path(target).name}.json" for target in expected}
            left = {str(path) for path in out.rglob("*") if path.is_file()} ^ expected
            if left:
                raise RuntimeError(f"left over, or missing: {sorted(left)}")
            runs += 1
    return runs


def main() -> int:
    """0 if nothing is lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="workers to be killed (50)")
    parser.add_argument("--files", type=int, default=24, help="of the archive (24)")
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = killed_workers(Path(folder), arguments.files, 400, arguments.kills)
    print(
        f"{arguments.kills} workers killed in {runs} runs over {arguments.files} files of 400 "
        f"rows, {time.monotonic() - start:.0f} s: each row is there once, as on one machine"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
