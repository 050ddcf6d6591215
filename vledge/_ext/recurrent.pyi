from collections.abc import Sequence
from typing import Any

import numpy as np

from vledge._ext.weights import Direction

def limits(**changes: int) -> dict[str, int]: ...
def limit_units() -> dict[str, str]: ...
def chunk_rows(direction: Direction, rows: int, total: int) -> int: ...
def run(
    directions: list[Direction],
    data: np.ndarray,
    batch_sizes: np.ndarray,
    h_0: np.ndarray | None = None,
    c_0: np.ndarray | None = None,
    threads: int | None = None,
    starts: np.ndarray | None = None,
    outputs: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]: ...
def run_padded(
    directions: list[Direction],
    data: np.ndarray,
    batch_sizes: np.ndarray,
    order: np.ndarray | None = None,
    h_0: np.ndarray | None = None,
    c_0: np.ndarray | None = None,
    batch_first: bool = False,
    threads: int | None = None,
    pack: bool = False,
    unpack: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]: ...
def run_list(
    directions: list[Direction],
    sequences: list[np.ndarray],
    batch_sizes: np.ndarray,
    order: np.ndarray,
    h_0: np.ndarray | None = None,
    c_0: np.ndarray | None = None,
    threads: int | None = None,
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray | None]: ...
def plain_lengths(
    sequences: Sequence[object], dtype: np.dtype, features: int
) -> np.ndarray | None: ...
def seconds_of_meetings(members: int, count: int) -> float: ...
def tasks_of_threads() -> list[int]: ...
def rehearsal(
    directions: list[Direction], data: np.ndarray, batch_sizes: np.ndarray, threads: int
) -> dict[str, Any]: ...
