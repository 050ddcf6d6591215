"""How much published models compute, beside what they are given: what a limit would allow.

Multiply-adds of a run's products, convolutions and recurrences, as `InferenceSession.profile`
counts them, by the elements of the file's weights and of the inputs, and by their product.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np

COUNT: Final = 0


def measure(count: int) -> tuple[int, str]:
    """No faults, and what there is to say: of all models, or the first ``count``."""
    import vledge
    from benchmarks.measuring.published import MODELS, feed_of, path_of

    rows = []
    for model in MODELS[: count or None]:
        path = path_of(model)
        session = vledge.InferenceSession(str(path))
        feed = feed_of(model, session)
        work = sum(row.operations for row in session.profile(feed).rows) // 2
        weights = Path(path).stat().st_size / 4
        given = sum(np.asarray(x).size for x in feed.values())
        rows.append((work, work / (weights + given), work / (weights * given), model.name))
        print(
            f"{model.name}: {work:.3g} multiply-adds, {rows[-1][1]:.3g} an element of the file or "
            f"the inputs, {rows[-1][2]:.3g} a pair of one of each",
            file=sys.stderr,
            flush=True,
        )
    most = [max(rows, key=lambda row, k=k: row[k]) for k in range(3)]
    line = (
        f"{len(rows)} published models compute at most {most[0][0]:.3g} multiply-adds "
        f"({most[0][3]}), "
        f"{most[1][1]:,.0f} an element of file and inputs ({most[1][3]}), {most[2][2]:,.2f} a pair "
        f"({most[2][3]})"
    )
    return 0, line
