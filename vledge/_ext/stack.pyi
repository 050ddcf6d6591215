import numpy as np

from vledge._ext.weights import Direction

class Stack:
    def __init__(self, layers: list[list[Direction]]) -> None: ...
    def run(
        self,
        x: object,
        h: object,
        c: object,
        batch_first: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None: ...

class Stepper:
    def __init__(self, layers: list[Direction]) -> None: ...
    def cell(
        self, x: object, h: object, c: object = None
    ) -> tuple[np.ndarray, np.ndarray | None] | None: ...
    def step(
        self, x: np.ndarray, h: np.ndarray | None, c: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]: ...
