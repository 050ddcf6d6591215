"""Finds the coefficients in ext/simd/vectors/functions.h; needs mpmath.

Each is a polynomial with the least relative error of the function that it is part of: least
squares, weighted by the last error (Lawson), again and again. The error printed is that of the
coefficients rounded to float32 but evaluated exactly; an ulp of float32 is 6e-8 to 1.2e-7.

    python tools/function_coefficients.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import asin, atan, cos, erf, erfc, log, log1p, matrix, mp, mpf, pi, qr_solve, sin, sqrt

ROUNDS = 12


def fit(
    name: str,
    degree: int,
    low: Any,
    high: Any,
    wanted: Callable[[Any], Any],
    weight: Callable[[Any], Any],
) -> None:
    """sum c_j t^j close to wanted(t); weight(t) is what an error of 1 there means in the end."""
    count = 4 * (degree + 1)
    nodes = [
        low + (high - low) * (1 - cos(pi * (2 * k + 1) / (2 * count))) / 2 for k in range(count)
    ]
    values, scales = [wanted(t) for t in nodes], [weight(t) for t in nodes]
    weights = [mpf(1)] * count
    best: tuple[Any, list[Any]] = (mpf("inf"), [])
    for _ in range(ROUNDS):
        rows, right = matrix(count, degree + 1), matrix(count, 1)
        for i, t in enumerate(nodes):
            scale = sqrt(weights[i]) * scales[i]
            for j in range(degree + 1):
                rows[i, j] = scale * t**j
            right[i] = scale * values[i]
        solved = list(qr_solve(rows, right)[0])
        rounded = [mpf(float(np.float32(float(c)))) for c in solved]
        errors = [
            abs(_at(solved, t) - v) * s for t, v, s in zip(nodes, values, scales, strict=True)
        ]
        worst = max(
            abs(_at(rounded, t) - v) * s for t, v, s in zip(nodes, values, scales, strict=True)
        )
        if worst < best[0]:
            best = (worst, solved)
        top = max(errors)
        weights = [w * (e / top + mpf("1e-3")) for w, e in zip(weights, errors, strict=True)]
        total = sum(weights) / count
        weights = [w / total for w in weights]
    print(f"{name}: error {mp.nstr(best[0], 2)}, lowest power first")
    print("   ", ", ".join(float(np.float32(float(c))).hex() for c in best[1]))


def _at(coefficients: list[Any], t: Any) -> Any:
    result = mpf(0)
    for c in reversed(coefficients):
        result = result * t + c
    return result


def main() -> None:
    mp.dps = 40
    tiny = mpf("1e-12")

    def log_rest(f: Any) -> Any:
        f = f if abs(f) > tiny else tiny
        return (log1p(f) - f + f * f / 2) / f**3

    fit(
        "log: (log(1+f) - f + f^2/2) / f^3",
        8,
        sqrt(mpf(1) / 2) - 1,
        sqrt(mpf(2)) - 1,
        log_rest,
        lambda f: abs(f**3 / log1p(f)) if f else mpf(0),
    )
    fit(
        "sin: (sin(r) - r) / r^3 of r^2",
        3,
        mpf("1e-6"),
        (pi / 4) ** 2,
        lambda u: (sin(sqrt(u)) - sqrt(u)) / sqrt(u) ** 3,
        lambda u: sqrt(u) ** 3 / sin(sqrt(u)),
    )
    fit(
        "cos: (cos(r) - 1 + r^2/2) / r^4 of r^2",
        2,
        mpf("1e-4"),
        (pi / 4) ** 2,
        lambda u: (cos(sqrt(u)) - 1 + u / 2) / u**2,
        lambda u: u**2 / cos(sqrt(u)),
    )
    cut = mpf("0.921875")
    fit(
        "erf near: erf(x) / x - 1 of x^2, |x| < 0.921875",
        5,
        mpf("1e-8"),
        cut**2,
        lambda u: erf(sqrt(u)) / sqrt(u) - 1,
        lambda u: sqrt(u) / erf(sqrt(u)),
    )
    fit(
        "erf far: log(erfc(t)) / t + 1, 0.921875 <= t < 4",
        6,
        cut,
        mpf(4),
        lambda t: log(erfc(t)) / t + 1,
        lambda t: erfc(t) * t / erf(t),
    )
    fit(
        "atan: (atan(t) - t) / t^3 of t^2, t <= 1",
        7,
        mpf("1e-6"),
        mpf(1),
        lambda u: (atan(sqrt(u)) - sqrt(u)) / sqrt(u) ** 3,
        lambda u: sqrt(u) ** 3 / atan(sqrt(u)),
    )
    fit(
        "asin: (asin(t) - t) / t^3 of t^2, t <= 1/2",
        4,
        mpf("1e-6"),
        mpf("0.25"),
        lambda u: (asin(sqrt(u)) - sqrt(u)) / sqrt(u) ** 3,
        lambda u: sqrt(u) ** 3 / asin(sqrt(u)),
    )


if __name__ == "__main__":
    main()
