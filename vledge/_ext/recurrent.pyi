from typing import Any

import numpy as np

from vledge._ext.weights import Direction

def limits(**changes: int) -> dict[str, int]: ...
def run(
    directions: list[Direction],
    data: np.ndarray,
    batch_sizes: np.ndarray,
    h_0: np.ndarray | None = None,
    c_0: np.ndarray | None = None,
    threads: int | None = None,
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
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]: ...

class Stack:
    def __init__(self, layers: list[list[Direction]]) -> None: ...
    def run(
        self,
        x: Any,
        h: Any,
        c: Any,
        batch_first: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None: ...

class Stepper:
    def __init__(self, layers: list[Direction]) -> None: ...
    def cell(
        self, x: Any, h: Any, c: Any = None
    ) -> tuple[np.ndarray, np.ndarray | None] | None: ...
    def step(
        self, x: np.ndarray, h: np.ndarray | None, c: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]: ...
