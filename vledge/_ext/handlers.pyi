from collections.abc import Sequence

import numpy as np

def run(
    name: str,
    inputs: Sequence[np.ndarray | None],
    ints: Sequence[int] = (),
    floats: Sequence[float] = (),
    outputs: int = 1,
    threads: int = 1,
    repeat: int = 0,
) -> list[np.ndarray] | None: ...
