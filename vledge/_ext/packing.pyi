import numpy as np

def gather(
    padded: np.ndarray,
    packed: np.ndarray,
    batch_sizes: np.ndarray,
    order: np.ndarray | None,
    batch_first: bool,
) -> None: ...
def scatter(
    packed: np.ndarray,
    padded: np.ndarray,
    batch_sizes: np.ndarray,
    order: np.ndarray | None,
    batch_first: bool,
) -> None: ...
