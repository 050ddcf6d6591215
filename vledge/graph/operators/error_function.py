"""Erf, and Gelu, which is made of it: NumPy has no error function, and scipy's import is slow.

erf(x) = x P(x²) / Q(x²) with positive coefficients, found by tools/erf_coefficients.py. float32 is
computed in double precision and rounded once (error ≤ 0.6 ulp); float64 has an error ≤ 8 ulp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.registry import Context, operator, prepared_operator

__all__ = ["erf"]

# limit of |x|, beyond which erf is 1 in this precision; P; Q; lowest power first
_Fit = tuple[float, tuple[float, ...], tuple[float, ...]]
# fmt: off
_SINGLE: Final[_Fit] = (
    4.0,
    (1.1283791712153126, 0.19284156091657118, 0.0557760377651979, 0.004229265985782099,
     0.0004127190287617018, 6.8467509967637806e-06),
    (1.0, 0.5042348285557345, 0.11750779745514768, 0.016305160122499024, 0.0014236631314841345,
     7.296978287641582e-05, 2.634686036696613e-07),
)
_DOUBLE: Final[_Fit] = (
    6.0,
    (1.1283791670955126, 0.22161828264972883, 0.06637854807684633, 0.0069686619177529744,
     0.0008628622036929043, 5.784347695545123e-05, 3.949458758429639e-06, 1.726735084292179e-07,
     6.853240730424178e-09, 1.7492768680816332e-10, 3.3294878332478653e-12, 2.1683507344550183e-14,
     1.5025606150759727e-17),
    (1.0, 0.5297374225901186, 0.13540559744158737, 0.022146796523324058, 0.002589563628564454,
     0.00022880115556864398, 1.5716342758039484e-05, 8.481363507098372e-07, 3.573621537481345e-08,
     1.1419899922841787e-09, 2.5766397787770907e-11, 3.268911842421251e-13, 8.535566050292847e-16),
)
# fmt: on


def erf(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The error function in double precision, as accurate as a result of this dtype needs it."""
    limit, p, q = _DOUBLE if dtype.itemsize > 4 else _SINGLE
    x = np.clip(np.asarray(x, np.float64), -limit, limit)
    u = np.square(x)
    return np.minimum(np.maximum(x * _polynomial(p, u) / _polynomial(q, u), -1.0), 1.0)


def _polynomial(coefficients: tuple[float, ...], u: np.ndarray) -> np.ndarray:
    result = coefficients[-1] * u
    for coefficient in coefficients[-2:0:-1]:
        result += coefficient
        result *= u
    result += coefficients[0]
    return result


@operator("Erf", since=9, pointwise=True)
def erf_(x: np.ndarray) -> np.ndarray:
    return erf(x, x.dtype).astype(x.dtype)


@prepared_operator("Gelu", since=1, domain="vledge")  # which the pass "gelus" makes
@prepared_operator("Gelu", since=20, pointwise=True)
def gelu(context: Context, *, approximate: str = "none") -> Callable[..., np.ndarray]:
    if approximate not in ("none", "tanh"):
        raise FormatError(f"approximate is {approximate!r}, expected 'none' or 'tanh'")
    return _gelu if approximate == "none" else _gelu_by_tanh


def _gelu(x: np.ndarray) -> np.ndarray:
    half = x * np.float64(0.5)
    return (half + half * erf(x * np.float64(np.sqrt(0.5)), x.dtype)).astype(x.dtype)


def _gelu_by_tanh(x: np.ndarray) -> np.ndarray:
    of = x.dtype.type
    inner = of(np.sqrt(2 / np.pi)) * (x + of(0.044715) * x * x * x)
    return of(0.5) * x * (of(1) + np.tanh(inner))
