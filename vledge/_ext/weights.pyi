import numpy as np

GATES: dict[str, int]
FUNCTIONS: dict[str, int]

def vector_count(gates: int, hidden_size: int, lanes: int) -> int: ...

class Direction:
    cell: str
    dtype: np.dtype
    input_size: int
    hidden_size: int
    proj_size: int
    reverse: bool
    activations: tuple[tuple[str, float, float], ...] | None
    def __init__(
        self,
        cell: str,
        weight_ih: np.ndarray,
        weight_hh: np.ndarray,
        bias_ih: np.ndarray | None = None,
        bias_hh: np.ndarray | None = None,
        weight_hr: np.ndarray | None = None,
        reverse: bool = False,
        activations: tuple[tuple[str, float, float], ...] | None = None,
    ) -> None: ...
    @property
    def address(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def weight_ih(self) -> np.ndarray: ...
    def weight_hh(self) -> np.ndarray: ...
    def weight_hr(self) -> np.ndarray | None: ...
    def bias_ih(self) -> np.ndarray | None: ...
    def bias_hh(self) -> np.ndarray | None: ...
