from collections.abc import Sequence

import numpy as np

class Convolution:
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    transposed: bool
    dtype: np.dtype
    in_channels: int
    out_channels: int
    groups: int
    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        strides: Sequence[int],
        dilations: Sequence[int],
        groups: int = 1,
        transposed: bool = False,
        winograd: bool = False,
        leaves_out: bool = False,
    ) -> None: ...
    def __call__(
        self,
        x: np.ndarray,
        sizes: Sequence[int],
        before: Sequence[int],
        low: float | None = None,
        high: float | None = None,
        slope: float | np.ndarray | None = None,
        threads: int | None = None,
    ) -> np.ndarray: ...
    def weight(self) -> np.ndarray: ...
    def bias(self) -> np.ndarray | None: ...
    @property
    def form(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
