"""Decision trees as arrays, checked once: where a row of features ends, and what it gets.

All trees are walked at once, a level at a time: a leaf is its own child, so that rows that have
arrived stay there. `packed` is the same for the kernel, which walks them one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.pieces import PIECE, spans

__all__ = ["Trees"]

_Ints = Sequence[int]
_COMPARISONS: Final = {
    "BRANCH_LEQ": np.less_equal,
    "BRANCH_LT": np.less,
    "BRANCH_GTE": np.greater_equal,
    "BRANCH_GT": np.greater,
    "BRANCH_EQ": np.equal,
    "BRANCH_NEQ": np.not_equal,
}
_LEAF: Final = "LEAF"
_MOST: Final = 2**31 - 1  # features and targets: the kernel has their numbers in 32 bits
_NODE: Final = np.dtype(
    [("split", "f4"), ("feature", "i4"), ("children", "i4", 2), ("strict", "i4"), ("missing", "i4")]
)


class Trees:
    """``nodes`` are each node's tree, number, feature, and the numbers of its children where its
    comparison is true and where it is not; ``ends`` the tree, number and target of each weight of a
    leaf: columns, as ONNX's attributes are.

    Raises FormatError for what are no trees.
    """

    def __init__(
        self,
        nodes: tuple[_Ints, _Ints, _Ints, _Ints, _Ints],
        splits: np.ndarray,
        modes: Sequence[str],
        missing: _Ints,
        ends: tuple[_Ints, _Ints, _Ints],
        weights: np.ndarray,
        targets: int,
    ) -> None:
        tree, number, feature, on_true, on_false = (_whole(column) for column in nodes)
        count = len(tree)
        lengths = {len(column) for column in (number, feature, on_true, on_false, splits, modes)}
        if lengths != {count} or len(missing) not in (0, count) or not count:
            raise FormatError(f"attributes of {count} nodes are of {sorted(lengths)} numbers")
        if not 1 <= targets <= _MOST:
            raise FormatError(f"there are {targets} targets, expected 1 to {_MOST}")
        unknown = sorted(set(modes) - {*_COMPARISONS, _LEAF})
        if unknown:
            raise FormatError(f"nodes_modes has {unknown[0]!r}, which is no mode")
        places = {key: k for k, key in enumerate(zip(tree.tolist(), number.tolist(), strict=True))}
        if len(places) != count:
            raise FormatError("two nodes of a tree have the same number")
        leaf = np.array([mode == _LEAF for mode in modes])
        own = np.arange(count)
        self._children = np.stack(
            [
                np.where(leaf, own, _places(places, tree, children, leaf))
                for children in (on_false, on_true)
            ]
        )
        self.roots, self._depth = _walked(self._children, leaf)
        if ((feature < 0) | (feature >= _MOST))[~leaf].any():
            raise FormatError(f"nodes_featureids has numbers outside of 0 to {_MOST - 1}")
        self._features = np.where(leaf, 0, feature)
        self.columns = int(self._features.max()) + 1  # that a row needs to have
        self._splits = splits  # of their own type: float32 of lists, float64 of some tensors
        self._modes = [
            (_COMPARISONS[mode], np.array([own == mode for own in modes]))
            for mode in sorted(set(modes) - {_LEAF})
        ]
        self._missing = np.array(missing, bool) if any(missing) else None
        self.targets = targets
        self._set_weights(places, ends, weights, count)

    def _set_weights(
        self,
        places: dict[tuple[int, int], int],
        ends: tuple[_Ints, _Ints, _Ints],
        weights: np.ndarray,
        count: int,
    ) -> None:
        if {len(column) for column in ends} != {len(weights)}:
            raise FormatError(f"there are {len(weights)} weights for {len(ends[0])} leaves")
        try:
            at = np.array([places[key] for key in zip(*ends[:2], strict=True)], np.int64)
        except KeyError as error:
            raise FormatError(f"a weight is of the tree and node {error}, which is none") from None
        target = _whole(ends[2])
        if target.size and (target.min() < 0 or target.max() >= self.targets):
            raise FormatError(f"weights are of targets outside of the {self.targets}")
        order = np.argsort(at, kind="stable")
        self._weights, self._weight_targets = weights[order], target[order]
        self._counts = np.bincount(at, minlength=count)
        self._starts = np.cumsum(self._counts) - self._counts
        self._most = int(self._counts.max(initial=0))

    def packed(self) -> list[np.ndarray] | None:
        """Nodes, roots, weights and their targets for the kernel, of which the first is laid out as
        its `vl_tree_node`; None for comparisons that it has not, and for splits that are no numbers
        of its type."""
        if any(compare in (np.equal, np.not_equal) for compare, _ in self._modes):
            return None
        # no branch is its own child
        leaf = (self._children == np.arange(len(self._features))).all(0)
        splits = self._splits[~leaf]
        if not np.isfinite(splits).all() or (splits != splits.astype(np.float32)).any():
            return None
        nodes = np.zeros(len(leaf), _NODE)
        nodes["split"] = self._splits
        nodes["feature"] = np.where(leaf, -1, self._features)
        ends = np.stack([self._starts, self._starts + self._counts], 1)
        nodes["children"] = np.where(leaf[:, None], ends, self._children.T)
        nodes["missing"] = 0 if self._missing is None else self._missing
        for compare, own in self._modes:
            nodes["strict"][own] = compare in (np.less, np.greater_equal)
            if compare in (np.greater, np.greater_equal):  # the opposite of the other comparison
                at = own & ~leaf
                nodes["children"][at] = nodes["children"][at, ::-1]
                nodes["missing"][at] = 1 - nodes["missing"][at]
        targets = self._weight_targets.astype(np.int32)
        return [nodes, self.roots.astype(np.int32), self._weights, targets]

    def leaves(self, x: np.ndarray) -> np.ndarray:
        """[rows, trees]: the node that each row of x ends in."""
        node = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        rows = np.arange(len(x))[:, None]
        for _ in range(self._depth):
            value = x[rows, self._features[node]]
            split = self._splits[node]
            (compare, _), *others = self._modes
            true = compare(value, split)
            for compare, own in others:
                np.copyto(true, compare(value, split), where=own[node])
            if self._missing is not None:
                true |= np.isnan(value) & self._missing[node]
            node = self._children[true.astype(np.intp), node]
        return node

    def scores(self, x: np.ndarray, aggregate: str) -> np.ndarray:
        """[rows, targets]: what the leaves of all trees come to, in double precision."""
        if x.shape[1] < self.columns:
            raise ValueError(f"X has {x.shape[1]} features, the trees ask for {self.columns}")
        if x.dtype.kind != "f":
            x = x.astype(np.float32)
        result = np.empty((len(x), self.targets))
        for piece in spans(len(x), PIECE // (len(self.roots) * self.targets)):
            result[piece] = self._scores(self.leaves(x[piece]), aggregate)
        return result

    def _scores(self, leaves: np.ndarray, aggregate: str) -> np.ndarray:
        begin = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
        combine = {"MIN": np.minimum, "MAX": np.maximum}.get(aggregate, np.add)
        result = np.full((len(leaves), self.targets), begin)
        counts, starts = self._counts[leaves], self._starts[leaves]
        for k in range(self._most):
            row, tree = np.nonzero(counts > k)
            entry = starts[row, tree] + k
            combine.at(result, (row, self._weight_targets[entry]), self._weights[entry])
        if aggregate == "AVERAGE":
            result /= len(self.roots)
        return np.where(np.isinf(result) & np.isinf(begin), 0, result)


def _whole(column: _Ints) -> np.ndarray:
    return np.array(column, np.int64)


def _places(
    places: dict[tuple[int, int], int], tree: np.ndarray, children: np.ndarray, leaf: np.ndarray
) -> np.ndarray:
    """Of each branch's child among all nodes."""
    keys = zip(tree.tolist(), children.tolist(), strict=True)
    try:
        found = [0 if own else places[key] for own, key in zip(leaf, keys, strict=True)]
        return np.array(found, np.int64)
    except KeyError as error:
        raise FormatError(f"a child is the tree and node {error}, which is none") from None


def _walked(children: np.ndarray, leaf: np.ndarray) -> tuple[np.ndarray, int]:
    """The roots, and how many levels lie below them; every node has to lie below one, once."""
    count = len(leaf)
    parents = np.bincount(children[:, ~leaf].ravel(), minlength=count)
    if (parents > 1).any():
        raise FormatError("a node is the child of several")
    roots = np.flatnonzero(parents == 0)
    level, depth, seen = roots, 0, len(roots)
    while True:
        level = level[~leaf[level]]
        if not len(level):
            break
        level = children[:, level].ravel()
        depth, seen = depth + 1, seen + len(level)
    if seen != count:
        raise FormatError("nodes are children of one another in a circle")
    return roots, depth
