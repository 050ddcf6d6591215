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
def are_batch_sizes(batch_sizes: np.ndarray, rows: int) -> bool: ...
def are_inverse(permutation: np.ndarray, inverse: np.ndarray) -> bool: ...
def running_out(falling: np.ndarray, size: int) -> np.ndarray: ...
