from typing import NamedTuple

import numpy as np

from vledge.small_matrix import SmallMatrix

GATES: dict[str, int]

class Storage(NamedTuple):
    number: int
    itemsize: int
    small: bool

STORAGES: dict[str, Storage]
FUNCTIONS: dict[str, int]

class Direction:
    cell: str
    dtype: np.dtype
    storage: str
    input_size: int
    hidden_size: int
    proj_size: int
    reverse: bool
    activations: tuple[tuple[str, float, float], ...] | None
    def __init__(
        self,
        cell: str,
        weight_ih: np.ndarray | SmallMatrix,
        weight_hh: np.ndarray | SmallMatrix,
        bias_ih: np.ndarray | None = None,
        bias_hh: np.ndarray | None = None,
        weight_hr: np.ndarray | SmallMatrix | None = None,
        reverse: bool = False,
        activations: tuple[tuple[str, float, float], ...] | None = None,
        storage: str | None = None,
    ) -> None: ...
    @property
    def address(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def stored(self, name: str) -> np.ndarray | SmallMatrix | None: ...
    def weight_ih(self) -> np.ndarray: ...
    def weight_hh(self) -> np.ndarray: ...
    def weight_hr(self) -> np.ndarray | None: ...
    def bias_ih(self) -> np.ndarray | None: ...
    def bias_hh(self) -> np.ndarray | None: ...
