import numpy as np

from vledge.small_matrix import SmallMatrix

class Product:
    columns: int
    depth: int
    packed: np.ndarray
    bias_vectors: np.ndarray | None
    dtype: np.dtype
    storage: str | None
    def __init__(
        self, weight: np.ndarray | SmallMatrix, bias: np.ndarray | None = None
    ) -> None: ...
    def __call__(
        self,
        x: np.ndarray,
        relu: bool = False,
        out: np.ndarray | None = None,
        threads: int | None = None,
    ) -> np.ndarray: ...
    def weight(self) -> np.ndarray: ...
    def bias(self) -> np.ndarray | None: ...
    @property
    def nbytes(self) -> int: ...
