"""Weights into a tree of modules by their names: all that does not fit is one error, or nothing is.

`Module` knows what it declares and keeps its arrays; here a state dict is compared with that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, cast

import numpy as np

from vledge.array_like import ArrayLike, array_of
from vledge.pieces import converted
from vledge.small_matrix import SmallMatrix
from vledge.weights.plain import PlainWeights

__all__ = ["Declared", "LoadResult", "fitting", "load"]


class Declared(NamedTuple):
    """What is known of a weight before it is loaded."""

    shape: tuple[int, ...]
    dtype: np.dtype
    buffer: bool = False
    optional: bool = False
    small: bool = False  #: a layer takes it as a SmallMatrix, too


class LoadResult(NamedTuple):
    """The names that ``load_state_dict(strict=False)`` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Owner(Protocol):
    """A module, as far as it takes arrays."""

    _tied: dict[str, object]  #: what own weights have in common with those that they are one with

    def _load_own(self, arrays: dict[str, np.ndarray]) -> None: ...


def load(
    kind: str,
    declared_here: Iterable[tuple[str, Owner, str, Declared]],
    state_dict: Mapping[str, np.ndarray],
    strict: bool,
    prefix: str,
) -> LoadResult:
    """`Module.load_state_dict`, which says what is done, of a module of this kind.

    ``declared_here``: each weight's full name, the module that has it, its name there, and what is
    known of it.
    """
    expected = list(declared_here)
    names = {full for full, *_ in expected}
    state = PlainWeights(state_dict, expected=names)
    tied = _tied(expected)
    keys = {full: _key(full, tied, state) for full in names}
    missing = [full for full, _, _, d in expected if keys[full] not in state and not d.optional]
    unexpected = [
        key
        for name in state
        if name not in names and name.startswith(prefix)
        for key in state.keys_of(name)
    ]
    problems = []
    if strict and unexpected:
        problems.append("Unexpected key(s) in state_dict: " + _quoted(unexpected))
    if strict and missing:
        problems.append("Missing key(s) in state_dict: " + _quoted(missing))
        if len(missing) == sum(not declared.optional for *_, declared in expected):
            problems += _other_prefix(state, [name.removeprefix(prefix) for name in missing])
    loads: dict[int, tuple[Owner, dict[str, np.ndarray]]] = {}
    fit: set[str] = set()
    for full, owner, local, declared in expected:
        if keys[full] in state:
            try:
                array = fitting(full, state[keys[full]], declared)
            except ValueError as error:
                problems.append(str(error))
            else:
                loads.setdefault(id(owner), (owner, {}))[1][local] = array
                fit.add(full)
    problems += _contradictions(tied, state, fit)
    if problems:
        raise RuntimeError(
            f"Error(s) in loading state_dict for {kind}:\n\t" + "\n\t".join(problems)
        )
    for owner, arrays in loads.values():
        owner._load_own(arrays)
    return LoadResult(missing, unexpected)


def _tied(expected: list[tuple[str, Owner, str, Declared]]) -> dict[str, list[str]]:
    """Full name → all names of that weight, for those that the model has made one."""
    groups: dict[int, list[str]] = {}
    for full, owner, local, _ in expected:
        if local in owner._tied:
            groups.setdefault(id(owner._tied[local]), []).append(full)
    return {name: group for group in groups.values() for name in group}


def _key(full: str, tied: Mapping[str, list[str]], state: PlainWeights) -> str:
    """The name that a weight has in the file: its own, or another one of the same weight."""
    return next((n for n in (full, *tied.get(full, ())) if n in state), full)


def _contradictions(tied: Mapping[str, list[str]], state: PlainWeights, fit: set[str]) -> list[str]:
    """One weight, of which the file has two that would ``fit``."""
    problems = []
    for group in {id(group): group for group in tied.values()}.values():
        held = [name for name in group if name in state and name in fit]
        first, *others = held or [""]
        for name in others:
            arrays = state[first], state[name]
            small = any(isinstance(array, SmallMatrix) for array in arrays)
            if not small and not np.array_equal(*arrays, equal_nan=True):
                problems.append(
                    f'"{first}" and "{name}" are one weight of the model, and differ in state_dict'
                )
    return problems


def fitting(name: str, given: ArrayLike, declared: Declared) -> np.ndarray:
    """The array in the declared dtype, if its shape and kind fit; small weights as they are, to who
    takes them."""
    rows = (*declared.shape[:1], math.prod(declared.shape[1:]))
    if (
        isinstance(given, SmallMatrix) and given.shape == rows
    ):  # of two axes, whatever it stands for
        if declared.small and declared.dtype == given.dtype:
            return cast(np.ndarray, given)
        given = np.asarray(given).reshape(declared.shape)
    array = array_of(given, name)
    if array.shape != declared.shape:
        raise ValueError(
            f"size mismatch for {name}: copying a param with shape {array.shape} from checkpoint, "
            f"the shape in current model is {declared.shape}."
        )
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {array.dtype}, expected a real number type")
    return converted(np.atleast_1d(array), declared.dtype)


def _other_prefix(state: PlainWeights, names: list[str]) -> list[str]:
    """A suggestion, if all names are there under a prefix."""
    ends = [name.removesuffix(names[0]) for name in state if name.endswith("." + names[0])]
    prefixes = [end for end in ends if all(end + name in state for name in names)]
    return [f"did you mean prefix={prefixes[0]!r}?"] if prefixes else []


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) + "."
