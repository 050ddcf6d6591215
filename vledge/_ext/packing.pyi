import numpy as np

def gather(
    packed: int,
    addresses: np.ndarray,
    stride: int,
    batch_sizes: np.ndarray,
    row_nbytes: int,
) -> None: ...
def scatter(
    packed: int,
    addresses: np.ndarray,
    stride: int,
    batch_sizes: np.ndarray,
    row_nbytes: int,
    steps: int,
    padding: int,
) -> None: ...
def sort_descending(lengths: np.ndarray) -> np.ndarray: ...
