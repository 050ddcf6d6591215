"""What a runtime must offer to take part, and the layout its results are compared in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.workloads import Inputs, Workload

__all__ = ["Array", "Contestant", "Outputs", "Peer"]

Array = NDArray[np.float32]


class Outputs(NamedTuple):
    """Results as float32 arrays; a state that the contestant does not give is None."""

    y: Array  # [T, B, D * H]; what stands beyond a sequence's length is not compared
    h_n: Array | None  # [L * D, B, H]
    c_n: Array | None  # [L * D, B, H]


@dataclass(frozen=True)
class Contestant:
    """One way of doing a work. ``run`` is timed; ``outputs`` turns its result around, untimed."""

    name: str
    run: Callable[[], Any]
    outputs: Callable[[Any], Outputs]
    counted: bool = True  # False: shown beside the ratio but no part of it


class Peer(Protocol):
    """A runtime; modules of this package have these functions."""

    def version(self) -> str | None:
        """The installed version, or None."""

    def notes(self) -> Sequence[str]:
        """What a reader of the figures must know about this runtime's settings."""

    def prepare(
        self, workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
    ) -> list[Contestant]:
        """The ways in which this runtime can do the work; none if it cannot."""
