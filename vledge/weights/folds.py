"""Weights that a checkpoint holds in pieces, put together as torch does in ``eval()``, in float64.

What belongs together is told by names and shapes alone: `recipes` finds it, `Recipe.fold` computes.
A fold's result is float64 where a piece is, else float32. Which array a name stands for, and what
wraps a name, is `plain`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["Recipe", "piece", "recipes", "refusal"]

Shape = tuple[int, ...]

# A parametrisation's tensors: X.parametrizations.W.original…, and the k-th step's buffers.
_PARAMETRIZED = re.compile(
    r"(?P<parent>(?:.*\.)?)parametrizations\.(?P<weight>[^.]+)\.(?P<role>original\d*|\d+\..+)"
)
_SUFFIXED = re.compile(r"(?P<base>.+)_(?P<role>g|v|u|orig|mask|raw|bar)")
# What may be in pieces by their names' ends alone: others' x_g and x_v are names like any.
_WEIGHT = re.compile(r"(?:.*\.)?(?:[^.]*_)?(?:weight|bias)(?:_[^.]*)?")
_RECURRENT = re.compile(r"(?:.*\.)?(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+)?(?:_reverse)?")

WEIGHT_DROP = "weight drop"
SETTLED = 0.99  # a cosine: 1 at a power iteration, and a training step later still close to it
WAY_OUT = (
    "take it off before saving (torch.nn.utils.parametrize.remove_parametrizations, "
    "remove_weight_norm, remove_spectral_norm, prune.remove), or write the model by vledge.export"
)


class Recipe(NamedTuple):
    """How a weight is made from pieces: ``fold(*arrays of parts)``.

    ``overrides``: the weight itself, if it stands in the file too, is a leftover of training and
    not looked at. Else the two must agree.
    """

    by: str
    parts: tuple[str, ...]
    fold: Callable[..., np.ndarray]
    shape: Shape
    overrides: bool = False


def piece(name: str) -> tuple[str, str] | None:
    """The weight that a name may be a piece of, and which: ``("rnn.weight_hh_l0", "g")``."""
    if match := _PARAMETRIZED.fullmatch(name):
        return match["parent"] + match["weight"], match["role"]
    if match := _SUFFIXED.fullmatch(name):
        base = match["base"]
        if _WEIGHT.fullmatch(base) or _PARAMETRIZED.fullmatch(base):
            return base, match["role"]
    return None


def recipes(
    base: str, roles: Mapping[str, str], shapes: Mapping[str, Shape], dropped: bool
) -> list[Recipe]:
    """How weight ``base`` is made from those of its pieces (role → name) that are there.

    None where they make nothing known, or are perhaps names like others; several contradict each
    other. ``dropped``: whether a WeightDrop is around the module, which is not seen in the name of
    every weight.
    """
    if any(_is_step(role) for role in roles):
        parametrized = _parametrized(roles, shapes)
        return [parametrized] if parametrized else []
    own = {role: shapes[name] for role, name in roles.items()}
    made = []

    def add(by: str, taken: str, fold: Callable[..., np.ndarray], shape: Shape) -> None:
        parts = tuple(roles[role] for role in taken.split())
        made.append(Recipe(by, parts, fold, shape, overrides=by == WEIGHT_DROP))

    raw = own.get("raw")
    recurrent = dropped or _RECURRENT.fullmatch(base)
    if raw is not None and recurrent and shapes.get(base, raw) == raw:
        add(WEIGHT_DROP, "raw", _same, raw)
    match own:
        case {"orig": original, "mask": mask} if "u" not in own and original == mask:
            add("pruning mask", "orig mask", _pruned, original)
        case {"orig": original, "u": u, "v": v} if "mask" not in own:
            if _spectral_axes(original, u, v):
                add("spectral norm", "orig u v", _spectral_norm, original)
    match own:
        case {"g": g, "v": v} if _fits_as_norm(g, v):
            add("weight norm", "g v", _weight_norm, v)
    return made


def refusal(base: str, roles: Mapping[str, str], given: bool) -> str | None:
    """Why ``base`` cannot be made from pieces that `recipes` does not know; None if they may be
    weights of their own. ``given``: whether the weight stands in the file itself."""
    names = ", ".join(repr(name) for name in roles.values())
    if any(_is_step(role) for role in roles):
        what = "a parametrisation whose function the file does not tell"
        if any(role.endswith(".base") for role in roles):
            what = (
                "an orthogonal parametrisation: matrix_exp, Cayley and Householder look alike in a "
                "file"
            )
    elif given or not roles.keys() & {"orig", "bar", "g"}:
        return None
    elif {"bar", "u"} <= roles.keys():
        what = "a spectral norm that goes on changing its vectors when the model runs"
    elif "g" in roles:
        what = "a weight norm without its other half, or one that does not fit"
    else:
        what = "a pruned or normalised weight without its mask, or its vectors u and v, that fit"
    return f"{base!r} is only there as {names}, {what}; {WAY_OUT}"


def _is_step(role: str) -> bool:
    return role.startswith("original") or role[:1].isdigit()


def _parametrized(roles: Mapping[str, str], shapes: Mapping[str, Shape]) -> Recipe | None:
    """Weight norm, then spectral norms: the parametrisations of torch that a file tells whole."""
    left = dict(roles)
    kinds: list[str] = []
    step = 0
    if "original1" in left and "original0" in left:
        parts = [left.pop("original0"), left.pop("original1")]
        if not _fits_as_norm(shapes[parts[0]], shapes[parts[1]]):
            return None
        kinds.append("weight norm")
        step = 1
    elif "original" in left:
        parts = [left.pop("original")]
    else:
        return None
    shape = shapes[parts[-1]]
    while left:
        u, v = left.pop(f"{step}._u", None), left.pop(f"{step}._v", None)
        if u is None or v is None or not _spectral_axes(shape, shapes[u], shapes[v]):
            return None
        parts += [u, v]
        kinds.append("spectral norm")
        step += 1
    if not kinds:  # original alone: any function of it
        return None
    normed = kinds[0] == "weight norm"

    def fold(*arrays: np.ndarray) -> np.ndarray:
        weight = _weight_norm(*arrays[:2]) if normed else arrays[0]
        vectors = arrays[2 if normed else 1 :]
        for u, v in zip(vectors[::2], vectors[1::2], strict=True):
            weight = _spectral_norm(weight, u, v)
        return weight

    return Recipe(" and ".join(kinds), tuple(parts), fold, shape)


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _pruned(original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``W_orig * mask``. Source: torch.nn.utils.prune.BasePruningMethod.apply_mask."""
    return _wide(original) * _wide(mask)


def _fits_as_norm(g: Shape, v: Shape) -> bool:
    """Whether g has one norm for each index of one axis of v, or one for all of it."""
    if not g:
        return bool(v)
    kept = [n for n in g if n != 1]
    return (
        len(g) == len(v) and len(kept) <= 1 and all(m in (1, n) for m, n in zip(g, v, strict=True))
    )


def _weight_norm(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``v * (g / |v|)``, the norm over the axes along which g has one value.

    Source: torch.nn.utils.weight_norm, arXiv:1602.07868.
    """
    g, v = _wide(g), _wide(v)
    axes = tuple(axis for axis in range(v.ndim) if not g.ndim or g.shape[axis] == 1)
    norm = np.sqrt(np.square(v).sum(axes, keepdims=True))
    return v * (g / norm)


def _spectral_axes(weight: Shape, u: Shape, v: Shape) -> list[int]:
    """The axes of the weight whose rows u and v may belong to."""
    if len(weight) < 2 or len(u) != 1 or len(v) != 1 or 0 in weight:
        return []
    size = math.prod(weight)
    return [axis for axis, n in enumerate(weight) if (u[0], v[0]) == (n, size // n)]


def _spectral_norm(weight: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``W / (u W v)`` with u and v as the last training step left them.

    W's rows are its first axis; of a transposed convolution they are its second, which no name
    tells where both are of one size. ValueError where the vectors say so.
    Source: torch.nn.utils.parametrizations.spectral_norm, arXiv:1802.05957.
    """
    weight, u, v = _wide(weight), _wide(u), _wide(v)
    axes = _spectral_axes(weight.shape, u.shape, v.shape)
    matrices = [np.moveaxis(weight, axis, 0).reshape(len(u), -1) for axis in axes]
    settled = [_settled(matrix, u, v) for matrix in matrices]
    if weight.ndim > 2 and any(settled) and not settled[0]:
        raise ValueError(
            f"a spectral norm whose vectors fit several axes of shape {weight.shape}, and "
            f"another better than the first; {WAY_OUT}"
        )
    return weight / (u @ matrices[0] @ v)


def _settled(matrix: np.ndarray, u: np.ndarray, v: np.ndarray) -> bool:
    """Whether a power iteration on the matrix has made one of the vectors from the other."""
    right, left = np.linalg.norm(matrix @ v), np.linalg.norm(u @ matrix)
    return bool(abs(u @ matrix @ v) >= SETTLED * min(right, left))


def _wide(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"a piece of a weight has dtype {array.dtype}, expected real numbers")
    return array.astype(np.float64)
