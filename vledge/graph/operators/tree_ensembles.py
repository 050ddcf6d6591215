"""ai.onnx.ml's TreeEnsembleRegressor and TreeEnsembleClassifier: forests and boosted trees.

All trees are walked at once, a level at a time: a leaf is its own child, so that rows that have
arrived stay there. Source: Operators-ml.md; labels and scores of two classes are onnxruntime's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.registry import Context, prepared_operator
from vledge.graph.trees import Trees

_DOMAIN: Final = "ai.onnx.ml"
_Labels = tuple[np.ndarray, np.ndarray]


@prepared_operator("TreeEnsembleRegressor", since=1, domain=_DOMAIN)
def tree_ensemble_regressor(
    context: Context,
    *,
    aggregate_function: str = "SUM",
    base_values: list[float] | None = None,
    base_values_as_tensor: np.ndarray | None = None,
    n_targets: int = 1,
    nodes_falsenodeids: list[int],
    nodes_featureids: list[int],
    nodes_hitrates: list[float] | None = None,
    nodes_hitrates_as_tensor: np.ndarray | None = None,
    nodes_missing_value_tracks_true: list[int] | None = None,
    nodes_modes: list[str],
    nodes_nodeids: list[int],
    nodes_treeids: list[int],
    nodes_truenodeids: list[int],
    nodes_values: list[float] | None = None,
    nodes_values_as_tensor: np.ndarray | None = None,
    post_transform: str = "NONE",
    target_ids: list[int],
    target_nodeids: list[int],
    target_treeids: list[int],
    target_weights: list[float] | None = None,
    target_weights_as_tensor: np.ndarray | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    transform = _transform(post_transform)
    if aggregate_function not in ("SUM", "AVERAGE", "MIN", "MAX"):
        raise FormatError(
            f"aggregate_function is {aggregate_function!r}, expected SUM, AVERAGE, MIN or MAX"
        )
    trees = Trees(
        (nodes_treeids, nodes_nodeids, nodes_featureids, nodes_truenodeids, nodes_falsenodeids),
        _numbers(nodes_values, nodes_values_as_tensor),
        nodes_modes,
        nodes_missing_value_tracks_true or [],
        (target_treeids, target_nodeids, target_ids),
        _numbers(target_weights, target_weights_as_tensor),
        n_targets,
    )
    base = _numbers(base_values, base_values_as_tensor)
    if len(base) not in (0, 1, n_targets):
        raise FormatError(f"there are {len(base)} base_values for {n_targets} targets")

    def run(x: np.ndarray) -> np.ndarray:
        scores = trees.scores(_table(x), aggregate_function)
        if len(base):
            scores += base
        return transform(scores).astype(np.float32)

    return run


@prepared_operator("TreeEnsembleClassifier", since=1, domain=_DOMAIN)
def tree_ensemble_classifier(
    context: Context,
    *,
    base_values: list[float] | None = None,
    base_values_as_tensor: np.ndarray | None = None,
    class_ids: list[int],
    class_nodeids: list[int],
    class_treeids: list[int],
    class_weights: list[float] | None = None,
    class_weights_as_tensor: np.ndarray | None = None,
    classlabels_int64s: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    nodes_falsenodeids: list[int],
    nodes_featureids: list[int],
    nodes_hitrates: list[float] | None = None,
    nodes_hitrates_as_tensor: np.ndarray | None = None,
    nodes_missing_value_tracks_true: list[int] | None = None,
    nodes_modes: list[str],
    nodes_nodeids: list[int],
    nodes_treeids: list[int],
    nodes_truenodeids: list[int],
    nodes_values: list[float] | None = None,
    nodes_values_as_tensor: np.ndarray | None = None,
    post_transform: str = "NONE",
) -> Callable[[np.ndarray], _Labels]:
    transform = _transform(post_transform)
    labels = (
        np.array(classlabels_strings, object)
        if classlabels_strings
        else np.array(classlabels_int64s or [], np.int64)
    )
    if not len(labels):
        raise FormatError("there are no class labels")
    trees = Trees(
        (nodes_treeids, nodes_nodeids, nodes_featureids, nodes_truenodeids, nodes_falsenodeids),
        _numbers(nodes_values, nodes_values_as_tensor),
        nodes_modes,
        nodes_missing_value_tracks_true or [],
        (class_treeids, class_nodeids, class_ids),
        weights := _numbers(class_weights, class_weights_as_tensor),
        max(len(labels), 1),
    )
    base = _numbers(base_values, base_values_as_tensor)
    if len(base) not in (0, 1, len(labels)):
        raise FormatError(f"there are {len(base)} base_values for {len(labels)} classes")
    if len(labels) == 2 and len(set(class_ids)) == 1:
        binary = _Binary(labels, class_ids[0], base, bool((weights >= 0).all()), post_transform)
        return lambda x: binary(trees.scores(_table(x), "SUM"))

    def run(x: np.ndarray) -> _Labels:
        scores = trees.scores(_table(x), "SUM")
        if len(base):
            scores += base
        return labels[scores.argmax(1)], transform(scores).astype(np.float32)

    return run


@dataclass(frozen=True)
class _Binary:
    """Two classes, of which the trees have scores of one alone."""

    labels: np.ndarray
    own: int
    base: np.ndarray
    probable: bool  #: the weights are parts of one, not to both sides of zero
    post_transform: str

    def __call__(self, scores: np.ndarray) -> _Labels:
        score = scores[:, self.own]
        if len(self.base):
            score = score + self.base[-1]
        above = score > (0.5 if self.probable else 0)
        if self.post_transform == "LOGISTIC":
            both = _logistic(np.stack([-score, score], 1))
        else:  # onnxruntime leaves one score as it is
            both = np.stack([1 - score if self.probable else -score, score], 1)
        return self.labels[above.astype(np.int64)], both.astype(np.float32)


def _numbers(given: list[float] | None, tensor: np.ndarray | None) -> np.ndarray:
    """In double precision; those of lists are float32 in the file."""
    return (
        np.array(given or [], np.float64) if tensor is None else tensor.ravel().astype(np.float64)
    )


def _table(x: np.ndarray) -> np.ndarray:
    if x.ndim not in (1, 2):
        raise ValueError(f"X has the shape {x.shape}, expected [rows, features]")
    return x if x.ndim == 2 else x[None]


def _transform(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    if kind not in _TRANSFORMS:
        raise FormatError(f"post_transform is {kind!r}, expected one of {', '.join(_TRANSFORMS)}")
    return _TRANSFORMS[kind]


def _logistic(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def _softmax(x: np.ndarray) -> np.ndarray:
    parts = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(parts / parts.sum(1, keepdims=True))


def _softmax_zero(x: np.ndarray) -> np.ndarray:
    """What is zero stays so."""
    parts = np.where(np.abs(x) > _ZERO, np.exp(x - x.max(1, keepdims=True)), 0)
    total = parts.sum(1, keepdims=True)
    return np.divide(parts, total, out=np.zeros_like(parts), where=total != 0)


_ZERO: Final = 1e-7  # onnxruntime's
_TRANSFORMS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "NONE": lambda x: x,
    "LOGISTIC": _logistic,
    "SOFTMAX": _softmax,
    "SOFTMAX_ZERO": _softmax_zero,
}
