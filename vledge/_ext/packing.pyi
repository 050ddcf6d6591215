import numpy as np

def gather(
    packed: np.ndarray,
    sequences: np.ndarray | list[np.ndarray],
    batch_sizes: np.ndarray,
    order: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> None: ...
def scatter(
    packed: np.ndarray,
    sequences: np.ndarray | list[np.ndarray],
    batch_sizes: np.ndarray,
    order: np.ndarray | None = None,
    starts: np.ndarray | None = None,
    padding: np.ndarray | None = None,
) -> None: ...
def sort_descending(lengths: np.ndarray) -> np.ndarray: ...
def are_batch_sizes(batch_sizes: np.ndarray, rows: int) -> bool: ...
def are_inverse(permutation: np.ndarray, inverse: np.ndarray) -> bool: ...
def running_out(falling: np.ndarray, size: int) -> np.ndarray: ...
