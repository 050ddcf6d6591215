"""The other end of `elsewhere`: one peer in an interpreter of its own, until the pipe closes."""

from __future__ import annotations

import importlib
import sys
import time
from multiprocessing.connection import Connection
from typing import Any, cast

from benchmarks.measuring.clocks import rest, seconds
from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Contestant, Outputs, Peer

__all__ = ["Worker"]


class Worker:
    """Its methods are what can be asked."""

    def __init__(self, peer: Peer):
        self.peer = peer
        self._contestants: dict[str, Contestant] = {}
        self._results: dict[str, Any] = {}

    def version(self) -> str | None:
        return self.peer.version()

    def notes(self) -> list[str]:
        return list(self.peer.notes())

    def prepare(
        self, workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
    ) -> list[tuple[str, bool]]:
        """Names, and whether they count; those of the work before are let go."""
        self._results.clear()
        self._contestants.clear()
        found = self.peer.prepare(workload, weights, inputs, threads)
        self._contestants = {contestant.name: contestant for contestant in found}
        return [(contestant.name, contestant.counted) for contestant in found]

    def run(self, name: str) -> None:
        self._results[name] = self._contestants[name].run()

    def seconds(self, name: str, repeats: int, clock: str) -> float:
        """Ends when this process is quiet, for the next turn is another's."""
        taken = seconds(self._contestants[name].run, repeats, getattr(time, clock))
        rest()
        return taken

    def outputs(self, name: str) -> Outputs:
        return self._contestants[name].outputs(self._results[name])


def main(name: str, descriptor: int) -> None:
    pipe = Connection(descriptor)
    worker = Worker(cast(Peer, importlib.import_module(f"benchmarks.peers.{name}_peer")))
    while True:
        try:
            what, arguments = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer = None, getattr(worker, what)(*arguments)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}", None
        pipe.send(answer)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
