"""Finds the coefficients in vledge/graph/operators/error_function.py; needs mpmath.

erf(x) / x is a function of u = x², fitted by P(u) / Q(u) with the least relative error: the linear
least-squares problem of P - f Q, divided by the last Q (Sanathanan and Koerner) and weighted by the
last error (Lawson), again and again. Degrees are the least for which the error is far below half an
ulp and every coefficient is positive, so that evaluating loses nothing to cancellation.

    python tools/erf_coefficients.py
"""

from __future__ import annotations

from typing import Any

from mpmath import cos, erf, matrix, mp, mpf, pi, polyval, qr_solve, sqrt

ROUNDS = 14


def fit(p_degree: int, q_degree: int, top: int) -> tuple[Any, list[Any], list[Any]]:
    """The largest relative error on u in [0, top]; the coefficients of P and Q, lowest first."""
    count = 2 * (p_degree + q_degree + 2)
    nodes = [(1 - cos(pi * (2 * k + 1) / (2 * count))) / 2 for k in range(count)]
    wanted = [erf(sqrt(t * top)) / sqrt(t * top) for t in nodes]
    weights, last = [mpf(1)] * count, [mpf(1)] * count
    best: tuple[Any, list[Any], list[Any]] = (mpf("inf"), [], [])
    for _ in range(ROUNDS):
        rows, right = matrix(count, p_degree + q_degree + 1), matrix(count, 1)
        for i, (t, f) in enumerate(zip(nodes, wanted, strict=True)):
            scale = sqrt(weights[i]) / (last[i] * f)
            for j in range(p_degree + 1):
                rows[i, j] = scale * t**j
            for j in range(1, q_degree + 1):
                rows[i, p_degree + j] = -scale * f * t**j
            right[i] = scale * f
        solved = list(qr_solve(rows, right)[0])
        p, q = solved[: p_degree + 1], [mpf(1), *solved[p_degree + 1 :]]
        last = [polyval(q[::-1], t) for t in nodes]
        errors = [
            abs(polyval(p[::-1], t) / q_t / f - 1)
            for t, q_t, f in zip(nodes, last, wanted, strict=True)
        ]
        worst = max(errors)
        if worst < best[0]:
            best = (worst, p, q)
        weights = [w * (e / worst + mpf("1e-3")) for w, e in zip(weights, errors, strict=True)]
        total = sum(weights) / count
        weights = [w / total for w in weights]
    worst, p, q = best
    powers = [mpf(top) ** j for j in range(q_degree + 1)]
    return (
        worst,
        [c / s for c, s in zip(p, powers, strict=False)],
        [c / s for c, s in zip(q, powers, strict=True)],
    )


def main() -> None:
    mp.dps = 60
    for name, p_degree, q_degree, top in (("SINGLE", 5, 6, 16), ("DOUBLE", 12, 12, 36)):
        worst, p, q = fit(p_degree, q_degree, top)
        print(f"# {name}: |x| <= {top**0.5:g}, relative error {mp.nstr(worst, 2)}")
        for label, coefficients in (("P", p), ("Q", q)):
            print(f"{label} = [{', '.join(repr(float(c)) for c in coefficients)}]")


if __name__ == "__main__":
    main()
