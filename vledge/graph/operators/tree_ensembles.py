"""ai.onnx.ml's TreeEnsembleRegressor and TreeEnsembleClassifier: forests and boosted trees.

What the leaves come to is an operator of our own (`graph/trees.py`), and what is made of that is
written in nodes. Source: Operators-ml.md; where the trees have weights of one of two classes,
labels and scores are onnxruntime's, as skl2onnx's exports count on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.functions import Writer, function
from vledge.graph.operators.machine_learning import check_transform, transformed
from vledge.graph.registry import Context, prepared_operator
from vledge.graph.trees import Trees
from vledge.model.definition import INTERNAL_DOMAIN

_DOMAIN: Final = "ai.onnx.ml"


@function("TreeEnsembleRegressor", since=1, domain=_DOMAIN)
def tree_ensemble_regressor(
    to: Writer,
    x: str,
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
) -> str:
    check_transform(post_transform, ("PROBIT",))
    if aggregate_function not in ("SUM", "AVERAGE", "MIN", "MAX"):
        raise FormatError(
            f"aggregate_function is {aggregate_function!r}, expected SUM, AVERAGE, MIN or MAX"
        )
    trees = Trees(
        (nodes_treeids, nodes_nodeids, nodes_featureids, nodes_truenodeids, nodes_falsenodeids),
        _splits(nodes_values, nodes_values_as_tensor),
        nodes_modes,
        nodes_missing_value_tracks_true or [],
        (target_treeids, target_nodeids, target_ids),
        _numbers(target_weights, target_weights_as_tensor),
        n_targets,
    )
    base = _base(base_values, base_values_as_tensor, n_targets)
    scores = _scores(to, x, trees, aggregate_function)
    if len(base):
        scores = to.add("Add", [scores, to.constant(base, np.float32)])
    return _transformed(to, scores, post_transform)


@function("TreeEnsembleClassifier", since=1, domain=_DOMAIN)
def tree_ensemble_classifier(
    to: Writer,
    x: str,
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
) -> tuple[str, str]:
    check_transform(post_transform, ("PROBIT",))
    labels = (
        np.array(classlabels_strings, object)
        if classlabels_strings
        else np.array(classlabels_int64s or [], np.int64)
    )
    if not len(labels):
        raise FormatError("there are no class labels")
    trees = Trees(
        (nodes_treeids, nodes_nodeids, nodes_featureids, nodes_truenodeids, nodes_falsenodeids),
        _splits(nodes_values, nodes_values_as_tensor),
        nodes_modes,
        nodes_missing_value_tracks_true or [],
        (class_treeids, class_nodeids, class_ids),
        weights := _numbers(class_weights, class_weights_as_tensor),
        len(labels),
    )
    base = _base(base_values, base_values_as_tensor, len(labels))
    scores = _scores(to, x, trees, "SUM")
    if len(labels) == 2 and len(set(class_ids)) == 1:
        probable = bool((weights >= 0).all())
        at, scores = _of_two(to, scores, class_ids[0], base[-1:], probable, post_transform)
    else:
        if len(base):
            scores = to.add("Add", [scores, to.constant(base, np.float32)])
        at = to.add("ArgMax", [scores], axis=1, keepdims=0)
        scores = _transformed(to, scores, post_transform)
    return to.add("Gather", [to.constant(labels, labels.dtype), at]), scores


def _of_two(
    to: Writer, scores: str, own: int, base: np.ndarray, probable: bool, kind: str
) -> tuple[str, str]:
    """The places of labels, and both scores, where the trees have those of one class alone.
    ``probable``: they are parts of one, not to both sides of zero."""
    score = to.sliced(scores, 1, own, own + 1)
    if len(base):
        score = to.add("Add", [score, to.constant(base, np.float32)])
    above = to.add("Greater", [score, to.constant(0.5 if probable else 0, np.float32)])
    other = to.add("Neg", [score])
    if kind == "LOGISTIC":
        both = to.add("Sigmoid", [to.add("Concat", [other, score], axis=1)])
    else:  # onnxruntime leaves one score as it is
        if probable:
            other = to.add("Sub", [to.constant(1, np.float32), score])
        both = to.add("Concat", [other, score], axis=1)
    return to.reshaped(to.cast(above, np.int64), -1), both


def _scores(to: Writer, x: str, trees: Trees, aggregate: str) -> str:
    """[rows, targets]: what the leaves of all trees come to."""
    if to.dtype(x) != np.float64:
        x = to.cast(x, np.float32)
    if to.rank(to.node.inputs[0]) == 1:
        x = to.reshaped(x, 1, -1)
    return to.add("TreeScores", [x], INTERNAL_DOMAIN, trees=trees, aggregate=aggregate)


@prepared_operator("TreeScores", since=1, domain=INTERNAL_DOMAIN)
def tree_scores(
    context: Context, *, trees: Trees, aggregate: str
) -> Callable[[np.ndarray], np.ndarray]:
    def run(x: np.ndarray) -> np.ndarray:
        if x.ndim != 2:
            raise ValueError(f"X has the shape {x.shape}, expected [rows, features]")
        return trees.scores(x, aggregate).astype(np.float32)

    return run


def _splits(given: list[float] | None, tensor: np.ndarray | None) -> np.ndarray:
    """Of the type in which features are compared with them: features of double precision may lie
    between two neighbouring float32s."""
    return np.array(given or [], np.float32) if tensor is None else tensor.ravel()


def _numbers(given: list[float] | None, tensor: np.ndarray | None) -> np.ndarray:
    """In double precision; those of lists are float32 in the file."""
    return (
        np.array(given or [], np.float64) if tensor is None else tensor.ravel().astype(np.float64)
    )


def _base(given: list[float] | None, tensor: np.ndarray | None, targets: int) -> np.ndarray:
    base = _numbers(given, tensor)
    if len(base) not in (0, 1, targets):
        raise FormatError(f"there are {len(base)} base_values for {targets} targets")
    return base


def _transformed(to: Writer, scores: str, kind: str) -> str:
    if kind == "SOFTMAX_ZERO":
        raise UnsupportedError("post_transform=SOFTMAX_ZERO of several scores is not supported")
    return transformed(to, scores, kind)
