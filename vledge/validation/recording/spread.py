"""How far a framework's float32 results scatter: what its one recorded run happens not to show.

Where a model amplifies rounding, as recurrent layers do on some inputs, the error of one run is an
accident. Runs whose inputs are moved by one unit in the last place show what it might have been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vledge.validation.reference.bundle import Case, Reference
from vledge.validation.reference.compare import real

__all__ = ["spread"]

RUNS = 8  # of each case


def spread(
    reference: Reference, run: Callable[[int, Case], Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """Each value's largest float32 error over runs with moved inputs, where float64 tells it.

    ``run`` gives the framework's float32 outputs and layers for the case of a number.
    """
    rng = np.random.default_rng(reference.seed or 0)
    found: dict[str, float] = {}
    for number, case in enumerate(reference.cases):
        for _ in range(RUNS if case.exact else 0):
            inputs = {name: _moved(array, rng) for name, array in case.inputs.items()}
            results = run(number, Case(inputs, {}))
            for name, exact in case.exact.items():
                error = np.abs(results[name].astype(np.float64) - exact)
                error = error[real(case, reference, name) & np.isfinite(error)]
                found[name] = max(found.get(name, 0.0), float(error.max(initial=0)))
    return found


def _moved(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every float32 or float16 number up or down to the next one; all else as it is."""
    if array.dtype not in (np.float32, np.float16):
        return array
    towards = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
    return np.where(np.isfinite(array) & (array != 0), np.nextafter(array, towards), array)
