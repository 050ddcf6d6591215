"""A normalization that the reference has and the model lacks, before a node or behind it.

Its scale and offset went with it. They are taken from weights that nothing in the model uses, or
fitted, one pair a channel, to what the reference knows of the value that is no longer made; the
variant then has to make the wrong value right, as any other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from vledge.model.definition import Node
from vledge.validation.diagnosis.suspects import Variant
from vledge.validation.reference.samples import Sample, places

__all__ = ["Missing", "missing_normalizations"]

_EPSILONS: Final = (1e-5, 1e-3, 1e-6, 1e-12)
FITTED: Final = 1e-5  # of the largest element: what a fit may leave
UNSCALED: Final = 1e-4  # from 1, of fitted scales: what is missing is the offset alone, a bias
LEAST_IN_CHANNEL: Final = 3  # elements, of which two make the scale and the offset
MOST_UNUSED: Final = 6  # tensors that nothing uses, tried as scale and offset


@dataclass
class Missing:
    """What is known where a normalization may be missing."""

    node: Node
    behind: bool  #: of the node's result; before it, of an input
    name: str  #: the value that is to be normalized
    runs: Sequence[np.ndarray]  #: the value in each run
    samples: Sequence[Sequence[Sample]]  #: what it may have become, each in the same runs
    unused: Mapping[str, np.ndarray]  #: weights that nothing in the model uses
    opset: int
    weighted: bool = False  #: whether the node has constants among its inputs


@dataclass(frozen=True)
class _Form:
    """One kind of normalization, less its scale and offset."""

    name: str
    axes: tuple[int, ...]  #: over which the mean square is taken; none: of stored statistics
    centred: bool
    epsilon: float
    channels: int  #: the axis that scale and offset lie on

    def of(self, x: np.ndarray) -> np.ndarray:
        if not self.axes:
            return x
        x = x - x.mean(self.axes, keepdims=True) if self.centred else x
        return np.asarray(x / np.sqrt((x**2).mean(self.axes, keepdims=True) + self.epsilon))

    def is_linear(self, runs: Sequence[np.ndarray]) -> bool:
        """Whether epsilon outweighs the runs, so that the form is a factor and no more."""
        return bool(self.axes) and all(
            (run.astype(np.float64) ** 2).mean(self.axes).max(initial=0) < self.epsilon
            for run in runs
        )

    @property
    def words(self) -> str:
        if not self.axes:
            return f"{self.name} over axis {self.channels}"
        over = f"over {'axis' if len(self.axes) == 1 else 'axes'} {', '.join(map(str, self.axes))}"
        return f"{self.name} {over}, epsilon {self.epsilon:.0e},"


def missing_normalizations(missing: Missing) -> Iterator[Variant]:
    """Variants with a normalization put in, those with known weights first."""
    example = missing.runs[0]
    if not all(isinstance(run, np.ndarray) for run in missing.runs):
        return  # a list of tensors, or a value that is absent
    if example.dtype.kind != "f" or not 2 <= example.ndim <= 5:
        return
    for form in _forms(example.ndim):
        if missing.behind and not form.axes and missing.weighted:
            continue  # any mistake in the node's own weights of a channel looks like that
        if form.is_linear(missing.runs):
            continue
        size = example.shape[form.channels]
        if form.axes:
            known = [a.reshape(-1) for a in missing.unused.values() if a.size == size]
            pairs = list(itertools.permutations(known[:MOST_UNUSED], 2))
            pairs += [(scale, np.zeros(size)) for scale in known[:MOST_UNUSED]]
            for scale, offset in [*pairs, (np.ones(size), np.zeros(size))]:
                yield _variant(missing, form, scale, offset)
        for samples in missing.samples:
            fitted = _fitted(form, missing.runs, samples)
            if fitted is not None:
                yield _variant(missing, form, *fitted)


def _forms(rank: int) -> Iterator[_Form]:
    last = rank - 1
    for epsilon in _EPSILONS:
        yield _Form("LayerNormalization", (last,), True, epsilon, last)
        yield _Form("RMSNormalization", (last,), False, epsilon, last)
        if rank > 2:
            yield _Form("InstanceNormalization", tuple(range(2, rank)), True, epsilon, 1)
    yield _Form("BatchNormalization", (), False, 0.0, 1)
    if rank > 2:
        yield _Form("BatchNormalization", (), False, 0.0, last)


def _fitted(
    form: _Form, runs: Sequence[np.ndarray], samples: Sequence[Sample]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The scale and offset of each channel that make the samples of the runs, if some do."""
    if any(run.shape != sample.shape for run, sample in zip(runs, samples, strict=True)):
        return None
    parts = []
    for run, sample in zip(runs, samples, strict=True):
        with np.errstate(all="ignore"):
            made = form.of(run.astype(np.float64)).reshape(-1)
        at = places(run.size, sample.most)
        parts.append((np.unravel_index(at, run.shape)[form.channels], made[at], sample.elements))
    channel, x, y = (np.concatenate(same) for same in zip(*parts, strict=True))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    size = runs[0].shape[form.channels]
    count = np.bincount(channel, minlength=size)
    if count.min() < LEAST_IN_CHANNEL or np.ptp(y) == 0:
        return None

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(channel, values, size) / count

    x_mean, y_mean = mean(x), mean(y)
    apart = x - x_mean[channel]
    variance = mean(apart**2)
    if not variance.min() > 0:
        return None
    scale = mean(apart * (y - y_mean[channel])) / variance
    offset = y_mean - scale * x_mean
    left = np.abs(scale[channel] * x + offset[channel] - y).max()
    return (scale, offset) if left <= FITTED * np.abs(y).max() else None


def _variant(missing: Missing, form: _Form, scale: np.ndarray, offset: np.ndarray) -> Variant:
    node, example = missing.node, missing.runs[0]
    result = next(filter(None, node.outputs))
    root = f"{result}.normalized"
    shape = [1] * example.ndim
    shape[form.channels] = -1
    constants = {
        f"{root}.scale": scale.astype(example.dtype).reshape(shape),
        f"{root}.offset": offset.astype(example.dtype).reshape(shape),
    }
    source, target = (f"{result}.bare", result) if missing.behind else (missing.name, root)
    chain: list[Node] = []

    def made(kind: str, inputs: list[str], end: str, **attributes: object) -> str:
        chain.append(Node(kind, inputs, [end], dict(attributes)))
        return end

    def mean(name: str, end: str) -> str:
        axes = list(form.axes)
        if missing.opset < 18:
            return made("ReduceMean", [name], end, axes=axes, keepdims=1)
        constants[f"{root}.axes"] = np.array(axes, np.int64)
        return made("ReduceMean", [name, f"{root}.axes"], end, keepdims=1)

    value = source
    if form.axes:
        constants[f"{root}.epsilon"] = np.array(form.epsilon, example.dtype)
        if form.centred:
            value = made("Sub", [value, mean(value, f"{root}.mean")], f"{root}.centred")
        square = made("Mul", [value, value], f"{root}.square")
        power = made("Add", [mean(square, f"{root}.power"), f"{root}.epsilon"], f"{root}.sum")
        value = made("Div", [value, made("Sqrt", [power], f"{root}.size")], f"{root}.unit")
    value = made("Mul", [value, f"{root}.scale"], f"{root}.scaled")
    made("Add", [value, f"{root}.offset"], target)
    words, suspect = form.words, "missing normalization"
    if not form.axes and np.abs(scale - 1).max() <= UNSCALED:
        words, suspect = f"a bias along axis {form.channels}", "missing bias"
    if missing.behind:
        outputs = [source if name == result else name for name in node.outputs]
        nodes = [replace(node, outputs=outputs), *chain]
        text = f"{words} behind it is missing"
    else:
        inputs = [root if name == missing.name else name for name in node.inputs]
        nodes = [*chain, replace(node, inputs=inputs)]
        text = f"{words} of {missing.name} before it is missing"
    return Variant(suspect, text, nodes, constants)
