"""Peers in another interpreter: a process that prepares, runs and times them, asked over a pipe.

Their clock runs there, around the same loop as here, so that the pipe is no part of their time.
`worker` is the other end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.apart import interpreter
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["Elsewhere", "PeerError", "RunElsewhere"]

ROOT = Path(__file__).resolve().parents[2]

# Making a model may take a while (ExecuTorch unrolls time); nothing else may take as long.
ANSWER_SECONDS = 300


class PeerError(Exception):
    """What a peer said in its process, or that the process ended."""


class Process:
    """A worker in the peer's environment, started when it is first asked."""

    def __init__(self, python: Path, name: str):
        self.name = name
        self._pipe, other = Pipe()
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.peers.worker", name, str(other.fileno())],
            pass_fds=[other.fileno()],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=sys.stderr,  # MNN and others print as they like
        )
        other.close()

    def ask(self, what: str, *arguments: Any) -> Any:
        """The worker's answer; what was raised there is a `PeerError` here."""
        try:
            self._pipe.send((what, arguments))
            if not self._pipe.poll(ANSWER_SECONDS):
                raise PeerError(f"{self.name}: {what} took more than {ANSWER_SECONDS} s")
            error, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError, PeerError) as ended:
            self._process.kill()
            code = self._process.wait()
            started.cache_clear()
            if isinstance(ended, PeerError):
                raise
            raise PeerError(f"{self.name}'s process ended with {code} while asked {what}") from None
        if error:
            raise PeerError(error)
        return answer


@cache
def started(python: Path, name: str) -> Process:
    return Process(python, name)


class RunElsewhere:
    """A contestant's ``run``: one run there, or the seconds that many take by a clock there."""

    def __init__(self, process: Process, name: str):
        self._process, self._name = process, name

    def __call__(self) -> None:
        self._process.ask("run", self._name)

    def seconds(self, repeats: int, clock: Callable[[], float]) -> float:
        """Of all repeats; the clock is one of `time`'s, by its name."""
        taken: float = self._process.ask("seconds", self._name, repeats, clock.__name__)
        return taken

    def outputs(self, _: None) -> Outputs:
        """Of the last run."""
        result: Outputs = self._process.ask("outputs", self._name)
        return result


class Elsewhere:
    """A `Peer` whose module runs in an interpreter of its own, by default its environment's."""

    def __init__(self, name: str, python: Path | None = None):
        self._name, self._python = name, python or interpreter(name)

    def version(self) -> str | None:
        """None also where the environment has not been set up."""
        if not self._python.exists():
            return None
        result: str | None = self._process().ask("version")
        return result

    def notes(self) -> Sequence[str]:
        result: Sequence[str] = self._process().ask("notes")
        return result

    def prepare(
        self, workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
    ) -> list[Contestant]:
        process = self._process()
        contestants = []
        for name, counted in process.ask("prepare", workload, weights, inputs, threads):
            run = RunElsewhere(process, name)
            contestants.append(Contestant(name, run, run.outputs, counted))
        return contestants

    def _process(self) -> Process:
        return started(self._python, self._name)
